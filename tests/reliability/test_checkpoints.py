"""Checkpoints that were never finished, and checkpoints that were damaged later."""

from __future__ import annotations

import json
import shutil
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


@pytest.mark.timeout(1800)
@promise(
    FAULTS,
    "newest checkpoint truncated, or a bit flipped",
    "goes on from the one before, says so, and ends the same to the byte",
)
@many(5, 100)
def test_damage_to_the_newest(cli, terminal, tmp_path, rng, measured, times):
    three = ["train", *TWO_EPOCHS, "--epochs", "3", "--set", "log.keep=3", "--json"]
    assert cli(*three).code == 0
    run = Runs(tmp_path / "runs").find("latest")
    shutil.copytree(run.path, tmp_path / "made")
    longer = ["resume", run.id, "--epochs", "4", "--json"]
    assert cli(*longer).code == 0
    expected = outcome(run)
    kinds = Counter()
    for _ in range(times):
        shutil.rmtree(run.path)
        shutil.copytree(tmp_path / "made", run.path)
        kinds[damage(max(run.checkpoints.glob(rng.choice(["*.safetensors", "*.json"]))), rng)] += 1
        answer = cli(*longer)
        assert answer.code == 0, answer.err
        assert "damaged or replaced" in answer.err
        assert "going on from step 12" in answer.err
        assert outcome(run) == expected
    measured(f"{times} of {times}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))


def damage(path, rng):
    """Cut a file, or flip a bit of it; gives the kind."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        path.write_bytes(content[: rng.randrange(len(content))])
        return "cut"
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return "flipped"


@promise(FAULTS, "all checkpoints bad", "exit 4, nothing overwritten")
def test_all_damaged(cli, tmp_path, rng):
    assert cli("train", *TWO_EPOCHS, "--set", "log.keep=3").code == 0
    run = Runs(tmp_path / "runs").find("latest")
    for path in run.checkpoints.glob("*.safetensors"):
        damage(path, rng)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    answer = cli("resume", run.id, "--epochs", "3")
    assert answer.code == 4
    assert len(answer.err.splitlines()) == 1
    assert "none of its 2 checkpoints can be used" in answer.err
    now = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    wish = run.path / "desired.json"  # that it is to be trained
    assert {path: content for path, content in now.items() if path != wish} == before
