"""Warm processes that train the runs of a folder, one run after the other.

Starting Python and torch costs seconds, a small run less; so a process stays for many runs and
keeps the data set it used last. A process that dies takes only its present run with it, and that
goes on from its last checkpoint.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from engine import verified
from engine.control import Desired
from engine.pool import ORPHANED, PASSING, Outcome, Passing, train_run
from engine.run import Run

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from engine.data.dataset import KeptDataset
    from engine.events import Event
    from engine.file_control import FileControl

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Terms:
    """What is the same for all runs of a process."""

    root: Path
    data_dir: Path
    side_by_side: int
    allow_inexact: bool


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    run: str | None = None
    """What it trains now."""


@dataclass(slots=True)
class Workers:
    """So many processes, started when they are needed; to be closed by ``with``.

    :ivar count: processes at most.
    :ivar root: folder of the runs.
    :ivar data_dir: where data sets are kept.
    :ivar allow_inexact: let runs go on that began with other versions, threads or devices.
    """

    count: int
    root: Path
    data_dir: Path
    allow_inexact: bool = False
    _workers: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the runs that are being trained."""
        return tuple(worker.run for worker in self._workers if worker.run is not None)

    @property
    def idle(self) -> int:
        """How many more runs can be given now."""
        return self.count - len(self.running)

    def give(self, run: str) -> None:
        """Let a run be trained, from its newest checkpoint if it has one.

        :param run: id of a run that is in the folder already.
        """
        for worker in [worker for worker in self._workers if worker.run is None]:
            try:
                worker.connection.send(run)
            except OSError:
                self._drop(worker)  # it died while nobody looked
            else:
                worker.run = run
                return
        worker = self._start()
        worker.run = run
        worker.connection.send(run)

    def tell(self, desired: Desired, reason: str = "") -> None:
        """Say what all runs that are being trained should do now.

        It goes to our processes, not into the runs' folders: another sweep may train a run that
        one of them only waits for.
        """
        for worker in self._workers:
            if worker.run is not None:
                with suppress(OSError):
                    worker.connection.send((desired, reason))

    def wait(self, seconds: float) -> list[Outcome]:
        """What came to an end, at once if anything did, else within so many seconds."""
        by_sign = {worker.connection: worker for worker in self._workers}
        outcomes: list[Outcome] = []
        for sign in wait(list(by_sign), timeout=seconds):
            worker = by_sign[sign]  # type: ignore[index]
            try:
                outcome: Outcome = worker.connection.recv()
            except (EOFError, OSError):
                self._drop(worker)
                if worker.run is not None:
                    text = f"its process ended with code {worker.process.exitcode}"
                    outcomes.append(Outcome(worker.run, "died", text))
            else:
                outcomes.append(outcome)
                if outcome.kind not in PASSING:
                    worker.run = None
        return outcomes

    def close(self) -> None:
        """Send all processes away; one that still trains stops after its step, its state kept."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    def _drop(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join()
        self._workers.remove(worker)

    def _start(self) -> _Worker:
        # spawned: a forked child would hold the locks of this process
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        terms = _Terms(self.root, self.data_dir, self.count, self.allow_inexact)
        process = context.Process(
            target=_serve,
            args=(theirs, terms, verified.known()),
            name="proxprop-worker",
        )
        # an interrupt goes to all processes of a terminal, and the child can not ignore it yet;
        # what is blocked here is blocked there (starting the tracker would unblock it)
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker


class _Told:
    """What a run should do: the word left in its folder, and that of the giver of runs.

    Who wants more of a stop wins; the giver's end is a stop.
    """

    def __init__(self, control: FileControl, connection: Connection) -> None:
        self._control = control
        self._connection = connection
        self._next_look = 0.0
        self._word = Desired.RUNNING

    def desired(self) -> Desired:
        """What the run should do now."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._listen()
        desired = self._control.desired()
        return self._word if desired is Desired.RUNNING else desired

    def stop_reason(self) -> str:
        """Why it should stop."""
        return self._control.stop_reason()

    def _listen(self) -> None:
        try:
            while self._connection.poll():
                self._word, reason = self._connection.recv()
                if self._word is Desired.STOPPED:
                    self._control.request_stop(reason or "its sweep was stopped")
        except (EOFError, OSError):
            self._control.request_stop(ORPHANED)


def _serve(connection: Connection, terms: _Terms, files: frozenset[str]) -> None:
    """The life of a process.

    :param files: marks of those that need not be verified again.
    """
    verified.add(files)
    # who gives the runs decides what an interrupt means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from engine.data.dataset import KeptDataset

    kept = KeptDataset()
    while True:
        try:
            given = connection.recv()
        except (EOFError, OSError):
            return
        if not isinstance(given, str):
            continue  # meant for a run that has ended meanwhile
        outcome = _train(Run(terms.root / given), terms, kept, connection)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            connection.send(outcome)
        except OSError:
            return


def _train(run: Run, terms: _Terms, kept: KeptDataset, connection: Connection) -> Outcome:
    from engine.events import Paused, Unpaused
    from engine.file_control import FileControl
    from engine.session import Sitting

    control = FileControl(run)
    signal.signal(signal.SIGTERM, lambda *_: control.request_stop("SIGTERM"))

    def listen(event: Event) -> None:
        if isinstance(event, Paused | Unpaused):
            with suppress(OSError):
                kind: Passing = "held" if isinstance(event, Paused) else "freed"
                connection.send(Outcome(run.id, kind))

    sitting = Sitting(
        control=_Told(control, connection),
        listener=listen,
        data_dir=terms.data_dir,
        load=kept.load,
        side_by_side=terms.side_by_side,
        allow_inexact=terms.allow_inexact,
    )
    return train_run(run, sitting)
