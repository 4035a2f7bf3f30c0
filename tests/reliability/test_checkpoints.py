"""Checkpoints that were never finished, and checkpoints that were damaged later."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from engine.runs import Runs
from tests.cli.terminal import SMALL
from tests.engine.small import cache_dir
from tests.reliability.report import FAULTS, many, promise
from tests.reliability.trainings import outcome, undisturbed

TWO_EPOCHS = [*SMALL, "--method", "cg3", "--epochs", "2", "--set", "log.keep=1"]


@pytest.mark.timeout(900)
@promise(FAULTS, "death at every sub-step of a checkpoint", "old or new, never neither")
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_death_at_sub_steps(terminal, tmp_path, measured, every):
    expected = undisturbed(terminal, tmp_path / "undisturbed", *TWO_EPOCHS)
    begun = ["train", *TWO_EPOCHS, "--epochs", "0"]
    run = Runs(terminal.runs).find(terminal(*begun, "--json").json["run"])
    run.save_config(run.config().model_copy(update={"epochs": 2}))
    module = [sys.executable, "-m", "tests.reliability.substeps"]
    done = subprocess.run(
        [*module, terminal.runs, cache_dir(), str(every)],
        env=terminal.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    calls = Counter(death["before"] for death in deaths)
    if every == 1:
        assert {"open", "write", "fsync", "replace", "execute", "unlink"} <= set(calls), calls
    for death in deaths:
        assert death["left"]["step"] in (6, 12), death["before"]
        assert death["left"]["damaged"] == []
        found = death["outcome"]
        assert found["tensors"] == expected["tensors"]
        assert [tuple(row) for row in found["rows"]] == expected["rows"]
    steps = [death["left"]["step"] for death in deaths]
    assert steps == sorted(steps), "once it counts, it counts"
    measured(
        f"{len(deaths)} of {len(deaths)} sub-steps: {steps.count(6)} old, {steps.count(12)} new"
    )
