"""What the runs of a sweep came to: best step sizes, stable widths, levels."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from engine.cells import CellState, Status
from engine.config import RunConfig
from engine.stability import (
    Stability,
    common_level,
    summarize_cell,
    summarize_sweep,
    training_length,
)
from engine.sweep_plan import Row, plan_sweep
from engine.sweeps import (
    Cell,
    Sweep,
)
from tests.engine.test_sweeps import A_CELL, A_SWEEP


def test_a_summary_counts_what_diverged_and_averages_the_rest() -> None:
    seeds = [
        (A_CELL, CellState("finished", 0.1, 0.9, 20)),
        (replace(A_CELL, seed=1, run="b"), CellState("finished", 0.3, 0.7, 20)),
        (replace(A_CELL, seed=2, run="c"), CellState("diverged", 9.0, 0.1, 2, 2.3, 50, "loss")),
        (replace(A_CELL, seed=3, run="d"), CellState("diverged", 9.0, 0.1, 1, 2.3, 40, "update")),
        (replace(A_CELL, seed=4, run="e"), CellState("finished", math.inf, 0.1, 20)),
        (replace(A_CELL, seed=5, run=None), CellState("waiting")),
    ]
    found = summarize_cell(seeds)
    assert found.loss == pytest.approx(0.2)
    assert found.accuracy == pytest.approx(0.8)
    assert (found.seeds, found.diverged) == (6, 3)
    assert (found.first_bad_step, found.cause) == (40, "update")
    assert found.runs == ("run-a", "b", "c", "d", "e")
    assert not found.final
    assert not found.over
    assert summarize_cell(seeds[:4]).over
    assert summarize_cell(seeds[:2]).final


def grid(
    *rows: tuple[str, dict[float, float | None]], order: int = 0, level: float | None = None
) -> Stability:
    """A sweep of one seed; a loss of None diverged."""
    cells = [
        (
            Cell(method, tau, None, 0, "run-a"),
            CellState("diverged", 9.0, initial_loss=2.0, first_bad_step=1)
            if loss is None
            else CellState("finished", loss, initial_loss=2.0),
        )
        for method, losses in rows
        for tau, loss in losses.items()
    ]
    random.Random(order).shuffle(cells)
    sweep = Sweep("s", "p", 1, 0.0, tuple(cell for cell, _ in cells), level=level)
    return summarize_sweep(sweep, [state for _, state in cells])


def test_best_and_width_of_a_row() -> None:
    # half of what the best cell achieved: 2.0 - 0.5 * (2.0 - 0.2) = 1.1
    losses = {100.0: None, 10.0: 1.2, 1.0: 0.2, 0.1: 1.0, 0.01: 1.1, 0.001: 1.9, 1e-4: 0.3}
    for order in range(5):
        found = grid(("exact", losses), order=order)
        (row,) = found.rows
        assert found.taus == (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 1e-4)
        assert (row.best_tau, row.best_loss) == (1.0, 0.2)
        assert row.width == pytest.approx(2.0)
        assert not row.at_edge


def seeds_grid(
    cells: dict[float, list[float]], level: float | None = None, **status: Status
) -> Stability:
    """A row of three seeds; the status of a single one by the name ``s0``, ``s1``, ``s2``."""
    found = [
        (
            Cell("exact", tau, None, seed),
            CellState(status.get(f"s{seed}", "finished"), loss, None, 2 + seed, 2.0),
        )
        for tau, losses in cells.items()
        for seed, loss in enumerate(losses)
    ]
    sweep = Sweep("s", "p", 4, 0.0, tuple(cell for cell, _ in found), level=level)
    return summarize_sweep(sweep, [state for _, state in found])


def test_a_step_size_is_stable_by_its_worst_seed() -> None:
    # medians of all three are below 0.5
    cells = {10.0: [0.4, 0.1, 0.5], 1.0: [0.1, 0.1, 0.2], 0.1: [0.1, 0.6, 0.1]}
    (row,) = seeds_grid(cells, level=0.5).rows
    assert row.width == pytest.approx(1.0)
    (row,) = seeds_grid({1.0: [0.1, 0.1, 0.6]}, level=0.5).rows
    assert row.width is None
    assert row.best_tau == 1.0
    # of a loss that is NaN, max() gives whichever comes first
    (row,) = seeds_grid({1.0: [0.1, math.nan, 0.1]}, level=0.5).rows
    assert row.width is None


@pytest.mark.parametrize("status", ["stopped", "running", "waiting", "unreadable", "diverged"])
def test_one_seed_that_is_not_finished_keeps_a_cell_from_being_final(status: Status) -> None:
    found = seeds_grid({1.0: [0.1, 0.1, 0.1]}, level=0.5, s1=status)
    (cell,), (row,) = found.cells.values(), found.rows
    assert not cell.final
    # so far the others tell, if none diverged
    so_far = (None, None, None) if status == "diverged" else (1.0, 0.1, 0.0)
    assert (row.best_tau, row.best_loss, row.width) == so_far
    assert cell.complete == row.complete == found.complete == (status == "diverged")
    assert cell.over == (status in ("stopped", "diverged"))


def test_a_half_done_row_is_judged_by_the_seeds_that_are_done() -> None:
    taus = (50.0, 1.0, 0.1, 0.01)
    losses = {50.0: 5.63e6, 1.0: 0.0276, 0.1: 0.3, 0.01: 2.25}
    cells, states = [], []
    for seed in range(3):
        for tau in taus:
            cells.append(Cell("cg3", tau, None, seed))
            done = CellState("finished", losses[tau], None, 4, 2.3)
            begun = CellState("running", 2.3, None, 0, 2.3)
            # one cell has all its seeds, and it is the worst; the next seed of the best has begun
            later = begun if (seed, tau) == (1, 1.0) else CellState("waiting", made=False)
            states.append(done if seed == 0 or tau == 50.0 else later)
    found = summarize_sweep(Sweep("s", "p", 4, 0.0, tuple(cells)), states)
    (row,) = found.rows
    assert (row.best_tau, row.best_loss, row.complete) == (1.0, 0.0276, False)
    assert row.width == pytest.approx(1.0)
    assert not row.at_edge
    assert found.cells["cg3", 1.0].loss == 0.0276  # one that has just begun does not move it
    assert found.level == pytest.approx(2.3 - 0.5 * (2.3 - 0.0276))


def test_before_any_seed_is_done_nothing_is_best() -> None:
    (row,) = seeds_grid({1.0: [0.1]}, level=0.5, s0="running").rows
    assert (row.best_tau, row.width) == (None, None)


def test_epochs_of_a_cell_are_those_of_the_seed_that_is_least_far() -> None:
    (cell,) = seeds_grid({1.0: [0.1, 0.1, 0.1]}).cells.values()
    assert (cell.epochs, cell.limit) == (2.0, 4)


def test_the_level_begins_at_the_median_of_the_initial_losses() -> None:
    cells = [Cell("exact", 1.0, None, seed) for seed in range(3)]
    states = [CellState("finished", 0.2, initial_loss=loss) for loss in (2.0, 2.2, 30.0)]
    found = summarize_sweep(Sweep("s", "p", 1, 0.0, tuple(cells)), states)
    assert found.level == pytest.approx(2.2 - 0.5 * (2.2 - 0.2))


def test_how_long_runs_are_trained_is_said_as_it_is() -> None:
    def said(*rows: tuple[int, float | None]) -> str:
        made = [
            Row(
                f"row {number}",
                RunConfig(epochs=epochs, max_seconds=seconds, batch_size=9 + number),
                (1.0,),
            )
            for number, (epochs, seconds) in enumerate(rows)
        ]
        return training_length(plan_sweep("digits", made, (0,)))

    assert said((20, None)) == "20 epochs"
    assert said((1, None)) == "1 epoch"
    assert said((2, None), (1, None)) == "1 to 2 epochs"
    assert said((20, 0.05)) == "at most 20 epochs, 0.05 s a run"
    assert said((20, 0.05), (20, 2.0)) == "at most 20 epochs, 0.05 to 2 s a run"
    assert said((20, 0.05), (20, None)) == "at most 20 epochs, of some rows 0.05 s a run"
    assert training_length(A_SWEEP) == "20 epochs"  # it was written without configurations


PAPER = {
    "backprop": (None, None, None, None, None, 0.524, 0.091, 0.637, 1.531),
    "cg1": (77.9, 0.079, 0.145, 0.667, 0.991, 1.481, 1.593, 1.881, 2.184),
    "cg3": (94.7, 0.644, 0.031, 2e-3, 0.012, 1.029, 1.334, 1.814, 2.175),
    "cg5": (66.5, 0.190, 0.027, 3e-4, 2e-3, 0.399, 1.049, 1.765, 2.175),
}
"""Table 1 of the paper."""


PAPER_TAUS = (50.0, 10.0, 5.0, 1.0, 0.5, 0.1, 0.05, 5e-3, 5e-4)


@pytest.mark.parametrize(
    ("level", "widths"), [(0.65, (1.3, 0.3, 1.3, 2.0)), (1.1, (1.3, 1.3, 2.0, 2.3))]
)
def test_the_widths_of_the_paper_s_table(level: float, widths: tuple[float, ...]) -> None:
    rows = [(name, dict(zip(PAPER_TAUS, losses, strict=True))) for name, losses in PAPER.items()]
    found = grid(*rows, level=level)
    assert found.level == level
    by_name = {row.label: row for row in found.rows}
    assert [round(by_name[name].width or 0, 1) for name in PAPER] == list(widths)
    assert [by_name[name].best_tau for name in PAPER] == [0.05, 10.0, 1.0, 1.0]


def test_what_ends_above_where_it_began_has_learned_nothing() -> None:
    (row,) = grid(("exact", {1.0: 2.5, 0.1: 1.9}), level=3.0).rows
    assert (row.width, row.at_edge) == (0.0, True)


def test_the_widest_stretch_counts_wherever_the_best_is() -> None:
    losses = {100.0: 0.1, 10.0: 1.9, 1.0: 0.5, 0.1: 0.5, 0.01: 0.5, 1e-3: 1.9}
    (row,) = grid(("exact", losses)).rows
    assert (row.best_tau, row.at_edge) == (100.0, False)
    assert row.width == pytest.approx(2.0)


def test_ties_go_to_the_larger_step_size_and_one_alone_has_no_width() -> None:
    (row,) = grid(("exact", {1.0: 0.2, 0.3: 0.2, 0.1: 1.9})).rows
    assert row.best_tau == 1.0
    assert row.width == pytest.approx(math.log10(1 / 0.3))
    assert row.at_edge
    (row,) = grid(("exact", {0.5: 0.2})).rows
    assert (row.best_tau, row.width, row.at_edge) == (0.5, 0.0, True)


def test_all_methods_are_held_to_the_same_measure() -> None:
    rows = grid(
        ("exact", {10.0: None, 1.0: 0.0002, 0.1: 0.2, 0.01: 1.9}),
        ("backprop", {10.0: None, 1.0: None, 0.1: None, 0.01: 1.5}),
        ("cg1", {10.0: None, 1.0: None, 0.1: None, 0.01: None}),
    ).rows
    by_name = {row.label: row for row in rows}
    # a loss 1000 times the best one is still one that has learned
    assert by_name["exact"].width == pytest.approx(1.0)
    assert (by_name["backprop"].best_tau, by_name["backprop"].width) == (0.01, None)
    assert (by_name["cg1"].best_tau, by_name["cg1"].width) == (None, None)


def test_where_nothing_was_learned_there_is_no_measure() -> None:
    assert common_level(None, []) is None
    (row,) = grid(("exact", {1.0: 2.5, 0.1: 3.0})).rows
    assert (row.best_tau, row.width) == (1.0, None)
