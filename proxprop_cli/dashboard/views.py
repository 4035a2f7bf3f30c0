"""What the dashboard knows of a run at one moment: frozen, made off the screen's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.run import WAITING_FOR_ROOM

if TYPE_CHECKING:
    from engine.buckets import Buckets
    from engine.events import SolverTrace
    from engine.run import Run

LIVE = ("running", "paused", "starting")
"""States in which a process has the run, or is about to."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that happened.

    :ivar time: seconds since the epoch.
    :ivar grave: whether it should catch the eye.
    """

    time: float
    step: int
    text: str
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands in a sweep; runs of one row differ by their seed only.

    :ivar row: what to call the row.
    :ivar row_number: of the row, from 0.
    :ivar number: of the run.
    """

    row: str
    seed: int
    row_number: int
    number: int


@dataclass(frozen=True, slots=True)
class Member:
    """A run that is shown.

    :ivar place: in a sweep, where it is shown as a part of one.
    """

    run: Run
    place: Place | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunView:
    """One run.

    :ivar place: where it stands in the sweep it is shown as a part of, if any.
    :ivar config: the brief of its configuration (:func:`engine.config.brief`).
    :ivar status: ``starting``, ``running``, ``paused``, ``finished``, ``stopped``, ``diverged``,
        ``interrupted``, ``unreadable`` or ``deleted``.
    :ivar wanted: what a person asked for and the trainer has not done yet, such as ``pausing``.
    :ivar epoch: fractional epochs trained.
    :ivar rate: samples a second of training, of late while it runs and overall else.
    :ivar eta: seconds of training that are left.
    :ivar work_per_step: multiplications of a step in units of BackProp's, on the average.
    :ivar has_trainer: whether a process has it, or is about to.
    :ivar metrics: latest evaluation.
    :ivar series: decimated metrics by key.
    :ivar traces: what the solvers did in the latest traced step, a layer each.
    :ivar fallbacks: solver failures by layer.
    :ivar log: what happened, oldest first.
    :ivar diverged: step and cause.
    :ivar last_words: of its trainer, where that is gone.
    :ivar short_of_room: whether its trainer waits for room on the disk.
    :ivar problem: why it can not be read.
    """

    id: str
    place: Place | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    status: str = "starting"
    has_trainer: bool = False
    wanted: str = ""
    step: int = 0
    epoch: float = 0.0
    steps_per_epoch: int | None = None
    rate: float | None = None
    eta: float | None = None
    work_per_step: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Buckets] = field(default_factory=dict)
    traces: tuple[SolverTrace, ...] = ()
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    log: tuple[LogLine, ...] = ()
    diverged: tuple[int, str] | None = None
    last_words: str = ""
    short_of_room: bool = False
    problem: str = ""

    @property
    def word(self) -> str:
        """How it is, as people are told."""
        return WAITING_FOR_ROOM if self.short_of_room else self.status

    @property
    def is_known(self) -> bool:
        """Whether it was looked at."""
        return bool(self.config or self.problem)

    @property
    def is_live(self) -> bool:
        """Whether it can be paused or stopped."""
        return self.status in LIVE and self.has_trainer

    @property
    def has_classes(self) -> bool:
        """Whether it has accuracies: all networks but autoencoders do."""
        return self.config.get("model") != "autoencoder"

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.config.get("method", "?"))

    @property
    def titles(self) -> tuple[str, ...]:
        """``id · name or preset · method · tau 1 · tau_theta 0.05``, and the same in less room:
        without the last, then without the second."""
        config = self.config
        if not config:
            return (self.id,)
        what = str(config.get("name") or config.get("preset") or config.get("data"))
        sizes = [
            f"{key} {config[key]:g}" for key in ("tau", "tau_theta") if config.get(key) is not None
        ]
        least = [self.method, *sizes[:1]]
        parts = ([self.id, what, self.method, *sizes], [self.id, what, *least], [self.id, *least])
        return tuple(" · ".join(found) for found in parts)

    @property
    def short(self) -> str:
        """What tells it from other runs in a legend: ``exact tau 1 · ab3dcd2e``, or ``exact seed
        0`` in a sweep."""
        if self.place is not None:
            return f"{self.place.row} seed {self.place.seed}"
        tau = self.config.get("tau")
        size = "" if tau is None else f" tau {tau:g}"
        what = str(self.config.get("name") or f"{self.method}{size}")
        return f"{what} · {self.id[-8:]}"


def series_of(views: Sequence[RunView], *, banded: bool) -> list[int]:
    """The numbers that choose colour and glyph of each: in a sweep they stay when others join.

    :param banded: one for all runs of a row.
    """
    return [
        index if view.place is None else (view.place.row_number if banded else view.place.number)
        for index, view in enumerate(views)
    ]
