"""Warm processes that train the runs of a folder, one run after the other.

Starting Python and torch costs seconds, a small run less; so a process stays for many runs and
keeps the data set it used last. A process that dies takes only its present run with it, and that
goes on from its last checkpoint.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.errors import BusyError, ProxPropError
from engine.run import Run

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from engine.control import Desired
    from engine.data.dataset import KeptDataset
    from engine.file_control import FileControl

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run that was given to a process; how it ended is in its store.

    :ivar kind: ``ended``: training came to some end; ``busy``: another process has the run;
        ``failed``: an error, said in ``text``; ``died``: the process is gone.
    """

    run: str
    kind: Literal["ended", "busy", "failed", "died"]
    text: str = ""


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
    """

    count: int
    root: Path
    data_dir: Path
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
        worker = next((worker for worker in self._workers if worker.run is None), None)
        if worker is None:
            worker = self._start()
        worker.run = run
        worker.connection.send(run)

    def wait(self, seconds: float) -> list[Outcome]:
        """What came to an end, at once if anything did, else within so many seconds."""
        by_sign = {worker.connection: worker for worker in self._workers}
        outcomes: list[Outcome] = []
        for sign in wait(list(by_sign), timeout=seconds):
            worker = by_sign[sign]  # type: ignore[index]
            try:
                outcomes.append(worker.connection.recv())
            except (EOFError, OSError):
                worker.process.join()
                self._workers.remove(worker)
                worker.connection.close()
                if worker.run is not None:
                    text = f"its process ended with code {worker.process.exitcode}"
                    outcomes.append(Outcome(worker.run, "died", text))
            else:
                worker.run = None
        return outcomes

    def close(self) -> None:
        """Send all processes away; one that still trains stops after its step, its state kept."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    def _start(self) -> _Worker:
        # spawned: a forked child would hold the locks of this process
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.root, self.data_dir), name="proxprop-worker"
        )
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker


class _Orphanable:
    """The control of a run, which also stops it when the giver of runs is gone."""

    def __init__(self, control: FileControl, connection: Connection) -> None:
        self._control = control
        self._connection = connection
        self._next_look = 0.0

    def desired(self) -> Desired:
        """What the run should do now."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            # nothing is sent to a worker at work: what can be read is the end
            if self._connection.poll():
                self._control.request_stop("its sweep ended")
        return self._control.desired()

    def stop_reason(self) -> str:
        """Why it should stop."""
        return self._control.stop_reason()


def _serve(connection: Connection, root: Path, data_dir: Path) -> None:
    """The life of a process."""
    # an interrupt goes to all processes of a terminal; who gives the runs decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from engine.data.dataset import KeptDataset

    kept = KeptDataset()
    while True:
        try:
            id = connection.recv()
        except (EOFError, OSError):
            return
        outcome = _train(Run(root / id), data_dir, kept, connection)
        try:
            connection.send(outcome)
        except OSError:
            return


def _train(run: Run, data_dir: Path, kept: KeptDataset, connection: Connection) -> Outcome:
    from engine.file_control import FileControl
    from engine.session import Sitting, sit

    control = FileControl(run)
    signal.signal(signal.SIGTERM, lambda *_: control.request_stop("SIGTERM"))
    sitting = Sitting(
        control=_Orphanable(control, connection),
        listener=lambda event: None,
        data_dir=data_dir,
        load=kept.load,
    )
    try:
        sit(run, sitting)
    except BusyError as error:
        return Outcome(run.id, "busy", str(error))
    except ProxPropError as error:
        return Outcome(run.id, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - one run's failure must not end the others
        return Outcome(run.id, "failed", f"{type(error).__name__}: {error}")
    return Outcome(run.id, "ended")
