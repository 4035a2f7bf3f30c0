"""Means, intervals, and where runs have an equal loss."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cells import WAITING, read_cell
from engine.comparison import Curve, at_best, at_loss, compare, read_curve, statistic
from engine.runs import Runs
from engine.stability import summarize_sweep
from engine.store import StoreWriter
from engine.sweep_plan import Row, cell_config, plan_sweep
from engine.sweeps import Sweep
from tests.engine.small import config


def a_comparison() -> Sweep:
    rows = [Row(name, config(name), (0.5,)) for name in ("backprop", "exact")]
    return plan_sweep("digits", rows, (0, 1, 2), kind="comparison")


def write(root: Path, sweep: Sweep, losses: dict[tuple[str, int], list[float]]) -> None:
    """A run for every (label, seed): one evaluation an epoch of 10 steps and 2 seconds."""
    for cell in sweep.cells:
        found = losses.get((cell.label, cell.seed))
        if found is None:
            continue
        run = Runs(root).create(cell_config(sweep, cell), id=cell.run)
        with StoreWriter(run.database) as writer:
            for epoch, loss in enumerate(found):
                metrics = {
                    "epoch": float(epoch),
                    "train_loss": loss,
                    "val_accuracy": 0.1 * (epoch + 1) if epoch < 3 else 0.2,
                    "time/train": 2.0 * epoch,
                }
                writer.append_metrics(10 * epoch, metrics)
            last = {"train_loss": found[-1], "val_accuracy": 0.2, "epoch": len(found) - 1}
            diverged = not math.isfinite(found[-1])
            status = "diverged" if diverged else "finished"
            writer.set_state({"status": status, "metrics": last, "epoch": last["epoch"]})


def test_an_interval_is_student_s() -> None:
    found = statistic([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.std == pytest.approx(math.sqrt(7 / 3))
    # t(0.975, 2 degrees of freedom) = 4.30265, from tables
    assert found.ci95 == pytest.approx(4.30265 * found.std / math.sqrt(3), rel=1e-5)
    one = statistic([3.0])
    assert (one.mean, one.n) == (3.0, 1)
    assert math.isnan(one.std)
    assert math.isnan(one.ci95)


def test_rows_and_what_they_meet_at(tmp_path: Path) -> None:
    sweep = a_comparison()
    losses = {
        ("backprop", 0): [2.0, 1.0, 0.5],
        ("backprop", 1): [2.0, 1.0, 0.25],
        ("backprop", 2): [2.0, math.nan],
        ("exact", 0): [2.0, 0.125],
        ("exact", 1): [2.0, 0.5],
    }
    write(tmp_path, sweep, losses)
    found = compare(tmp_path, sweep)
    backprop, exact = found.rows
    assert found.loss == 0.5  # the worst of the best, the diverged left out
    assert (backprop.label, backprop.diverged, len(backprop.runs)) == ("backprop", 1, 3)
    assert backprop.figures["train_loss"].mean == pytest.approx(0.375)
    assert backprop.figures["train_loss"].n == 2
    assert backprop.figures["seconds"].mean == 4.0
    assert backprop.figures["best_val_accuracy"].mean == pytest.approx(0.3)
    assert backprop.figures["seconds_to_best"].mean == 4.0
    assert [state.status for state in exact.states] == ["finished", "finished", "waiting"]
    # along the logarithm: 2 -> 0.125 is four halvings, 0.5 is reached after two of them
    assert exact.figures["epochs_at_loss"].mean == pytest.approx((0.5 + 1.0) / 2)
    assert exact.figures["seconds_at_loss"].mean == pytest.approx(1.5)
    assert backprop.figures["epochs_at_loss"].mean == pytest.approx((2 + 1.5) / 2)
    later = compare(tmp_path, sweep, loss=0.3)
    assert later.rows[0].figures["epochs_at_loss"].n == 1
    assert "epochs_at_loss" in later.rows[1].figures
    assert "epochs_at_loss" not in compare(tmp_path, sweep, loss=0.01).rows[0].figures


def test_where_a_loss_is_first_reached(tmp_path: Path) -> None:
    sweep = a_comparison()
    write(tmp_path, sweep, {("exact", 0): [2.0, 1.0, 3.0, 0.5], ("exact", 1): [0.4, 0.2]})
    first, second = (
        read_curve(tmp_path / str(cell.run) / "run.db")
        for cell in sweep.cells
        if cell.label == "exact" and cell.seed < 2
    )
    there = at_loss(first, 1.0)
    assert there is not None
    assert there["epochs"] == 1.0
    there = at_loss(second, 0.9)
    assert there is not None
    assert there["epochs"] == 0.0  # it begins below
    assert math.isnan(there["test_accuracy"])
    assert at_loss(first, 0.1) is None


def test_a_sweep_at_the_best_step_size_of_every_row(tmp_path: Path) -> None:
    rows = [Row(name, config(name), (1.0, 0.5, 0.1)) for name in ("backprop", "exact")]
    sweep = plan_sweep("digits", rows, (0,))
    losses = {("backprop", 1.0): 3.0, ("backprop", 0.5): 0.9, ("backprop", 0.1): 1.1}
    losses |= {("exact", 1.0): 0.2}
    for cell in sweep.cells:
        if (cell.label, cell.tau) in losses:
            only = replace(sweep, cells=(cell,))
            write(tmp_path, only, {(cell.label, 0): [2.0, losses[cell.label, cell.tau]]})
    grid = summarize_sweep(sweep, [read_cell(tmp_path, cell) for cell in sweep.cells])
    found = compare(tmp_path, at_best(sweep, grid))
    assert [(row.label, row.tau) for row in found.rows] == [("backprop", 0.5), ("exact", 1.0)]
    assert found.loss == 0.9
    assert at_best(sweep, summarize_sweep(sweep, [WAITING] * 6)).cells == ()


def test_an_empty_comparison_has_rows_and_no_figures(tmp_path: Path) -> None:
    found = compare(tmp_path, a_comparison())
    assert found.loss is None
    assert [row.figures for row in found.rows] == [{}, {}]


@pytest.mark.parametrize("status", ["stopped", "running", "paused"])
def test_a_half_trained_run_is_in_no_figure(tmp_path: Path, status: str) -> None:
    sweep = a_comparison()
    write(tmp_path, sweep, {("exact", 0): [2.0, 0.1], ("exact", 1): [2.0, 0.3]})
    half = {("exact", 2): [2.0, 1.9], ("backprop", 0): [2.0, 1.8]}
    write(tmp_path, sweep, half)
    for cell in sweep.cells:
        if (cell.label, cell.seed) in half:
            with StoreWriter(tmp_path / str(cell.run) / "run.db") as writer:
                writer.set_state({"status": status})
    found = compare(tmp_path, sweep)
    backprop, exact = found.rows
    assert backprop.figures == {}
    assert exact.figures["train_loss"].mean == pytest.approx(0.2)
    assert all(figure.n == 2 for figure in exact.figures.values())
    assert (exact.finished, exact.ended, exact.complete) == (2, 2, False)
    assert found.loss == 0.3  # those that are on their way do not hold it up


def test_a_row_is_complete_when_all_have_ended(tmp_path: Path) -> None:
    sweep = a_comparison()
    losses = {("exact", 0): [2.0, 0.1], ("exact", 1): [2.0, 0.3], ("exact", 2): [2.0, math.nan]}
    write(tmp_path, sweep, losses)
    _, exact = compare(tmp_path, sweep).rows
    assert (exact.finished, exact.ended, exact.diverged, exact.complete) == (2, 3, 1, True)


def curve(losses: list[float], accuracies: list[float] | None = None) -> Curve:
    there = tuple(accuracies or [0.5] * len(losses))
    steps = tuple(map(float, range(len(losses))))
    values = {"train_loss": tuple(losses), "val_accuracy": there, "test_accuracy": there}
    return Curve(steps, tuple(2 * step for step in steps), values)


def test_losses_are_interpolated_along_their_logarithms() -> None:
    # half of the way down the training loss on its logarithmic scale
    steps, losses = (0.0, 1.0), (16.0, 1.0)
    values = {"train_loss": losses, "val_loss": (32.0, 2.0), "test_loss": (0.0, 3.0)}
    values |= {"val_accuracy": (0.2, 0.8), "test_accuracy": (math.nan, 0.8)}
    there = at_loss(Curve(steps, steps, values), 4.0)
    assert there is not None
    assert there["epochs"] == pytest.approx(0.5)
    assert there["val_loss"] == pytest.approx(8.0)  # twice the training loss all along
    assert there["test_loss"] == pytest.approx(1.5)  # zero has no logarithm
    assert there["val_accuracy"] == pytest.approx(0.5)
    assert math.isnan(there["test_accuracy"])


@pytest.mark.parametrize("before", [math.inf, math.nan, 1.0000000000000002])
def test_where_there_is_nothing_to_interpolate(before: float) -> None:
    there = at_loss(curve([before, 1.0]), 1.0)
    assert there is not None
    assert (there["epochs"], there["seconds"]) == (1.0, 2.0)


def test_a_loss_of_zero_has_no_logarithm() -> None:
    there = at_loss(curve([1.0, 0.0]), 0.5)
    assert there is not None
    assert there["epochs"] == 1.0


def test_the_best_accuracy_counts_when_it_was_first_there(tmp_path: Path) -> None:
    sweep = a_comparison()
    # epochs 0 to 4: accuracies 0.1, 0.2, 0.3, 0.2 and once more the best
    write(tmp_path, sweep, {("exact", 0): [2.0, 1.0, 0.5, 0.4, 0.3]})
    run = next(cell.run for cell in sweep.cells if (cell.label, cell.seed) == ("exact", 0))
    with StoreWriter(tmp_path / str(run) / "run.db") as writer:
        writer.append_metrics(50, {"train_loss": 0.2, "val_accuracy": 0.1 * 3, "time/train": 10.0})
    figures = compare(tmp_path, sweep).rows[1].figures
    assert figures["best_val_accuracy"].mean == 0.1 * 3
    assert figures["seconds_to_best"].mean == 4.0


def test_one_damaged_store_does_not_hide_the_others(tmp_path: Path) -> None:
    sweep = a_comparison()
    losses = {("exact", seed): [2.0, 0.25] for seed in range(3)}
    write(tmp_path, sweep, losses)
    first, second = [str(cell.run) for cell in sweep.cells if cell.label == "exact"][:2]
    (tmp_path / first / "run.db").write_bytes(b"nonsense" * 1000)
    with sqlite3.connect(tmp_path / second / "run.db") as store:
        store.execute("DELETE FROM metric_values")
    store.close()
    exact = compare(tmp_path, sweep).rows[1]
    assert [state.status for state in exact.states] == ["unreadable", "unreadable", "finished"]
    assert all(state.cause for state in exact.states[:2])
    assert exact.figures["train_loss"].n == 1
