"""What can be read is drawn; see tests/cli/test_plot.py for the rest."""

from __future__ import annotations

import pytest

from engine.config import RunConfig
from engine.errors import StorageError
from engine.figures.curves import draw_curves
from engine.figures.read_curves import read_groups
from engine.figures.style import styled
from engine.run import Run
from engine.runs import Runs
from engine.sweep_plan import Row, cell_config, plan_sweep
from tests.dashboard.sweep_helper import Made, make_sweep, write_run
from tests.engine.figures.drawing import legend


def draw_of(groups):
    with styled():
        return draw_curves(groups, ["step"], ["train_loss"])


def groups(root, bad, skipped):
    made = [("exact", 1.0, seed, Made(loss=0.1)) for seed in range(2)]
    sweep = make_sweep(root, [*made, ("cg3", 1.0, 0, Made(loss=0.2))])
    for cell in sweep.cells:
        if cell.run in bad:
            (root / cell.run / "run.db").write_bytes(b"nonsense" * 1000)
    return read_groups([sweep], root, ["step"], ["train_loss"], skipped=skipped)


def test_a_damaged_store_is_skipped_and_named(tmp_path):
    skipped = []
    exact, cg3 = groups(tmp_path, ["sweep-0", "sweep-2"], skipped)
    assert [run.run for run in exact.runs] == ["sweep-1"]
    assert (exact.unreadable, cg3.runs, cg3.unreadable) == (1, (), 1)
    assert [line.partition(":")[0] for line in skipped] == ["sweep-0", "sweep-2"]
    assert legend(draw_of([exact, cg3])) == ["exact (1/2 unreadable)", "cg3 (unreadable)"]


def test_where_nothing_can_be_read_there_is_no_figure(tmp_path):
    with pytest.raises(StorageError, match="no run can be read; sweep-0: "):
        groups(tmp_path, ["sweep-0", "sweep-1", "sweep-2"], None)


def test_runs_named_one_by_one(tmp_path):
    groups(tmp_path, [], None)
    runs = [Run(tmp_path / f"sweep-{number}") for number in range(3)]
    (runs[0].path / "run.db").write_bytes(b"nonsense" * 1000)
    (runs[2].path / "config.yaml").unlink()
    skipped = []
    found = read_groups(runs, tmp_path, ["step"], ["train_loss"], skipped=skipped)
    assert [len(group.runs) for group in found] == [0, 1, 0]
    assert [line.partition(":")[0] for line in skipped] == ["sweep-0", "sweep-2"]


def test_a_run_that_was_changed_is_not_the_sweeps(tmp_path):
    config = RunConfig(epochs=2)
    sweep = plan_sweep("digits", [Row("exact", config, (1.0,))], (0, 1))
    for cell, epochs in zip(sweep.cells, (6, 2), strict=True):
        given = cell_config(sweep, cell).model_copy(update={"epochs": epochs})
        write_run(Runs(tmp_path), cell.run, given, Made())
    skipped = []
    (group,) = read_groups([sweep], tmp_path, ["step"], ["train_loss"], skipped=skipped)
    assert [run.run for run in group.runs] == [sweep.cells[1].run]
    assert skipped == [f"{sweep.cells[0].run}: it was changed: epochs 6 instead of 2"]
