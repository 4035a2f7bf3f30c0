"""What happened to a run, as lines: its events, and the evaluations between them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import StorageError
from engine.own_files import open_own
from proxprop_cli.dashboard.views import LogLine

if TYPE_CHECKING:
    from engine.store_reader import EventRow

_LAST_BYTES = 8192
_MOST_CHARACTERS = 1000
"""Of a line: a store that somebody sent may have any."""
_LATEST = 1e11
"""Where calendars end, in seconds since the epoch."""
_GRAVE = ("Diverged", "LadderClimbed", "Warned")


def line_of(row: EventRow) -> LogLine | None:
    """What an event says; some say nothing."""
    text = cut(_tell(row))
    return LogLine(row.time, row.step, text, row.kind in _GRAVE) if text else None


def cut(text: str) -> str:
    """The text, or its beginning where nobody would read all of it."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def with_evaluations(
    lines: Sequence[LogLine], evaluations: Sequence[tuple[int, Mapping[str, float]]], begin: float
) -> list[LogLine]:
    """Events in their order, and before each the evaluations up to its step; the first evaluation
    comes after the start.

    The two have different clocks, which say nothing of what came first.

    :param evaluations: steps, ascending, with what was found.
    :param begin: when the run was first started.
    """
    waiting = deque(
        LogLine(_moment(begin, found.get("time/wall", 0.0)), step, _evaluation(found))
        for step, found in evaluations
    )
    told: list[LogLine] = []
    for line in lines:
        while waiting and waiting[0].step <= line.step > 0:
            one = waiting.popleft()
            earliest = told[-1].time if told else 0.0
            told.append(replace(one, time=min(max(one.time, earliest), line.time)))
        told.append(line)
    earliest = told[-1].time if told else 0.0
    return told + [replace(one, time=max(one.time, earliest)) for one in waiting]


def last_words(run: Path, since: float = 0.0) -> str:
    """The last line that the run's trainer has written to its own log; nothing if it has none.

    :param run: folder of the run.
    :param since: in seconds since the epoch; what was written last before that is of another.
    """
    try:
        with os.fdopen(open_own(run / "train.log"), "rb") as stream:
            if os.fstat(stream.fileno()).st_mtime < since:
                return ""
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _LAST_BYTES))
            text = stream.read(_LAST_BYTES).decode(errors="replace")
    except (OSError, StorageError):
        return ""
    return cut(next((line.strip() for line in reversed(text.splitlines()) if line.strip()), ""))


def _moment(begin: float, seconds: float) -> float:
    """The moment so long after another, if there is one."""
    found = begin + seconds
    return found if abs(found) < _LATEST else begin


def _evaluation(metrics: Mapping[str, float]) -> str:
    from proxprop_cli.output import number, percent, score

    text = f"train loss {number(metrics['train_loss'])}"
    if "val_loss" in metrics:
        text += f" · validation {number(metrics['val_loss'])}"
        text += f", {percent(metrics['val_accuracy'])}" if "val_accuracy" in metrics else ""
    if "test_accuracy" in metrics or "test_loss" in metrics:
        text += f" · test {score(metrics, 'test')}"
    return text


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
            return f"✖ {payload['cause']}: diverged"
        case "LadderClimbed":
            counts = ", ".join(f"{count}x {rung}" for rung, count in payload["counts"].items())
            return f"layer {payload['layer']}: solver fell back ({counts})"
        case "Warned":
            return str(payload["text"])
        case "RunEnded" if payload["status"] != "diverged":  # that was told already
            reason = f" ({payload['reason']})" if payload.get("reason") else ""
            return f"{payload['status']}{reason}"
    return ""
