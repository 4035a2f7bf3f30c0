"""Trainings of a few seconds, what they come to, and what is in a store while they run."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.run import Run
from engine.runs import Runs
from engine.store_reader import EventRow, StoreReader
from tests.cli.terminal import SMALL, Answer, Terminal

TRAINING = [*SMALL, "--method", "cg3", "--epochs", "60", "--set", "log.keep=2"]
"""With a checkpoint every 6 steps."""
FALLING = [*SMALL, "--method", "exact", "--epochs", "200", "--batch-size", "100"]
FALLING += ["--set", "method.tau=0.01", "--set", "method.tau_theta=1e12"]
FALLING += ["--set", "log.checkpoint_epochs=10", "--set", "log.keep=2"]
"""Its solver falls back all the while (pixels that are always black, next to no damping), so that
there are events between two checkpoints. Of those there is one every 30 steps; what was logged is
stored every 3."""
ENDLESS = [*SMALL, "--method", "cg3", "--epochs", "100000"]

_POSITION = ("epoch", "batch", "step", "best", "work", "generators")
"""What of a checkpoint's JSON does not depend on clock and machine."""


def outcome(run: Run) -> dict[str, Any]:
    """Everything about a run that must not depend on what happened to it, as JSON has it."""
    with StoreReader(run.database) as reader:
        rows = [row for row in reader.rows() if not _is_clock(row[1])]
        traces = [asdict(trace) for trace in reader.traces()]
        events, state, kept = reader.events(), reader.state(), reader.checkpoints()
    assert len({row[:2] for row in rows}) == len(rows), "a row is there twice"
    assert len({(one["step"], one["layer"]) for one in traces}) == len(traces)
    steps = [event.step for event in events]
    assert steps == sorted(steps), "an event that did not happen in the end is still there"
    files = sorted(run.checkpoints.glob("*.safetensors"))
    positions = {
        path.name: json.loads(path.read_bytes()) for path in run.checkpoints.glob("*.json")
    }
    found = {
        "tensors": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "positions": {name: [meta[key] for key in _POSITION] for name, meta in positions.items()},
        "checkpoints": [(row.step, row.tensors_sha256, row.epoch, row.best) for row in kept],
        "rows": rows,
        "traces": traces,
        "fallbacks": _fallbacks(events),
        "end": [(event.kind, event.step, event.payload) for event in events][-1],
        "diverged": [(e.step, e.payload) for e in events if e.kind == "Diverged"],
        "state": {key: state[key] for key in ("status", "reason", "step", "epoch")},
        "metrics": {key: n for key, n in state["metrics"].items() if not _is_clock(key)},
    }
    return dict(json.loads(json.dumps(found)))


def _is_clock(key: str) -> bool:
    return key.startswith("time/")


def _fallbacks(events: list[EventRow]) -> dict[str, dict[str, int]]:
    """How often each rung answered in each layer: in how many events that is told is the clock's
    matter."""
    found: dict[str, Counter[str]] = {}
    for event in events:
        if event.kind == "LadderClimbed":
            found.setdefault(event.payload["layer"], Counter()).update(event.payload["counts"])
    return {layer: dict(sorted(counts.items())) for layer, counts in sorted(found.items())}


def undisturbed(command: Callable[..., Answer], folder: Path, *arguments: str) -> dict[str, Any]:
    """What a training comes to that nothing happens to.

    :param command: runs a command, in this process or in another.
    :param folder: of its run.
    """
    answer = command("train", *arguments, "--dir", str(folder), "--json")
    assert answer.code == 0, answer.err
    return outcome(Runs(folder).find("latest"))


def the_run(terminal: Terminal) -> Run | None:
    """The only run of a folder, once it is there."""
    found = Runs(terminal.runs).all() if terminal.runs.exists() else []
    return found[0] if found else None


def steps(run: Run) -> int:
    """Steps that are stored."""
    with StoreReader(run.database) as reader:
        return int(reader.state().get("step", 0))


def sitting(run: Run) -> EventRow | None:
    """How the latest sitting of a run began."""
    with StoreReader(run.database) as reader:
        found = [event for event in reader.events() if event.kind == "RunStarted"]
    return found[-1] if found else None


def newest_checkpoint(run: Run) -> int:
    """Its step; 0 where there is none."""
    with StoreReader(run.database) as reader:
        return max((row.step for row in reader.checkpoints()), default=0)


def newest_row(run: Run) -> int:
    """The last step that has a loss; 0 where none has."""
    with StoreReader(run.database) as reader:
        found = reader.latest(["batch_loss"], 1)
    return found[0][0] if found else 0


def until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
