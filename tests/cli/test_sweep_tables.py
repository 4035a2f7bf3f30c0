"""What the tables and the JSON of sweeps and comparisons say of runs that are still to come."""

from __future__ import annotations

import math

from engine.cells import CellState
from engine.comparison import Comparison, RowResult, Statistic
from engine.stability import summarize_sweep
from engine.sweeps import Cell, Sweep
from proxprop_cli.sweep_tables import (
    comparison_document,
    comparison_rows,
    grid_legend,
    grid_rows,
    sweep_document,
)

FINISHED = CellState("finished", 0.25, 0.5, 20, 2.3)
STOPPED = CellState("stopped", 1.5, 0.5, 2, 2.3)
WAITING = CellState("waiting", made=False)
DIVERGED = CellState("diverged", math.nan, 0.1, 2, 2.3)


def sweep_of(states, **options):
    """Rows exact and cg3, step sizes 1 and 0.1, one seed."""
    cells = tuple(Cell(row, tau, 0.05, 0, "r") for row in ("exact", "cg3") for tau in (1.0, 0.1))
    sweep = Sweep("sweep-a", "digits", 20, 1.0, cells, **options)
    return sweep, summarize_sweep(sweep, states)


def test_best_and_width_of_an_unfinished_row_are_marked():
    sweep, grid = sweep_of([FINISHED, WAITING, STOPPED, WAITING])
    assert [row[3:] for row in grid_rows(grid)] == [["1…", "≥0.0…"], ["…", "…"]]
    legend = grid_legend(grid)
    assert "so far" in legend
    assert "… not complete" in legend
    found = sweep_document(sweep, [FINISHED, WAITING, STOPPED, WAITING], grid, Comparison((), None))
    assert (found["ended"], found["complete"]) == (1, False)
    assert found["methods"]["exact"]["complete"] is False


def test_a_half_done_row_has_its_best_so_far():
    cells = tuple(Cell("cg3", tau, 0.05, seed, "r") for seed in (0, 1) for tau in (50.0, 1.0))
    lost = CellState("finished", 5e6, 0.1, 20, 2.3)
    states = [lost, FINISHED, lost, WAITING]
    grid = summarize_sweep(Sweep("sweep-a", "digits", 20, 1.0, cells), states)
    assert grid_rows(grid) == [["cg3", "5.00e6", "0.250…", "1…", "≥0.0…"]]


def test_a_finished_grid_has_no_marks():
    sweep, grid = sweep_of([FINISHED, DIVERGED, DIVERGED, DIVERGED])
    assert [row[3:] for row in grid_rows(grid)] == [["1", "≥0.0"], ["-", "-"]]
    legend = grid_legend(grid)
    assert "…" not in legend
    assert "so far" not in legend
    assert legend.startswith("training loss after 20 epochs; ")
    assert "with every seed at or below" in legend
    states = [FINISHED, DIVERGED, DIVERGED, DIVERGED]
    found = sweep_document(sweep, states, grid, Comparison((), None))
    assert (found["ended"], found["complete"]) == (4, True)


def test_a_legend_does_not_claim_epochs_that_a_time_limit_cut():
    limit = {"epochs": 20, "max_seconds": 0.05}
    _, grid = sweep_of([FINISHED] * 4, configs={"exact": limit, "cg3": limit})
    assert "training loss after at most 20 epochs, 0.05 s a run;" in grid_legend(grid)
    _, grid = sweep_of([FINISHED] * 4, configs={"exact": {"epochs": 1}, "cg3": {"epochs": 2}})
    assert "training loss after 1 to 2 epochs;" in grid_legend(grid)


def row(*states, n):
    figures = {"train_loss": Statistic(0.25, math.nan, n, math.nan)} if n else {}
    return RowResult("exact", 1.0, ("r",) * len(states), states, figures)


def test_n_is_of_so_many_seeds():
    rows = (
        row(FINISHED, FINISHED, n=2),
        row(FINISHED, DIVERGED, n=1),
        row(FINISHED, STOPPED, DIVERGED, n=1),
        row(WAITING, WAITING, n=0),
    )
    found = Comparison(rows, None)
    shown = [line[2] for line in comparison_rows(found)]
    assert shown == ["2/2", "1/2 (✖ 1)", "1/3 (✖ 1)…", "0/2…"]
    document = comparison_document(Sweep("c", "digits", 20, 1.0, ()), found)
    assert (document["ended"], document["complete"]) == (6, False)
    assert [one["ended"] for one in document["methods"]] == [2, 2, 2, 0]
    assert [one["complete"] for one in document["methods"]] == [True, True, False, False]
