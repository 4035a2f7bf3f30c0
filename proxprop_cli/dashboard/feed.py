"""Following runs on disk: each poll reads only what is new, and keeps it decimated."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from engine.errors import ProxPropError, StorageError
from engine.events import SolverTrace
from engine.run import Run
from engine.store_reader import EventRow, StoreReader
from proxprop_cli.dashboard.views import LogLine, Place, RunView

if TYPE_CHECKING:
    from engine.buckets import Buckets

ALWAYS = frozenset(
    ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "test_accuracy", "time/train")
)
"""Series that are always followed; others when they are asked for."""
_GROWING = ("time/train", "time/wall", "work")
_BUCKETS = 2048
_LOG_LINES = 400
_EVALUATIONS = 60
_EVALUATED = ["train_loss", "val_loss", "val_accuracy", "test_accuracy", "time/train", "time/wall"]
_PROBE_SECONDS = 2.0
_START_SECONDS = 60.0


class Feed:
    """Follows one run. Used by one thread at a time; what it gives is frozen."""

    def __init__(self, run: Run, place: Place | None = None) -> None:
        self.run = run
        self.view = RunView(run.id, place)
        self._reader: StoreReader | None = None
        self._version = -1
        self._request: tuple[int, int, int] | None = None
        self._probed = -_PROBE_SECONDS
        self._locked = False
        self._series: dict[str, Buckets] = {}
        self._event = 0
        self._log: list[LogLine] = []
        self._fallbacks: dict[str, int] = {}
        self._diverged: tuple[int, str] | None = None
        self._started: Mapping[str, Any] = {}
        self._traces: tuple[SolverTrace, ...] = ()
        self._evaluation_seconds = 0.0

    def close(self) -> None:
        """Close the store."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def poll(self, keys: frozenset[str] = frozenset()) -> RunView:
        """The run as it is now; the same object as before where nothing has changed.

        :param keys: series to follow beside those that always are.
        """
        try:
            if self._reader is None:
                self._reader = StoreReader(self.run.database)
            self._poll(self._reader, keys)
        except ProxPropError as error:
            self._fail(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._fail(f"{self.run.database}: damaged: {type(error).__name__}: {error}")
        return self.view

    def _fail(self, problem: str) -> None:
        self.close()
        self._version, self._event = -1, 0
        if self.view.problem != problem:
            self.view = replace(self.view, status="unreadable", problem=problem)

    def _poll(self, reader: StoreReader, keys: frozenset[str]) -> None:
        version, request = reader.data_version(), self.run.request_signature()
        changed = version != self._version or request != self._request
        changed |= not keys <= self._series.keys()
        changed |= self._probe(changed)
        if not changed and self.view.status == "starting":
            changed = time.time() - self.run.created > _START_SECONDS
        if not changed:
            return
        state = reader.state()
        if state.get("status") == "running" and not self._locked:
            # started since we last looked, or ended just now: whoever holds the lock decides
            self._locked = self.run.is_live()
            state = reader.state()
        self._take_events(reader)
        self._traces = tuple(reader.last_traces())
        self._take_series(reader, ALWAYS | keys | self._series.keys())
        self._version, self._request = version, request
        self.view = self._look(reader, state)

    def _probe(self, changed: bool) -> bool:
        """Look for the trainer's lock now and then; gives whether that has changed.

        :raises StorageError: the run was deleted.
        """
        now = time.monotonic()
        likely = changed or self.view.is_live or self.view.status == "interrupted"
        if now - self._probed < (_PROBE_SECONDS if likely else 5 * _PROBE_SECONDS):
            return False
        self._probed = now
        if not self.run.exists():
            raise StorageError(f"run {self.run.id} was deleted")
        before, self._locked = self._locked, self.run.is_live()
        return before != self._locked

    def _take_events(self, reader: StoreReader) -> None:
        rows = reader.events(self._event)
        if self._event and any(row.kind == "RunStarted" for row in rows):
            # it may have gone back to a checkpoint: what came after that is no more
            self._event, self._diverged = 0, None
            self._series.clear()
            self._log.clear()
            self._fallbacks.clear()
            rows = reader.events()
        for row in rows:
            self._event = row.id
            payload = row.payload
            if row.kind == "RunStarted":
                self._started = payload
            elif row.kind == "LadderClimbed":
                layer, counts = str(payload["layer"]), payload["counts"]
                self._fallbacks[layer] = self._fallbacks.get(layer, 0) + sum(counts.values())
            elif row.kind == "Diverged":
                self._diverged = (row.step, str(payload["cause"]))
            text = _tell(row)
            if text:
                grave = row.kind in ("Diverged", "LadderClimbed", "Warned")
                self._log.append(LogLine(row.time, row.step, text, grave))
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
        epoch = step / per_epoch if per_epoch else float(state.get("epoch", 0))
        status = self._status(state)
        log = self._lines(reader, status)
        seconds = _seconds_per_step(self._series.get("time/train"), live=status == "running")
        rate = config.get("batch_size", 0) / seconds if seconds else None
        left = None
        if status in ("running", "paused") and seconds and per_epoch:
            left = self._seconds_left(config, step, per_epoch, seconds)
        environment = self._started.get("environment", {})
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
            rate=rate,
            eta=left,
            work_per_step=_work(config, self._traces, environment),
            metrics=state.get("metrics", {}),
            series=dict(self._series),
            traces=self._traces,
            fallbacks=dict(self._fallbacks),
            log=log,
            diverged=self._diverged,
        )

    def _seconds_left(
        self, config: Mapping[str, Any], step: int, per_epoch: int, seconds: float
    ) -> float:
        """Training and evaluations to come, or what a limit of seconds leaves."""
        left = (int(config.get("epochs", 0)) * per_epoch - step) / per_epoch
        epoch = per_epoch * seconds + self._evaluation_seconds
        found = max(0.0, left * epoch)
        limit = config.get("max_seconds")
        times = self._series.get("time/train")
        if limit and times is not None and len(times):
            share = epoch / (per_epoch * seconds)
            found = min(found, max(0.0, float(limit) - float(times.high[-1])) * share)
        return found

    def _lines(self, reader: StoreReader, status: str) -> tuple[LogLine, ...]:
        """What happened, and the evaluations in between."""
        found = [*self._log]
        if found:
            begin = found[0].time
            evaluations = reader.latest(_EVALUATED, _EVALUATIONS)
            self._evaluation_seconds = _evaluation_seconds([found for _, found in evaluations])
            for step, metrics in evaluations:
                time_ = begin + metrics.get("time/wall", 0.0)
                found.append(LogLine(time_, step, _evaluation(metrics)))
        found.sort(key=lambda line: line.time)
        if status == "interrupted":
            text = f"the trainer is gone; 'proxprop resume {self.run.id}' goes on from here"
            last = found[-1] if found else LogLine(self.run.created, 0, "")
            found.append(LogLine(last.time, last.step, text, grave=True))
        return tuple(found[-_LOG_LINES:])

    def _status(self, state: Mapping[str, Any]) -> str:
        status = str(state.get("status", "created"))
        if status == "running" and not self._locked:
            return "interrupted"
        if status == "created":
            age = time.time() - self.run.created
            return "starting" if self._locked or age < _START_SECONDS else "interrupted"
        return status

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


def _evaluation(metrics: Mapping[str, float]) -> str:
    from proxprop_cli.output import number, percent

    text = f"train loss {number(metrics['train_loss'])}"
    if "val_loss" in metrics:
        text += f" · validation {number(metrics['val_loss'])}, "
        text += percent(metrics.get("val_accuracy"))
    if "test_accuracy" in metrics:
        text += f" · test {percent(metrics['test_accuracy'])}"
    return text


def _evaluation_seconds(evaluations: list[dict[str, float]]) -> float:
    """What the clock on the wall went on beside training, an epoch: the least of the latest, so
    that pauses are not in it."""
    beside = [
        (after["time/wall"] - before["time/wall"]) - (after["time/train"] - before["time/train"])
        for before, after in pairwise(evaluations[-6:])
        if all(key in found for found in (before, after) for key in ("time/wall", "time/train"))
    ]
    return max(0.0, min(beside, default=0.0))


def _seconds_per_step(times: Buckets | None, *, live: bool) -> float | None:
    """Of late, or over all steps."""
    if times is None or len(times) < 2:
        return None
    start = max(0, len(times) - 20) if live else 0
    steps = int(times.last[-1] - times.last[start])
    seconds = float(times.high[-1] - times.high[start])
    return seconds / steps if steps > 0 and seconds > 0 else None


def _work(
    config: Mapping[str, Any], traces: tuple[SolverTrace, ...], environment: Mapping[str, Any]
) -> float | None:
    unit = environment.get("backprop_products")
    if config.get("method") == "backprop":
        return 1.0
    if not unit or not traces:
        return None
    return float(1 + sum(trace.products for trace in traces) / unit)


def _tell(row: EventRow) -> str:
    payload = row.payload
    match row.kind:
        case "RunStarted":
            return "going on" if payload["resumed"] else "started"
        case "Paused":
            return "paused"
        case "Unpaused":
            return "going on"
        case "Diverged":
            return f"diverged: {payload['cause']}"
        case "LadderClimbed":
            counts = ", ".join(f"{count}x {rung}" for rung, count in payload["counts"].items())
            return f"layer {payload['layer']}: solver fell back ({counts})"
        case "Warned":
            return str(payload["text"])
        case "RunEnded" if payload["status"] != "diverged":  # that was told already
            reason = f" ({payload['reason']})" if payload.get("reason") else ""
            return f"{payload['status']}{reason}"
    return ""
