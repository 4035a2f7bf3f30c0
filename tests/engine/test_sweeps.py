"""Sweeps: what is on disk, what a cell says, what the grid comes to."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cells import CellState, Status, read_cell, read_cells
from engine.config import RunConfig, merge
from engine.errors import ConfigError, StorageError
from engine.locks import RunLock
from engine.runs import Runs
from engine.stability import (
    Stability,
    common_level,
    summarize_cell,
    summarize_sweep,
    training_length,
)
from engine.store import StoreWriter
from engine.sweep_plan import Row, cell_config, plan_sweep
from engine.sweep_watch import SweepWatch
from engine.sweeps import (
    MAX_BYTES,
    MAX_CELLS,
    Cell,
    Sweep,
    all_sweeps,
    load_sweep,
    save_sweep,
)
from tests.dashboard.sweep_helper import INITIAL_LOSS, Made, a_grid, make_sweep, write_run

A_CELL = Cell("exact", 1.0, 0.05, 0, "run-a")
A_SWEEP = Sweep("sweep", "digits-mlp", 20, 1.7e9, (A_CELL, replace(A_CELL, seed=1, run=None)))


def test_a_sweep_is_read_as_it_was_written_and_replaced_whole(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    save_sweep(root, A_SWEEP)
    assert load_sweep(root, "sweep") == A_SWEEP
    changed = replace(A_SWEEP, cells=(A_CELL, replace(A_SWEEP.cells[1], run="run-b")))
    save_sweep(root, changed)
    assert load_sweep(root, "sweep") == changed
    assert [path.name for path in (root / "sweep").iterdir()] == ["sweep.json"]
    assert (root / "sweep" / "sweep.json").stat().st_mode & 0o777 == 0o600


def test_sweeps_are_no_runs_and_runs_are_no_sweeps(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.create(RunConfig(), id="run-a")
    save_sweep(tmp_path, A_SWEEP)
    save_sweep(tmp_path, replace(A_SWEEP, id="newer", created=1.8e9))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text("{")
    (tmp_path / "linked").symlink_to(tmp_path / "sweep")
    assert [run.id for run in runs.all()] == ["run-a"]
    assert [sweep.id for sweep in all_sweeps(tmp_path)] == ["newer", "sweep"]
    assert all_sweeps(tmp_path / "nowhere") == []
    with pytest.raises(ConfigError, match="is a run already"):
        save_sweep(tmp_path, replace(A_SWEEP, id="run-a"))


@pytest.mark.parametrize("id", ["", "../runs", "a/b", "latest", "A", "x" * 65, "a\n"])
def test_ids_that_name_no_folder_of_ours_are_refused(tmp_path: Path, id: str) -> None:
    with pytest.raises(ConfigError, match="invalid sweep id"):
        load_sweep(tmp_path, id)
    with pytest.raises(ConfigError, match="invalid sweep id"):
        save_sweep(tmp_path, replace(A_SWEEP, id=id))


def test_a_sweep_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep 'x'"):
        load_sweep(tmp_path, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "expected version 1, found 2"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"preset": None}, "preset"),
        ({"created": "now"}, "created"),
        ({"cells": {}}, "cells"),
        ({"cells": [{}]}, "no sweep"),
        ({"cells": [1]}, "no sweep"),
        ({"cells": [0] * (MAX_CELLS + 1)}, "cells"),
        ({"tau": 0}, "tau"),
        ({"tau": 10**400}, "tau"),
        ({"tau": "1"}, "tau"),
        ({"tau": None}, "tau"),
        ({"tau_theta": -1}, "tau_theta"),
        ({"method": "Exact"}, "method"),
        ({"method": "\x1b[2J"}, "method"),
        ({"seed": 1.5}, "seed"),
        ({"run": "../../etc"}, "run"),
        ({"run": 3}, "run"),
    ],
)
def test_damage_is_told_in_one_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_sweep(tmp_path, A_SWEEP)
    path = tmp_path / "sweep" / "sweep.json"
    document = json.loads(path.read_text())
    for key, value in change.items():
        (document if key in document else document["cells"][0])[key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(StorageError, match=message) as caught:
        load_sweep(tmp_path, "sweep")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 1, "created": NaN}',
        b" " * (MAX_BYTES + 1),
    ],
)
def test_what_is_no_sweep_at_all(tmp_path: Path, content: bytes) -> None:
    save_sweep(tmp_path, A_SWEEP)
    (tmp_path / "sweep" / "sweep.json").write_bytes(content)
    with pytest.raises(StorageError):
        load_sweep(tmp_path, "sweep")


def test_cells_that_can_not_be_averaged_are_refused(tmp_path: Path) -> None:
    twice = replace(A_SWEEP, cells=(A_CELL, A_CELL))
    with pytest.raises(ConfigError, match="earlier cell"):
        save_sweep(tmp_path, twice)
    two = replace(A_SWEEP, cells=(A_CELL, replace(A_CELL, seed=1, tau_theta=1.0)))
    with pytest.raises(ConfigError, match="tau_theta"):
        save_sweep(tmp_path, two)


def test_a_cell_says_how_its_run_is(tmp_path: Path) -> None:
    assert read_cell(tmp_path, replace(A_CELL, run=None)).status == "waiting"
    runs = Runs(tmp_path)
    for status in ("finished", "stopped", "paused"):
        write_run(runs, status, RunConfig(), Made(status, 0.5, 0.8, 3))
        state = read_cell(tmp_path, replace(A_CELL, run=status))
        assert state == CellState(status, 0.5, 0.8, 3, INITIAL_LOSS)
    write_run(runs, "bad", RunConfig(), Made("diverged", math.nan, 0.1, 2, bad_step=61))
    state = read_cell(tmp_path, replace(A_CELL, run="bad"))
    assert (state.status, state.first_bad_step) == ("diverged", 61)
    assert state.cause == "the loss is not finite"
    assert state.diverged


def test_a_run_is_alive_while_it_is_locked(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    write_run(runs, "run-a", RunConfig(), Made("running", 1.5))
    fresh = runs.create(RunConfig(), id="run-b")
    assert read_cell(tmp_path, A_CELL).status == "interrupted"
    assert read_cell(tmp_path, replace(A_CELL, run="run-b")).status == "waiting"
    with runs.find("run-a").lock(), fresh.lock():
        assert read_cell(tmp_path, A_CELL).status == "running"
        assert read_cell(tmp_path, replace(A_CELL, run="run-b")).status == "running"


def test_a_run_that_can_not_be_read_is_a_state(tmp_path: Path) -> None:
    state = read_cell(tmp_path, A_CELL)
    assert (state.status, state.made) == ("waiting", False)
    (tmp_path / "run-a").mkdir()
    state = read_cell(tmp_path, A_CELL)
    assert state.status == "unreadable"
    assert "run.db" in state.cause
    (tmp_path / "run-a").rmdir()
    write_run(Runs(tmp_path), "run-a", RunConfig(), Made())
    (tmp_path / "run-a" / "run.db").write_bytes(b"nonsense" * 1000)
    assert read_cell(tmp_path, A_CELL).status == "unreadable"


def test_a_run_that_was_trained_for_longer_is_no_result_of_the_sweep(tmp_path: Path) -> None:
    config = RunConfig(epochs=2, device="cpu")
    sweep = plan_sweep("digits", [Row("exact", config, (1.0, 0.5))], (0,))
    longer, same = sweep.cells
    for cell, epochs in ((longer, 6), (same, 2)):
        given = cell_config(sweep, cell).model_copy(update={"epochs": epochs, "threads": 3})
        write_run(Runs(tmp_path), str(cell.run), given, Made(loss=0.1))
    changed, kept = read_cells(tmp_path, sweep)
    assert (changed.status, changed.train_loss) == ("unreadable", None)
    assert changed.cause == "it was changed: epochs 6 instead of 2"
    assert (kept.status, kept.train_loss) == ("finished", 0.1)
    assert read_cell(tmp_path, longer).status == "finished"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"seed": 1}, "seed 1 instead of 0"),
        ({"batch_size": 7}, "batch_size 7 instead of 500"),
        ({"max_seconds": 3.0}, "max_seconds 3.0 instead of None"),
        ({"method": {"tau": 2.0}}, "tau 2.0 instead of 1.0"),
        ({"method": {"name": "cg3"}}, "method cg3 instead of exact"),
        ({"data": {"name": "usps"}}, "data usps instead of digits"),
    ],
)
def test_whatever_was_changed_is_named(
    tmp_path: Path, change: dict[str, object], cause: str
) -> None:
    config = RunConfig.model_validate({"data": {"name": "digits"}, "method": {"name": "exact"}})
    sweep = plan_sweep("digits", [Row("exact", config, (1.0,))], (0,))
    (cell,) = sweep.cells
    document = merge(cell_config(sweep, cell).model_dump(mode="json"), change)
    write_run(Runs(tmp_path), str(cell.run), RunConfig.model_validate(document), Made())
    (state,) = read_cells(tmp_path, sweep)
    assert state.cause == f"it was changed: {cause}"


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


def test_a_watch_reads_only_what_has_changed(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, a_grid())
    made = [cell for cell in sweep.cells if cell.run]
    watch = SweepWatch(tmp_path, "sweep")
    first = watch.look()
    assert first is not None
    assert watch.reads == len(made)
    assert len(first.grid.cells) == 36
    for _ in range(3):
        watch.look()
    assert watch.look() is None
    reads = watch.reads
    assert made[7].run is not None
    folder = tmp_path / made[7].run
    with StoreWriter(folder / "run.db") as writer:
        writer.set_state({"metrics": {"train_loss": 0.0123}})
    look = watch.look()
    assert look is not None
    assert watch.reads == reads + 1
    with RunLock(folder / "lock"):
        watch.look()
    assert watch.reads >= reads + 2
    save_sweep(tmp_path, replace(sweep, preset="other"))
    look = watch.look()
    assert look is not None
    assert look.sweep.preset == "other"


@pytest.mark.system
def test_looking_at_sweeps_imports_neither_torch_nor_the_configuration() -> None:
    code = (
        "import sys, engine.sweep_watch;"
        "print([m for m in ('torch', 'pydantic', 'engine.config') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
