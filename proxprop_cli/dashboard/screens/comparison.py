"""A comparison: the curves of its variants over one another, runs joining as they are made."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from engine.sweep_watch import SweepLook
from proxprop_cli.dashboard.places import members_of
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.sweep_base import SweepScreen
from proxprop_cli.dashboard.widgets.run_header import RunHeader
from proxprop_cli.dashboard.widgets.sweep_title import sweep_title


class ComparisonScreen(LiveScreen, SweepScreen):
    """The live screen on the runs of a comparison; its keys are for the comparison as a whole.

    :param root: folder of the runs.
    :param sweep_id: which comparison.
    """

    def __init__(self, root: Path, sweep_id: str) -> None:
        super().__init__(())
        self.follow_sweep(root, sweep_id)

    @property
    def several(self) -> bool:
        """Whether runs are drawn over one another, which a single one is too before others are."""
        return True

    def on_mount(self) -> None:
        """Have the header tell of the comparison."""
        self.query_one("#header", RunHeader).caption = self._title

    def show_sweep(self, look: SweepLook | None) -> None:
        """Follow the runs that there are by now."""
        if look is not None:
            members = members_of(self._follower.folder, look)
            if members != self.members:
                self.members = members
                if self.poller is not None:
                    self.poller.members = members
                    self.poller.wake()
        self.query_one("#header", RunHeader).refresh()

    # the styles of the live screen want it to be the first base, so these are named
    training = SweepScreen.training
    want = SweepScreen.want

    def _title(self, width: int) -> Text:
        return sweep_title(
            self.look, self.status, self.problem, ["comparison"], width, hint=self.hint()
        )
