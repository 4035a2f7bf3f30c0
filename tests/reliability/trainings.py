"""A training of a few seconds that has a checkpoint every 6 steps, and what it comes to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from tests.cli.terminal import SMALL, Terminal

TRAINING = [*SMALL, "--method", "cg3", "--epochs", "200", "--set", "log.keep=2"]
ENDLESS = [*SMALL, "--method", "cg3", "--epochs", "100000"]


def outcome(run: Run) -> dict[str, Any]:
    """Everything about a run that must not depend on what happened to it."""
    files = sorted(run.checkpoints.glob("*.safetensors"))
    with StoreReader(run.database) as reader:
        rows = [row for row in reader.rows() if not row[1].startswith("time/")]
        status = reader.state()["status"]
    assert len({row[:2] for row in rows}) == len(rows), "a row is there twice"
    tensors = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {"status": status, "tensors": tensors, "rows": rows}


def undisturbed(terminal: Terminal, folder: Path, *arguments: str) -> dict[str, Any]:
    """What a training comes to that nothing happens to."""
    elsewhere = Terminal(folder)
    answer = elsewhere("train", *(arguments or TRAINING), "--json")
    assert answer.code == 0, answer.err
    return outcome(Runs(folder).find("latest"))


def the_run(terminal: Terminal) -> Run | None:
    """The only run of a folder, once it is there."""
    found = Runs(terminal.runs).all() if terminal.runs.exists() else []
    return found[0] if found else None
