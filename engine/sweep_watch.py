"""Looking at a sweep again and again, at the cost of what has changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.cells import WAITING, CellState, expected_brief, read_cell, with_one_data_set
from engine.errors import StorageError
from engine.locks import is_locked
from engine.run import Run
from engine.stability import Stability, summarize_sweep
from engine.store_opening import Mark, mark_of
from engine.sweeps import Cell, Sweep, load_sweep, sweep_file

_Signature = tuple[Mark | None, bool, bool]


@dataclass(frozen=True, slots=True)
class SweepLook:
    """A sweep at one moment."""

    sweep: Sweep
    grid: Stability
    states: tuple[CellState, ...] = ()
    """Of its runs, in the order of its cells."""


class SweepWatch:
    """Reads a run's store again only when its files or its lock have changed.

    To be used by one thread at a time.

    :param root: folder of the runs.
    :param id: of the sweep.
    """

    def __init__(self, root: Path, id: str) -> None:
        self._root = root
        self._id = id
        self._sweep: Sweep | None = None
        self._sweep_mark: Mark | None = None
        self._states: dict[str, tuple[_Signature, CellState]] = {}
        self.reads = 0
        """Stores that were read so far."""

    def look(self) -> SweepLook | None:
        """What there is now; None where nothing has changed since the last look.

        :raises ConfigError: there is no such sweep.
        :raises StorageError: its file can not be read.
        """
        # taken before what it stands for is read: a change meanwhile is seen the next time
        mark = mark_of(sweep_file(self._root, self._id))
        changed = self._sweep is None or mark != self._sweep_mark
        if self._sweep is None or changed:
            self._sweep = load_sweep(self._root, self._id)
            self._sweep_mark = mark
        before = self.reads
        read = [self._state(self._sweep, cell) for cell in self._sweep.cells]
        states = tuple(with_one_data_set(self._sweep, read))
        if not changed and self.reads == before:
            return None
        return SweepLook(self._sweep, summarize_sweep(self._sweep, states), states)

    def _state(self, sweep: Sweep, cell: Cell) -> CellState:
        if cell.run is None:
            return WAITING
        folder = self._root / cell.run
        signature = _signature(folder)
        known = self._states.get(cell.run)
        if known is not None and known[0] == signature:
            return known[1]
        self.reads += 1
        state = read_cell(self._root, cell, expected_brief(sweep, cell))
        self._states[cell.run] = signature, state
        return state


def _signature(folder: Path) -> _Signature:
    """Changes with every commit, when a process takes the run or lets go of it, and when that waits
    for room or goes on."""
    mark = mark_of(folder / "run.db")
    try:
        locked = is_locked(folder / "lock")
        waits = locked and Run(folder).is_waiting()
    except StorageError:
        locked = waits = False
    return mark, locked, waits
