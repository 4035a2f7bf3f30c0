"""Events into the store, checkpoints onto the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from engine import checkpoint
from engine.atomic_files import PRIVATE_FOLDER, storage_errors
from engine.config import LogConfig
from engine.control import Control, Desired
from engine.errors import StorageFullError
from engine.events import (
    CheckpointDue,
    Diverged,
    EpochDone,
    Event,
    LadderClimbed,
    Paused,
    Reconstructed,
    RunEnded,
    RunStarted,
    SolverTrace,
    StepsDone,
    Unpaused,
    Warned,
)
from engine.own_files import CHECKPOINTS, is_own_file
from engine.restoring import origin_of
from engine.run import Run
from engine.store import StoreWriter
from engine.store_copy import remove_left_copies
from engine.store_reader import StoreReader
from engine.thinning import Fallbacks, keeps_trace, thin

_RETRY_SECONDS = 1.0
Listener = Callable[[Event], None]
T = TypeVar("T")


class Recorder:
    """Writes one run's events; the caller holds the run's lock.

    Where the disk is full, training waits until there is room, or until it is told to stop.

    :param snapshot: gives the trainer's state of this moment.
    :param keep: says how many checkpoints are kept, and which steps' metrics and traces.
    :param listener: told of warnings that come up here.
    """

    def __init__(
        self,
        run: Run,
        writer: StoreWriter,
        control: Control,
        snapshot: Callable[[], checkpoint.Snapshot],
        keep: LogConfig,
        listener: Listener,
    ) -> None:
        self._run = run
        self._writer = writer
        self._control = control
        self._snapshot = snapshot
        self._keep = keep.keep
        self._full_steps = keep.full_steps
        self._trace_every = keep.trace_every
        self._fallbacks = Fallbacks()
        self._keep_best = keep.keep_best
        self._listener = listener
        self._step = 0
        with StoreReader(run.database) as reader:
            self._kept = {row.step: row.best for row in reader.checkpoints()}
            self._origin = origin_of(reader.state())
        with storage_errors(run.checkpoints):
            run.checkpoints.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        self._remove_superseded()
        self._remove_strays()
        remove_left_copies(run.database)

    def record(self, event: Event) -> None:
        """Store an event durably, but for single steps' traces, which wait for the next block.

        :raises StorageError: the disk took nothing and the run was told to stop.
        """
        self._step = event.step if not isinstance(event, StepsDone) else event.steps[-1]
        match event:
            case StepsDone():
                kept = thin(event, self._full_steps)
                self._writer.append_block(kept.steps, kept.values)
                self._writer.set_state({"step": self._step})
            case EpochDone():
                metrics = dict(event.metrics)
                self._writer.append_metrics(event.step, metrics)
                self._writer.set_state(
                    {"step": event.step, "epoch": event.epoch, "metrics": metrics}
                )
            case Reconstructed():
                self._writer.add_reconstructions(event)
            case SolverTrace():
                if keeps_trace(event.step, self._trace_every, self._full_steps):
                    self._writer.append_traces([event])
                    self._writer.append_metrics(event.step, _trace_metrics(event))
                return
            case LadderClimbed():
                if self._fallbacks.add(event):
                    self._note_fallbacks()
            case CheckpointDue():
                self._note_fallbacks()
                self._keep_state(event)
            case RunStarted() | Unpaused():
                self._note(event, status="running")
            case Paused():
                self._note(event, status="paused")
            case Warned():
                self._note(event)
            case Diverged():
                self._note_fallbacks()
                self._note(event)
            case RunEnded():
                self._note_fallbacks()
                self._note(event, status=event.status, step=event.step, reason=event.reason)
        self._insist(self._writer.commit)

    def _note_fallbacks(self) -> None:
        for event in self._fallbacks.take(self._step):
            self._note(event)

    def _note(self, event: Event, **state: object) -> None:
        payload = {key: value for key, value in asdict(event).items() if key != "step"}
        self._writer.append_event(self._step, type(event).__name__, payload)
        if isinstance(event, RunStarted):
            state["environment"] = dict(event.environment)
        if state:
            self._writer.set_state(state)

    def _keep_state(self, event: CheckpointDue) -> None:
        """Files first, then their hashes, then out with what is not kept."""
        if event.step in self._kept:
            # the same weights; a death over writing them again would leave none
            if event.best:
                self._writer.mark_best(event.step)
                self._kept[event.step] = True
            return
        folder = self._run.checkpoints
        hashes = self._insist(
            lambda: checkpoint.write(folder, event.step, self._snapshot(), origin=self._origin)
        )
        self._writer.add_checkpoint(
            event.step,
            tensors_sha256=hashes.tensors,
            json_sha256=hashes.meta,
            reason=event.reason,
            epoch=event.epoch,
            best=event.best,
        )
        self._insist(self._writer.commit)
        self._kept[event.step] = event.best
        self._remove_superseded()
        self._remove_strays()

    def _remove_superseded(self) -> None:
        for step in self._superseded():
            self._writer.remove_checkpoint(step)
            self._insist(self._writer.commit)
            checkpoint.remove(self._run.checkpoints, step)
            del self._kept[step]

    def _remove_strays(self) -> None:
        """What a process that died has left.

        Not what is ahead of all that the store knows: where that has lost its last commits, such
        checkpoints may be all that is left of them. They go when training has come as far.
        """
        newest = max(self._kept, default=-1)
        with storage_errors(self._run.checkpoints):
            for path in self._run.checkpoints.iterdir():
                step = checkpoint.step_of(path)
                is_stray = step is None or (step <= newest and step not in self._kept)
                if is_stray and is_own_file(path, CHECKPOINTS):
                    path.unlink(missing_ok=True)

    def _superseded(self) -> list[int]:
        newest = sorted(self._kept, reverse=True)
        best = next((step for step in newest if self._kept[step] and self._keep_best), None)
        return [step for step in newest[self._keep :] if step != best]

    def _insist(self, action: Callable[[], T]) -> T:
        def warn(text: str) -> None:
            self._listener(Warned(self._step, text))

        return insist(action, self._run, self._control, warn)


def insist(action: Callable[[], T], run: Run, control: Control, warn: Callable[[str], None]) -> T:
    """Do something, waiting as long as the disk has no room for it and nobody says stop.

    :param run: told that it waits.
    :param warn: told why.
    :raises StorageFullError: there is no room, and the run was told to stop.
    """
    said = ""
    try:
        while True:
            try:
                return action()
            except StorageFullError as error:
                if control.desired() is Desired.STOPPED:
                    raise
                if str(error) != said:
                    said = str(error)
                    run.set_waiting(True)
                    warn(f"waiting for storage: {said}")
                time.sleep(_RETRY_SECONDS)
    finally:
        if said:
            run.set_waiting(False)


def _trace_metrics(trace: SolverTrace) -> dict[str, float]:
    """A solver's figures as metrics, so that they are exported and plotted like all others."""
    prefix = f"solver/{trace.layer}"
    return {
        f"{prefix}/iterations": trace.iterations,
        f"{prefix}/residual": trace.true_residual,
        f"{prefix}/cosine": trace.descent_cosine,
        f"{prefix}/beta": trace.beta,
    }
