"""Training the runs of a sweep, each once, in processes side by side."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.cells import CellState, data_source, read_cell
from engine.control import Control, Desired
from engine.errors import ConfigError, ProxPropError, StorageError, StorageFullError
from engine.pool import ORPHANED, Outcome, Pool
from engine.room import Room
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from engine.sweep_plan import cell_config, is_same_run, schedule, thrifty
from engine.sweeps import Cell, Sweep

LOOK_SECONDS = 0.1
RETRY_SECONDS = 1.0
_DEATHS_ALLOWED = 2
"""Times a run's process may die without the run having come any further."""


@dataclass(frozen=True, slots=True)
class CellBegan:
    """A run is being trained."""

    cell: Cell
    resumed: bool


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A run came to an end, or was at its end already."""

    cell: Cell
    state: CellState
    kept: bool = False
    """Whether it was trained before."""


@dataclass(frozen=True, slots=True)
class CellFailed:
    """A run could not be trained, or was stopped before its end by somebody."""

    cell: Cell
    text: str


@dataclass(frozen=True, slots=True)
class CellWaits:
    """A run is paused by itself, trained by another process, or has no room or no machine; told
    once."""

    cell: Cell
    text: str


SweepEvent = CellBegan | CellEnded | CellFailed | CellWaits


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """How a sitting of a sweep came to its end.

    :ivar status: ``finished``: nothing is left to be trained.
    :ivar reason: who stopped it.
    :ivar failed: runs that could not be trained to their end.
    """

    status: Literal["finished", "stopped"]
    reason: str = ""
    failed: int = 0


class SweepRunner:
    """One sitting of a sweep; the caller holds its lock.

    Runs that are at their end are kept, those begun go on from their last checkpoint.

    :param root: folder of the runs.
    :param pool: the processes, of this machine or of many; closed when all is done.
    :param threads: CPU threads of a run whose configuration leaves them open.
    :param control: asked all the time what the sweep should do.
    :param listener: told what happens.
    :param look_seconds: time between two looks at control and pool.
    :param retry_seconds: time until what was lacking is looked for again: a run that another
        process trains, room on the disk.
    :raises ConfigError: a cell has no run of its own.
    """

    def __init__(
        self,
        root: Path,
        sweep: Sweep,
        *,
        pool: Pool,
        threads: int,
        control: Control,
        listener: Callable[[SweepEvent], None],
        look_seconds: float = LOOK_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._look_seconds = look_seconds
        self._retry_seconds = retry_seconds
        self._runs = Runs(root)
        self._sweep = sweep
        self._threads = threads
        self._control = control
        self._listener = listener
        self._pool = pool
        self._queue = deque(schedule(sweep.cells))
        self._by_run = {str(cell.run): cell for cell in sweep.cells if cell.run}
        if len(self._by_run) < len(sweep.cells):
            raise ConfigError(f"sweep {sweep.id}: expected a run of its own for every cell")
        self._deaths: dict[str, tuple[int, int]] = {}
        self._not_before: dict[str, float] = {}
        self._told_of: set[str] = set()
        self._returned: set[str] = set()
        self._room = Room(Run(root / sweep.id), look_seconds=retry_seconds)
        self._failed = 0
        self._data: dict[tuple[str, ...], str] = {}
        self._told = Desired.RUNNING

    def run(self) -> SweepEnded:
        """Train until all is done, or until told to stop.

        :raises StorageError: the folder can not be used.
        """
        with self._pool:
            while True:
                desired = self._control.desired()
                if desired is not self._told:
                    self._told = desired
                    self._pool.tell(desired, self._control.stop_reason())
                if desired is Desired.RUNNING:
                    self._fill()
                if not self._pool.running:
                    if desired is Desired.STOPPED:
                        return self._ended("stopped", self._control.stop_reason())
                    if not self._queue:
                        return self._ended("finished")
                outcomes = self._pool.wait(self._look_seconds)
                for outcome in outcomes:
                    self._take(outcome)
                if not outcomes and not self._pool.running:
                    time.sleep(self._look_seconds)

    def _ended(self, status: Literal["finished", "stopped"], reason: str = "") -> SweepEnded:
        self._room.found()
        return SweepEnded(status, reason, self._failed)

    def _fill(self) -> None:
        """Give runs to idle processes, as far as there are any and the disk has room."""
        if self._room.is_lacking():
            return
        for _ in range(len(self._queue)):
            if not self._pool.idle:
                return
            cell = self._queue.popleft()
            if self._not_before.get(str(cell.run), 0.0) > time.monotonic():
                self._queue.append(cell)
                continue
            try:
                self._begin(cell)
            except StorageFullError:
                self._await_room(cell)
                return
            except ProxPropError as error:
                self._fail(cell, str(error))
            else:
                self._room.found()

    def _begin(self, cell: Cell) -> None:
        run, resumed = self._run_of(cell)
        state = read_cell(self._runs.root, cell)
        if state.ended:
            self._tell_end(cell, state, kept=True)
            return
        if run.is_live():
            self._put_off(cell)
            return
        if run.desired() is not Desired.RUNNING:
            run.set_desired(Desired.RUNNING)
        self._pool.give(run.id)
        if run.id not in self._returned:  # else it was told of
            self._listener(CellBegan(cell, resumed))
        self._returned.discard(run.id)

    def _run_of(self, cell: Cell) -> tuple[Run, bool]:
        """The run of a cell, and whether it was there already.

        :raises ConfigError: what is there is another run.
        """
        config = cell_config(self._sweep, cell)
        run = Run(self._runs.root / str(cell.run))
        if not run.exists():
            # kept from now on: with other threads a run could not go on bit for bit
            threads = config.threads or self._threads
            labels = {"preset": config.preset or self._sweep.preset, "threads": threads}
            try:
                made = self._runs.create(thrifty(config).model_copy(update=labels), id=cell.run)
            except ConfigError:
                if not run.exists():  # else another sweep was faster
                    raise
            else:
                return made, False
        if not is_same_run(run.config(), config):
            raise ConfigError(f"run {run.id} is there already, with another configuration")
        return run, True

    def _put_off(self, cell: Cell) -> None:
        """Another process has the run: look again later."""
        self._not_before[str(cell.run)] = time.monotonic() + self._retry_seconds
        self._queue.append(cell)
        if str(cell.run) not in self._told_of:
            self._told_of.add(str(cell.run))
            self._listener(CellWaits(cell, "trained by another process; waiting for it"))

    def _await_room(self, cell: Cell) -> None:
        """The disk is full for one run, so for all: those that are left wait."""
        self._queue.appendleft(cell)
        if self._room.lacked():
            self._listener(CellWaits(cell, f"waiting for room on the disk of {self._runs.root}"))

    def _take(self, outcome: Outcome) -> None:
        cell = self._by_run[outcome.run]
        match outcome.kind:
            case "ended":
                self._end(cell, outcome)
            case "busy":
                self._put_off(cell)
            case "full":
                self._await_room(cell)
            case "died":
                self._try_again(cell, outcome.text)
            case "failed":
                self._fail(cell, outcome.text)
            case "returned":
                self._queue.appendleft(cell)
                self._returned.add(outcome.run)
                if outcome.text and outcome.text not in self._told_of:
                    self._told_of.add(outcome.text)
                    self._listener(CellWaits(cell, outcome.text))
            case "held" if self._told is Desired.RUNNING:
                text = f"paused by itself; 'proxprop resume {outcome.run}' lets it go on"
                self._listener(CellWaits(cell, text))
            case _:
                pass

    def _end(self, cell: Cell, outcome: Outcome) -> None:
        """Training came to an end; to its own, or was it stopped?"""
        if outcome.status == "stopped" and self._told is not Desired.STOPPED:
            if outcome.text in ("SIGTERM", ORPHANED):
                self._try_again(cell, f"its process was ended ({outcome.text})")
            else:
                self._fail(cell, f"stopped before its end ({outcome.text or 'by somebody'})")
            return
        self._tell_end(cell, read_cell(self._runs.root, cell))

    def _tell_end(self, cell: Cell, state: CellState, *, kept: bool = False) -> None:
        """A run that was trained on other data than those before is none of the sweep: somebody
        has changed the data meanwhile, or another machine has others."""
        expected = state.data
        if state.data:
            expected = self._data.setdefault(data_source(self._sweep, cell), state.data)
        if state.data == expected:
            self._listener(CellEnded(cell, state, kept))
        else:
            self._fail(
                cell,
                f"trained on other data (SHA-256 {state.data[:8]}…) than the runs before "
                f"({expected[:8]}…); the data were changed meanwhile, or differ between machines",
            )

    def _try_again(self, cell: Cell, text: str) -> None:
        """A machine may be taken away again and again; a run that kills its process gets no
        further."""
        run = str(cell.run)
        deaths, came_to = self._deaths.get(run, (0, -1))
        kept = _newest_checkpoint(self._runs.root / run)
        deaths = 1 if kept > came_to else deaths + 1
        self._deaths[run] = deaths, kept
        if deaths > _DEATHS_ALLOWED:
            self._fail(cell, text)
        else:
            self._queue.appendleft(cell)

    def _fail(self, cell: Cell, text: str) -> None:
        self._failed += 1
        self._listener(CellFailed(cell, text))


def _newest_checkpoint(folder: Path) -> int:
    """Its step; -1 where there is none, or none can be read."""
    try:
        with StoreReader(Run(folder).database) as reader:
            return max((row.step for row in reader.checkpoints()), default=-1)
    except StorageError:
        return -1
