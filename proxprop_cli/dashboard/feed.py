"""Following runs on disk: each poll reads only what is new, and keeps it decimated."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.errors import ProxPropError
from engine.events import SolverTrace
from engine.run import Run
from engine.store_opening import Mark, mark_of
from engine.store_reader import StoreReader
from proxprop_cli.dashboard import pace, run_log
from proxprop_cli.dashboard.run_status import gave_up, status_of
from proxprop_cli.dashboard.views import LIVE, LogLine, Place, RunView

if TYPE_CHECKING:
    from engine.buckets import Buckets

ALWAYS = frozenset(
    f"{part}_{figure}" for part in ("train", "val", "test") for figure in ("loss", "accuracy")
) | {"time/train"}
"""Series that are always followed; others when they are asked for."""
_GROWING = ("time/train", "time/wall", "work")
_BUCKETS = 2048
_LOG_LINES = 400
_LAYERS = 1000
_EVALUATIONS = 60
_EVALUATED = ["train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy"]
_EVALUATED += ["time/train", "time/wall"]
_PROBE_SECONDS = 2.0
_RETRY_SECONDS = 5.0
"""Until what could not be read is read again, though nothing has changed."""


class Feed:
    """Follows one run. Used by one thread at a time; what it gives is frozen.

    Its store is open during a look only: it may be replaced, and there may be many.
    """

    def __init__(self, run: Run, place: Place | None = None) -> None:
        self.run = run
        self.view = RunView(run.id, place)
        self._mark: Mark | None = None
        self._created: object = None
        self._failed: tuple[Mark | None, float] | None = None
        self._request: tuple[int, int, int] | None = None
        self._probed = -_PROBE_SECONDS
        self._locked = False
        self._waits = False
        self._forget()

    def poll(self, keys: frozenset[str] = frozenset()) -> RunView:
        """The run as it is now; the same object as before where nothing has changed.

        :param keys: series to follow beside those that always are.
        """
        if not self.run.exists():
            self._fail(f"run {self.run.id} was deleted", "deleted")
            return self.view
        mark = mark_of(self.run.database)
        if self._failed is not None:
            before, again = self._failed
            if mark == before and time.monotonic() < again:
                return self.view
        try:
            self._poll(mark, keys)
            self._failed = None
        except ProxPropError as error:
            self._failed = mark, time.monotonic() + _RETRY_SECONDS
            self._fail(str(error))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            self._failed = mark, time.monotonic() + _RETRY_SECONDS
            self._fail(f"{self.run.database}: damaged: {type(error).__name__}: {error}")
        return self.view

    def _forget(self) -> None:
        """Let the next look read the store from its beginning."""
        self._series: dict[str, Buckets] = {}
        self._event = 0
        self._log: list[LogLine] = []
        self._fallbacks: dict[str, int] = {}
        self._diverged: tuple[int, str] | None = None
        self._began = 0.0
        self._started: Mapping[str, Any] = {}
        self._traces: tuple[SolverTrace, ...] = ()
        self._evaluation_seconds = 0.0

    def _fail(self, problem: str, status: str = "unreadable") -> None:
        # the folder of all runs says nothing here and takes the room of what does
        problem = run_log.cut(problem.replace(f"{self.run.path.parent}{os.sep}", ""))
        self._forget()
        self._mark = None
        if self.view.problem != problem:
            line = LogLine(time.time(), self.view.step, problem, grave=True)
            log = (*self.view.log, line)[-_LOG_LINES:]
            self.view = replace(self.view, status=status, problem=problem, log=log)

    def _poll(self, mark: Mark | None, keys: frozenset[str]) -> None:
        request = self.run.request_signature()
        changed = self._mark is None or mark != self._mark or request != self._request
        changed |= not keys <= self._series.keys()
        changed |= self._probe(changed)
        waits = self.run.is_waiting()  # the store has no room to tell of it
        changed |= waits != self._waits
        self._waits = waits
        if not changed and self.view.status == "starting" and not self._locked:
            changed = gave_up(self.run)
        if not changed:
            return
        if self._mark is not None and (mark is None or mark.file != self._mark.file):
            self._forget()  # it was replaced
        with StoreReader(self.run.database) as reader:
            state = reader.state()
            if state.get("status") == "running" and not self._locked:
                # started since we last looked, or ended just now: whoever holds the lock decides
                self._locked = self.run.is_live()
                state = reader.state()
            if state.get("created") != self._created:
                self._forget()  # it was replaced, by a file with the number of the old one
                self._created = state.get("created")
            self._take_events(reader)
            self._traces = tuple(reader.last_traces()[:_LAYERS])
            self._take_series(reader, ALWAYS | keys | self._series.keys())
            self._mark, self._request = mark, request
            self.view = self._look(reader, state)

    def _probe(self, changed: bool) -> bool:
        """Look for the trainer's lock now and then; gives whether that has changed."""
        now = time.monotonic()
        likely = changed or self.view.is_live or self.view.status == "interrupted"
        if now - self._probed < (_PROBE_SECONDS if likely else 5 * _PROBE_SECONDS):
            return False
        self._probed = now
        before, self._locked = self._locked, self.run.is_live()
        return before != self._locked

    def _take_events(self, reader: StoreReader) -> None:
        rows = reader.events(self._event)
        if self._event and any(row.kind == "RunStarted" for row in rows):
            # it may have gone back to a checkpoint: what came after that is no more
            self._forget()
            rows = reader.events()
        for row in rows:
            self._event = row.id
            payload = row.payload
            if row.kind == "RunStarted":
                self._started = payload
            elif row.kind == "LadderClimbed":
                layer, counts = run_log.cut(str(payload["layer"])), payload["counts"]
                self._fallbacks[layer] = self._fallbacks.get(layer, 0) + sum(counts.values())
            elif row.kind == "Diverged":
                self._diverged = (row.step, run_log.cut(str(payload["cause"])))
            self._began = self._began or row.time
            line = run_log.line_of(row)
            if line is not None:
                self._log.append(line)
        del self._log[:-_LOG_LINES]

    def _take_series(self, reader: StoreReader, keys: frozenset[str]) -> None:
        import numpy as np

        for key in (*keys, *(f"solver/{trace.layer}/residual" for trace in self._traces)):
            known = self._series.get(key)
            if known is None:
                read = reader.samples if key in _GROWING else reader.buckets
                self._series[key] = read(key, _BUCKETS)
            else:
                last = int(known.last[-1]) if len(known) else -1
                steps, values = reader.series(key, after_step=last)
                self._series[key] = known.extended(steps, np.asarray(values), 2 * _BUCKETS)

    def _look(self, reader: StoreReader, state: Mapping[str, Any]) -> RunView:
        config = state.get("config") or _brief_of(self.run)
        step = int(state.get("step", 0))
        per_epoch = self._started.get("steps_per_epoch")
        if not isinstance(per_epoch, int) or per_epoch < 1:
            per_epoch = None
        epoch = step / per_epoch if per_epoch else float(state.get("epoch", 0))
        status, words = status_of(
            self.run, str(state.get("status", "created")), locked=self._locked
        )
        log = self._lines(reader, status, words)
        live, times = status == "running", self._series.get("time/train")
        seconds = pace.seconds_per_step(times, live=live)
        short_of_room = self._waits and status in LIVE
        left = None
        if not short_of_room and status in ("running", "paused") and seconds and per_epoch:
            beside = self._evaluation_seconds
            left = pace.seconds_left(config, step, per_epoch, seconds, beside, times)
        batch_size = int(config.get("batch_size") or 0)  # of full batches the size is not told
        return RunView(
            id=self.run.id,
            place=self.view.place,
            config=config,
            status=status,
            has_trainer=self._locked or status == "starting",
            wanted=self._wanted(status),
            step=step,
            epoch=epoch,
            steps_per_epoch=per_epoch,
            rate=pace.samples_per_second(times, batch_size, per_epoch, live=live),
            eta=left,
            work_per_step=_work_per_step(reader, config),
            metrics=state.get("metrics", {}),
            series=dict(self._series),
            traces=self._traces,
            fallbacks=dict(self._fallbacks),
            log=log,
            diverged=self._diverged,
            last_words=words if status == "interrupted" else "",
            short_of_room=short_of_room,
        )

    def _lines(self, reader: StoreReader, status: str, words: str) -> tuple[LogLine, ...]:
        """What happened, and the evaluations in between."""
        evaluations = reader.latest(_EVALUATED, _EVALUATIONS) if self._log else []
        self._evaluation_seconds = pace.evaluation_seconds([found for _, found in evaluations])
        found = run_log.with_evaluations(self._log, evaluations, self._began)
        if status == "interrupted":
            last = found[-1] if found else LogLine(self.run.created, 0, "")
            texts = [f"the trainer is gone; 'proxprop resume {self.run.id}' goes on from here"]
            if words:
                texts.insert(0, f"the trainer's last words: {words}")
            found += [LogLine(last.time, last.step, text, grave=True) for text in texts]
        return tuple(found[-_LOG_LINES:])

    def _wanted(self, status: str) -> str:
        desired = self.run.desired().value
        if status == "running" and desired == "paused":
            return "pausing"
        if status in ("running", "paused") and desired == "stopped":
            return "stopping"
        return "going on" if status == "paused" and self._locked and desired == "running" else ""


def _brief_of(run: Run) -> Mapping[str, Any]:
    from engine.config import brief

    return brief(run.config())


def _work_per_step(reader: StoreReader, config: Mapping[str, Any]) -> float | None:
    """On the average: the batches of single steps differ in size."""
    if config.get("method") == "backprop":
        return 1.0
    found = reader.latest(["work"], 1)
    return found[0][1]["work"] / found[0][0] if found and found[0][0] > 0 else None
