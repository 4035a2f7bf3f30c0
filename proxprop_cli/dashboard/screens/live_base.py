"""What the parts of the live screen share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.screen import Screen

from proxprop_cli.dashboard.views import Member, RunView

if TYPE_CHECKING:
    from engine.run import Run
    from proxprop_cli.dashboard.poller import Poller

PANES = ("loss", "accuracy", "layers", "solver", "log")
"""Ids of the panes, in the order of their numbers."""
LOSSES = ("train_loss", "val_loss", "batch_loss")
"""By which several runs can be compared."""


class RunsScreen(Screen[None]):
    """A screen on some runs.

    :ivar members: those runs.
    :ivar views: what is known of them.
    :ivar axis: which of the x axes is drawn against.
    :ivar metric: which loss several runs are compared by.
    :ivar smoothing: which degree of smoothing.
    :ivar banded: whether the seeds of a row are drawn as one, their mean and their range.
    """

    def __init__(self, members: tuple[Member, ...]) -> None:
        super().__init__()
        self.members = members
        self.views: tuple[RunView, ...] = ()
        self.axis = 0
        self.metric = LOSSES[0]
        self.smoothing = 0
        self.banded = True
        self.poller: Poller | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those that are shown."""
        return tuple(member.run for member in self.members)

    @property
    def live(self) -> list[RunView]:
        """Those that can be paused or stopped."""
        return [view for view in self.views if view.is_live]

    @property
    def several(self) -> bool:
        """Whether runs are drawn over one another."""
        return len(self.members) > 1

    @property
    def has_classes(self) -> bool:
        """Whether any of the runs has accuracies; also before that is known."""
        return not self.views or any(view.has_classes for view in self.views)

    @property
    def autoencoders(self) -> list[RunView]:
        """Those that leave reconstructions."""
        return [view for view in self.views if view.is_known and not view.has_classes]

    @property
    def are_known(self) -> bool:
        """Whether all of them were read."""
        return bool(self.views) and all(view.is_known for view in self.views)

    @property
    def has_rows(self) -> bool:
        """Whether there are seeds to be drawn as one."""
        return self.several and any(member.place is not None for member in self.members)

    def why_not(self, action: str) -> str:
        """Why an action is not for these runs, whatever they do; else nothing."""
        match action:
            case "band" if not self.has_rows:
                return "no seeds of a row here"
            case "diagnose" if self.several:
                return "conditioning: one run at a time"
            case "images" if not self.autoencoders:
                return "no autoencoder here"
            case "metric" if not self.several:
                return "only one run here"
        return ""
