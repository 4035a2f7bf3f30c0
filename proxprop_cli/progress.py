"""How far data, training and measuring have come: bars and lines that move in a terminal, lines
elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from engine.events import (
    Diverged,
    EpochDone,
    Event,
    LadderClimbed,
    Paused,
    RunEnded,
    RunStarted,
    Unpaused,
    Warned,
)
from proxprop_cli.output import Output, console, duration, number, percent, score

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.status import Status

    from engine.config import RunConfig


class DataProgress:
    """Progress of downloads and decoding; called with what, done and total (none: unknown)."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Tell how far it is."""
        if total == 0:  # a fact about the data, nothing to wait for
            self.close()
            self._output.note(what)
            return
        if not self._output.terminal():
            if what != self._what:
                self._output.note(f"{what} …")
            self._what = what
            return
        if self._bar is None or what != self._what:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

            self.close()
            self._what = what
            self._bar = Progress(
                "{task.description}",
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(what, total=total)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
            if total is not None and done >= total:
                self.close()


class Doing:
    """What is being done, where a piece of it may take minutes: a line in a terminal; elsewhere one
    every so many seconds, from a thread of its own."""

    def __init__(self, output: Output, *, every: float = 10.0) -> None:
        self._output = output
        self._every = every
        self._what = ""
        self._began = time.monotonic()
        self._status: Status | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell_again, daemon=True)

    def __enter__(self) -> Self:
        if self._output.terminal():
            self._status = console(stderr=True).status("")
            self._status.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._status is not None:
            self._status.stop()
        else:
            self._thread.join()

    def __call__(self, what: str) -> None:
        """Tell what is next."""
        self._what = what
        if self._status is not None:
            self._status.update(what)

    def _tell_again(self) -> None:
        while not self._over.wait(self._every):
            if self._what:
                self._output.note(f"{self._what}, {duration(time.monotonic() - self._began)} …")


class RunProgress:
    """Tells a run's events, one line an epoch."""

    def __init__(self, run_id: str, config: RunConfig, output: Output) -> None:
        self._run_id = run_id
        self._config = config
        self._say = output.line

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        match event:
            case RunStarted():
                self._begin(event)
            case EpochDone():
                self._say(epoch_line(event, self._config.epochs))
            case Paused():
                self._say(f"paused after step {event.step:,}")
                self._say(f"'proxprop resume {self._run_id}' in another terminal lets it go on")
            case Unpaused():
                self._say("going on")
            case Diverged():
                self._say(f"diverged at step {event.step:,}: {event.cause}")
            case LadderClimbed():
                counts = ", ".join(f"{count}x {rung}" for rung, count in event.counts.items())
                self._say(f"layer {event.layer}: solver fell back ({counts})")
            case Warned():
                self._say(f"warning: {event.text}")
            case RunEnded():
                self._end(event)
            case _:
                pass

    def _begin(self, event: RunStarted) -> None:
        config, method = self._config, self._config.method
        threads = event.environment["threads"]
        proximal = f" · tau_theta {method.tau_theta:g}" if method.uses_tau_theta else ""
        self._say(
            f"run {self._run_id} · {config.preset or config.data.name} · {method.name} · "
            f"tau {method.tau:g}{proximal} · seed {config.seed}"
        )
        environment = event.environment
        self._say(
            f"{environment['data']} · {environment['device']}, "
            f"{threads} thread{'' if threads == 1 else 's'} · torch {environment['torch']}"
        )
        if event.resumed:
            self._say(f"going on from step {event.step:,}")

    def _end(self, event: RunEnded) -> None:
        if event.status != "diverged":
            reason = f" ({event.reason})" if event.reason else ""
            self._say(f"{event.status}{reason} after {event.step:,} steps")
        if event.status == "stopped":
            self._say(f"'proxprop resume {self._run_id}' goes on from here")


def epoch_line(event: EpochDone, epochs: int) -> str:
    """An evaluation in one aligned line of less than 80 columns: losses, accuracies, seconds."""
    metrics = event.metrics
    parts = [f"epoch {event.epoch:>3g}/{epochs}", f"train {number(metrics['train_loss']):>9}"]
    if "val_loss" in metrics:
        accuracy = f" {percent(metrics['val_accuracy']):>7}" if "val_accuracy" in metrics else ""
        parts.append(f"val {number(metrics['val_loss']):>9}{accuracy}")
    if "test_loss" in metrics:
        parts.append(f"test {score(metrics, 'test'):>{7 if 'test_accuracy' in metrics else 9}}")
    if event.epoch > 0:
        parts.append(f"{duration(metrics['time/epoch']):>7}")
    return "  ".join(parts)
