"""Sweeps that are small, and what their runs have come to, wherever they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.runs import Runs
from engine.store_reader import EventRow, StoreReader
from tests.cli.terminal import SMALL
from tests.reliability.trainings import outcome

GRID = [*SMALL, "--set", "threads=1", "--plain", "--seeds", "1"]
LONG = [*GRID, "--methods", "backprop", "--set", "log.checkpoint_epochs=10"]


def outcomes(runs: Path) -> dict[str, dict[str, Any]]:
    return {run.id: outcome(run) for run in Runs(runs).all()}


def ends(runs: Path) -> list[int]:
    """Return how often each run came to its end."""
    return [len(of_run) for of_run in _events(runs, "RunEnded")]


def starts(runs: Path) -> list[int]:
    """Return the steps from which runs were started or resumed, as far as it came home."""
    return [event.step for of_run in _events(runs, "RunStarted") for event in of_run]


def _events(runs: Path, kind: str) -> list[list[EventRow]]:
    found = []
    for run in Runs(runs).all():
        with StoreReader(run.database) as reader:
            found.append([event for event in reader.events() if event.kind == kind])
    return found
