"""Sweeps: what is on disk, what a cell says, what the grid comes to."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cells import CellState, read_cell, read_cells
from engine.config import RunConfig, merge
from engine.errors import ConfigError, StorageError
from engine.locks import RunLock
from engine.runs import Runs
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
