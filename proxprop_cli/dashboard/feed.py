"""Following runs on disk: each poll reads only what is new, and keeps it decimated."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.errors import ProxPropError
from engine.events import SolverTrace
from engine.run import Run
from engine.store_reader import EventRow, StoreReader
from proxprop_cli.dashboard.views import LogLine, RunView

if TYPE_CHECKING:
    from engine.buckets import Buckets

KEYS = (
    "batch_loss",
    "train_loss",
    "val_loss",
    "test_loss",
    "train_accuracy",
    "val_accuracy",
    "test_accuracy",
    "direction_norm",
    "time/train",
    "time/wall",
)
"""Series that are always followed; those of the solvers come with the layers."""
_BUCKETS = 2048
_LOG_LINES = 400
_PROBE_SECONDS = 2.0
_START_SECONDS = 60.0


class Feed:
    """Follows one run. Used by one thread at a time; what it gives is frozen."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.view = RunView(run.id)
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

    def close(self) -> None:
        """Close the store."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def poll(self) -> RunView:
        """The run as it is now; the same object as before where nothing has changed."""
        try:
            if self._reader is None:
                self._reader = StoreReader(self.run.database)
            self._poll(self._reader)
        except ProxPropError as error:
            self.close()
            self._version = -1
            if self.view.problem != str(error):
                self.view = replace(self.view, status="unreadable", problem=str(error))
        return self.view

    def _poll(self, reader: StoreReader) -> None:
        version, request = reader.data_version(), self.run.request_signature()
        now = time.monotonic()
        changed = version != self._version or request != self._request
        may_be_live = self.view.is_live or self.view.status == "interrupted"
        if now - self._probed >= _PROBE_SECONDS and (changed or may_be_live):
            self._probed = now
            locked = self.run.is_live()
            changed |= locked != self._locked
            self._locked = locked
        if not changed:
            return
        state = reader.state()
        self._take_events(reader.events(self._event))
        self._traces = tuple(reader.last_traces())
        self._take_series(reader)
        self._version, self._request = version, request
        self.view = self._look(state)

    def _take_events(self, rows: list[EventRow]) -> None:
        for row in rows:
            self._event = row.id
            payload = row.payload
            if row.kind == "RunStarted":
                self._started = payload
                # it may have gone back to a checkpoint: steps after that are no more
                self._series.clear()
                self._diverged = None
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

    def _take_series(self, reader: StoreReader) -> None:
        import numpy as np

        for key in (*KEYS, *(f"solver/{trace.layer}/residual" for trace in self._traces)):
            known = self._series.get(key)
            if known is None:
                self._series[key] = reader.buckets(key, _BUCKETS)
            else:
                last = int(known.last[-1]) if len(known) else -1
                steps, values = reader.series(key, after_step=last)
                self._series[key] = known.extended(steps, np.asarray(values), 2 * _BUCKETS)

    def _look(self, state: Mapping[str, Any]) -> RunView:
        config = state.get("config") or _brief_of(self.run)
        step = int(state.get("step", 0))
        per_epoch = self._started.get("steps_per_epoch")
        epoch = step / per_epoch if per_epoch else float(state.get("epoch", 0))
        status = self._status(state)
        seconds = _seconds_per_step(self._series.get("time/train"), live=status == "running")
        rate = config.get("batch_size", 0) / seconds if seconds else None
        left = None
        if status in ("running", "paused") and seconds and per_epoch:
            left = max(0.0, (int(config.get("epochs", 0)) * per_epoch - step) * seconds)
        environment = self._started.get("environment", {})
        return RunView(
            id=self.run.id,
            config=config,
            status=status,
            wanted=self._wanted(status),
            reason=str(state.get("reason") or ""),
            step=step,
            epoch=epoch,
            steps_per_epoch=per_epoch,
            rate=rate,
            eta=left,
            work_per_step=_work(config, self._traces, environment),
            metrics=state.get("metrics", {}),
            environment=environment,
            series=dict(self._series),
            traces=self._traces,
            fallbacks=dict(self._fallbacks),
            log=self._lines(),
            diverged=self._diverged,
        )

    def _lines(self) -> tuple[LogLine, ...]:
        """What happened, and the evaluations in between."""
        found = [*self._log, *_evaluations(self._series, self._log)]
        found.sort(key=lambda line: (line.step, line.time))
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


def _evaluations(series: Mapping[str, Buckets], log: list[LogLine]) -> list[LogLine]:
    """A line for each of the latest evaluations that were not gathered with others."""
    import numpy as np

    from proxprop_cli.output import number, percent

    losses, walls = series["train_loss"], series["time/wall"]
    if losses.width > 1 or not len(losses) or not log:
        return []
    steps = losses.last[-_LOG_LINES:]
    seconds = np.interp(steps, walls.last, walls.high) if len(walls) else np.zeros(len(steps))
    others = {
        key: dict(zip(series[key].last.tolist(), series[key].mean.tolist(), strict=True))
        for key in ("val_loss", "val_accuracy", "test_accuracy")
    }
    lines = []
    for step, loss, second in zip(
        steps.tolist(), losses.mean[-_LOG_LINES:].tolist(), seconds.tolist(), strict=True
    ):
        text = f"train loss {number(loss)}"
        if step in others["val_loss"]:
            text += f" · validation {number(others['val_loss'][step])}"
            text += f", {percent(others['val_accuracy'].get(step))}"
        if step in others["test_accuracy"]:
            text += f" · test {percent(others['test_accuracy'][step])}"
        lines.append(LogLine(log[0].time + second, step, text))
    return lines


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
        case "RunEnded":
            reason = f" ({payload['reason']})" if payload.get("reason") else ""
            return f"{payload['status']}{reason}"
    return ""
