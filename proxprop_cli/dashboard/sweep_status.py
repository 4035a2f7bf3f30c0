"""How a sweep is as a whole: whether a process trains it, how far it is, how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.cells import ENDED
from engine.control import Desired
from engine.run import WAITING_FOR_ROOM, Run
from engine.stability import CellSummary
from engine.sweep_watch import SweepLook, SweepWatch
from proxprop_cli.dashboard.run_status import START_SECONDS


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """A sweep at one moment.

    :ivar word: ``starting``, ``running``, ``paused``, ``finished``, ``stopped`` or
        ``interrupted``.
    :ivar wanted: what a person asked for and is not done yet, such as ``pausing``.
    :ivar live: whether a process trains it, so that it can be paused or stopped.
    :ivar runs: runs that are at their end, and all.
    :ivar cells: cells all runs of which are, and all.
    :ivar elapsed: seconds in which a run of it was being trained or paused.
    :ivar eta: seconds that are left.
    :ivar short_of_room: whether it waits for room on the disk.
    """

    word: str
    wanted: str = ""
    live: bool = False
    runs: tuple[int, int] = (0, 0)
    cells: tuple[int, int] = (0, 0)
    elapsed: int | None = None
    eta: int | None = None
    short_of_room: bool = False

    @property
    def said(self) -> str:
        """The word that people are told."""
        return WAITING_FOR_ROOM if self.short_of_room else self.word

    @property
    def runs_on(self) -> bool:
        """Whether it runs, or will once it has heard us."""
        return self.live and self.word != "paused" and self.wanted != "pausing"

    @property
    def waits(self) -> bool:
        """Whether runs are left, and nobody trains them."""
        return not self.live and self.word not in ("finished", "starting")


class Start:
    """Tells whether a folder's process is about to take it: between the wish that it runs and the
    lock lie some seconds. To be asked again and again."""

    def __init__(self, folder: Run) -> None:
        self._folder = folder
        self._heard: tuple[int, int, int] | None = None

    def look(self, now: float, *, live: bool) -> tuple[bool, float | None]:
        """Whether it is, and since when a person wants what is wanted.

        :param live: whether a process has the folder; what was wanted before that is heard.
        """
        request = self._folder.request_signature()
        since = request[1] / 1e9 if request is not None else None
        if live:
            self._heard = request
        fresh = since is not None and self._heard != request and abs(now - since) < START_SECONDS
        return fresh, since


class SweepFollower:
    """Looks at a sweep again and again. To be used by one thread at a time.

    :param root: folder of the runs.
    :param id: of the sweep.
    :param clock: seconds since the epoch.
    """

    def __init__(self, root: Path, id: str, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = Run(root / id)
        self._watch = SweepWatch(root, id)
        self._clock = clock
        self._look: SweepLook | None = None
        self._start = Start(self.folder)

    def look(self) -> tuple[SweepLook, SweepStatus]:
        """What there is now; the same look as before where no run has changed.

        :raises ConfigError: there is no such sweep.
        :raises StorageError: its file can not be read.
        """
        live = self.folder.is_live()
        self._look = self._watch.look() or self._look
        assert self._look is not None  # the first look always finds something, or raises
        now = self._clock()
        fresh, since = self._start.look(now, live=live)
        return self._look, self._status(self._look, live=live, fresh=fresh, since=since, now=now)

    def _status(
        self, look: SweepLook, *, live: bool, fresh: bool, since: float | None, now: float
    ) -> SweepStatus:
        cells = look.grid.cells.values()
        statuses = [status for cell in cells for status in cell.statuses]
        done = sum(status in ENDED for status in statuses)
        word, wanted = word_of(statuses, self.folder.desired(), live=live, fresh=fresh)
        waits = (WAITING_FOR_ROOM in cell.words for cell in cells)
        short_of_room = is_short_of_room(word, self.folder.is_waiting(), waits)
        root = self.folder.path.parent
        ended, running = [], []
        for cell in cells:
            spans = sorted(_spans(root, cell, now), key=lambda span: span[1])
            count = len(spans) - cell.statuses.count("running")  # those write last
            ended += spans[:count]
            running += [(made, now) for made, _ in spans[count:]]
        eta = None  # at the rate since it was last let run; processes start before training does
        is_training = live and word == "running" and not wanted and not short_of_room
        if is_training and since is not None:
            begin = min((made for made, _ in ended + running if made >= since), default=since)
            partly = sum(_part(cell) for cell in cells)
            units = sum(end >= begin for _, end in ended) + partly
            if units > 0 and now - begin >= 1:
                eta = (len(statuses) - done - partly) * (now - begin) / units
        return SweepStatus(
            word=word,
            wanted=wanted,
            live=live and word != "finished",
            runs=(done, len(statuses)),
            cells=(sum(is_done(cell) for cell in cells), len(cells)),
            elapsed=round(covered(ended + running)) if ended or running else None,
            eta=None if eta is None else round(eta),
            short_of_room=short_of_room,
        )


def is_done(cell: CellSummary) -> bool:
    """Whether all runs of a cell are at their end; those that were stopped can go on."""
    return all(status in ENDED for status in cell.statuses)


def is_short_of_room(word: str, waits: bool, runs_wait: Iterable[bool]) -> bool:
    """Whether a sweep waits for room on the disk.

    :param word: how it is.
    :param waits: whether it has none to make its next run.
    :param runs_wait: of its runs, whether they do.
    """
    return word == "running" and (waits or any(runs_wait))


def word_of(
    statuses: Sequence[str], desired: Desired, *, live: bool, fresh: bool
) -> tuple[str, str]:
    """How a sweep is in one word, and what a person wants that is not done yet.

    :param statuses: of its runs.
    :param live: whether a process trains it.
    :param fresh: whether one is about to.
    """
    if all(status in ENDED for status in statuses):
        return "finished", ""
    if live and desired is Desired.STOPPED:
        return "running", "stopping"
    if live and desired is Desired.PAUSED:
        return ("running", "pausing") if "running" in statuses else ("paused", "")
    if live:
        return "running", ""
    if desired is not Desired.RUNNING:
        return desired.value, ""
    return ("starting" if fresh else "interrupted"), ""


def _spans(root: Path, cell: CellSummary, now: float) -> list[tuple[float, float]]:
    """When its runs were made and last written; looking at files is enough for that."""
    found = []
    for id in cell.runs:
        run = Run(root / id)
        made, written = run.created, run.written_ns() / 1e9
        if written and made:
            found.append((min(made, now), min(written, now)))
    return found


def _part(cell: CellSummary) -> float:
    """How many runs the training of those that run comes to so far."""
    running = cell.statuses.count("running")
    return running * min(cell.epochs / cell.limit, 1.0) if running and cell.limit else 0.0


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of them lasts."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
