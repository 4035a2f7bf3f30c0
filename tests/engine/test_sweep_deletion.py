"""Deleting a sweep takes its own runs with it, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import BusyError, ConfigError, StorageError
from engine.run import Run
from engine.runs import Runs
from engine.sweep_deletion import delete_sweep, delete_unreadable_sweep, own_runs
from engine.sweep_plan import Row, cell_config, plan_sweep
from engine.sweeps import Sweep, save_sweep, sweep_file, unreadable_sweeps
from tests.engine.small import config


def a_sweep(root: Path, taus: tuple[float, ...], made: int = 100) -> Sweep:
    sweep = plan_sweep("digits", [Row("exact", config("exact"), taus)], (0,))
    save_sweep(root, sweep)
    for cell in sweep.cells[:made]:
        if not Run(root / str(cell.run)).exists():
            Runs(root).create(cell_config(sweep, cell), id=cell.run)
    return sweep


def test_runs_that_another_sweep_has_stay(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    small = a_sweep(tmp_path, (1.0, 0.1))
    large = a_sweep(tmp_path, (1.0, 0.1, 0.01, 0.001), made=3)
    alone = runs.create(config())
    assert own_runs(runs, small) == []
    assert delete_sweep(runs, large) == 1
    assert {run.id for run in runs.all()} == {alone.id, *(cell.run for cell in small.cells)}
    assert delete_sweep(runs, small) == 2
    assert [run.id for run in runs.all()] == [alone.id]
    assert [path.name for path in tmp_path.iterdir()] == [alone.id]


def test_what_is_being_trained_is_not_deleted(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    sweep = a_sweep(tmp_path, (1.0, 0.1))
    for folder in (tmp_path / sweep.id, tmp_path / str(sweep.cells[1].run)):
        with Run(folder).lock(), pytest.raises(BusyError, match="being trained"):
            delete_sweep(runs, sweep)
    assert len(runs.all()) == 2
    assert delete_sweep(runs, sweep) == 2


def test_runs_that_an_unreadable_sweep_may_have_stay(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    small = a_sweep(tmp_path, (1.0, 0.1))
    large = a_sweep(tmp_path, (1.0, 0.1, 0.01))
    path = sweep_file(tmp_path, large.id)
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    assert list(unreadable_sweeps(tmp_path)) == [large.id]
    with pytest.raises(StorageError, match=f"share runs with {large.id}.*expected version 1") as e:
        delete_sweep(runs, small)
    assert "\n" not in str(e.value)
    assert len(runs.all()) == 3
    with Run(tmp_path / large.id).lock(), pytest.raises(BusyError):
        delete_unreadable_sweep(runs, large.id)
    delete_unreadable_sweep(runs, large.id)
    assert unreadable_sweeps(tmp_path) == {}
    assert not (tmp_path / large.id).exists()
    assert len(runs.all()) == 3
    assert delete_sweep(runs, small) == 2


def test_a_run_is_not_deleted_as_a_sweep(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    run = runs.create(config())
    sweep_file(tmp_path, run.id).write_text("{")
    with pytest.raises(ConfigError, match="holds a run"):
        delete_unreadable_sweep(runs, run.id)
    assert run.exists()
