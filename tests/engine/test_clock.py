"""Clocks that are wrong, or that are set while the program runs."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from engine import clock
from engine.events import EpochDone, StepsDone
from engine.runs import Runs
from engine.store_reader import StoreReader
from engine.sweep_plan import Row, plan_sweep
from engine.sweeps import load_sweep, save_sweep
from tests.engine import small
from tests.reliability.report import FAULTS, promise

CLOCKS = promise(
    FAULTS,
    "clocks that are wrong, or set while a run is trained",
    "durations within a sitting never jump; a clock before 1970 counts as 1970; ages are never"
    " negative",
)


@CLOCKS
def test_a_clock_before_1970(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: -1e9)
    assert clock.now() == 0.0
    run = Runs(tmp_path).create(small.config())
    assert run.created == 0.0
    with StoreReader(run.database) as reader:
        assert reader.state()["created"] == 0.0
    assert [one.id for one in Runs(tmp_path).all()] == [run.id]


@CLOCKS
def test_ages_are_not_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert clock.age(400.0) == 600.0
    assert clock.age(5000.0) == 0.0


@CLOCKS
@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_is_set_in_a_training(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    begin, calls = time.time(), iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: begin + (next(calls) > 3) * jump)
    _, events = small.run(small.config())
    walls: list[float] = []
    for event in events:
        if isinstance(event, StepsDone):
            walls += event.values["time/wall"]
        elif isinstance(event, EpochDone):
            walls.append(event.metrics["time/wall"])
    assert walls == sorted(walls)
    assert 0 <= walls[0] <= walls[-1] < 600


@CLOCKS
def test_a_break_under_a_clock_that_is_set_back(tmp_path, monkeypatch) -> None:
    snapshot = small.kept_at(small.config(), 6, tmp_path)
    begin = time.time() - 1e8
    monkeypatch.setattr(time, "time", lambda: begin)
    made = small.trainer(small.config(), None, snapshot)
    wall = next(
        event.values["time/wall"][0] for event in made.events() if isinstance(event, StepsDone)
    )
    assert snapshot.meta["seconds"]["wall"] <= wall < snapshot.meta["seconds"]["wall"] + 600


@CLOCKS
def test_a_break_counts(tmp_path, monkeypatch) -> None:
    snapshot = small.kept_at(small.config(), 6, tmp_path)
    begin = time.time() + 1000.0
    monkeypatch.setattr(time, "time", lambda: begin)
    made = small.trainer(small.config(), None, snapshot)
    wall = next(
        event.values["time/wall"][0] for event in made.events() if isinstance(event, StepsDone)
    )
    assert 1000 <= wall - snapshot.meta["seconds"]["wall"] < 1600


def test_checkpoints_of_earlier_versions(tmp_path) -> None:
    """They kept when the run was started, by the time of day."""
    snapshot = small.kept_at(small.config(), 6, tmp_path)
    seconds = dict(snapshot.meta["seconds"])
    del seconds["wall"], seconds["kept"]
    seconds["started"] = time.time() - 500.0
    snapshot.meta["seconds"] = seconds
    made = small.trainer(small.config(), None, snapshot)
    wall = next(
        event.values["time/wall"][0] for event in made.events() if isinstance(event, StepsDone)
    )
    assert 500 <= wall < 1100


@CLOCKS
def test_a_copy_of_the_folder_has_the_same_order(tmp_path: Path) -> None:
    moments = iter([3000.0, 1000.0, 2000.0])
    made = [Runs(tmp_path / "a", clock=lambda m=m: m).create(small.config()) for m in moments]
    expected = [made[0].id, made[2].id, made[1].id]
    assert [run.id for run in Runs(tmp_path / "a").all()] == expected
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    assert [run.id for run in Runs(tmp_path / "b").all()] == expected
    for index, run in enumerate(Runs(tmp_path / "b").all()):
        run.lock_file.write_bytes(b"")  # as of earlier versions
        os.utime(run.lock_file, (index, index))
    assert [run.id for run in Runs(tmp_path / "b").all()] == expected


@CLOCKS
def test_a_sweep_before_1970(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: -4e9)
    sweep = plan_sweep("digits-mlp", [Row("exact", small.config(), (0.1,))], [0])
    save_sweep(tmp_path, sweep)
    assert load_sweep(tmp_path, sweep.id).created == 0.0
