"""The runs of a sweep have one data set: what was trained on other data is in no table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cells import CellState, data_source, read_cell, read_cells, with_one_data_set
from engine.comparison import at_best, compare
from engine.control import Word
from engine.pool import Outcome
from engine.run import Run
from engine.stability import summarize_sweep
from engine.store import StoreWriter
from engine.sweep_plan import Row, plan_sweep
from engine.sweep_runner import CellEnded, CellFailed, SweepEvent, SweepRunner
from engine.sweeps import Sweep
from tests.engine import small
from tests.engine.pools import ScriptedPool

OLD, NEW = "0" * 64, "1" * 64


def plan(*taus: float, roots: Iterable[str] = ("pictures",)) -> Sweep:
    """A row per folder of data."""
    rows = [
        Row(root, small.config(data__name="imagefolder", data__root=root, data__validation=0), taus)
        for root in roots
    ]
    return plan_sweep("pictures", rows, (0,))


def trained_on(sweep: Sweep, *digests: str) -> list[str]:
    """The statuses of finished runs, by the data that they were trained on."""
    states = [CellState("finished", 0.5, data=digest) for digest in digests]
    return [state.status for state in with_one_data_set(sweep, states)]


def test_the_data_of_most_runs_count() -> None:
    sweep = plan(1.0, 0.1, 0.01)
    assert trained_on(sweep, OLD, OLD, OLD) == ["finished"] * 3
    assert trained_on(sweep, OLD, NEW, NEW) == ["unreadable", "finished", "finished"]
    assert sorted(trained_on(sweep, OLD, NEW, "")) == ["finished", "finished", "unreadable"]


def test_other_folders_have_other_data() -> None:
    sweep = plan(1.0, 0.1, roots=("one", "other"))
    assert len({data_source(sweep, cell) for cell in sweep.cells}) == 2
    assert trained_on(sweep, OLD, OLD, NEW, NEW) == ["finished"] * 4


def finish(root: Path, run: str, digest: str, loss: float = 0.5) -> Outcome:
    """What a pool answers when a run was trained to its end."""
    with Run(root / run).lock(), StoreWriter(Run(root / run).database) as writer:
        metrics = {"train_loss": loss, "epoch": 1.0, "time/train": 1.0}
        writer.append_metrics(0, {**metrics, "train_loss": 2.0, "epoch": 0.0})
        writer.append_metrics(1, metrics)
        writer.set_state({"metrics": metrics, "environment": {"data_sha256": digest}})
        writer.set_state({"status": "finished", "epoch": 1})
    return Outcome(run, "ended", status="finished")


def train(root: Path, sweep: Sweep, *digests: str) -> list[SweepEvent]:
    """Train what is missing of a sweep, each run on its own data."""
    left = list(digests)
    events: list[SweepEvent] = []
    SweepRunner(
        root,
        sweep,
        pool=ScriptedPool(lambda run: [finish(root, run, left.pop(0))]),
        threads=1,
        control=Word(),
        listener=events.append,
        look_seconds=0.0,
    ).run()
    return events


def test_data_that_change_while_a_sweep_is_trained(tmp_path: Path) -> None:
    events = train(tmp_path, plan(1.0, 0.1, 0.01), OLD, OLD, NEW)
    assert sum(isinstance(event, CellEnded) for event in events) == 2
    (failed,) = (event for event in events if isinstance(event, CellFailed))
    assert failed.text.startswith(f"trained on other data (SHA-256 {NEW[:8]}…) than the runs")


def test_runs_that_are_kept_count_as_well(tmp_path: Path) -> None:
    train(tmp_path, plan(1.0, 0.01), OLD, OLD)
    events = train(tmp_path, plan(1.0, 0.1, 0.01), NEW)
    assert sum(isinstance(event, CellFailed) for event in events) == 1


@pytest.mark.parametrize("best", [OLD, NEW])
def test_a_part_of_a_sweep_has_the_data_of_the_whole(tmp_path: Path, best: str) -> None:
    """Where the best step size has mostly other data, these are no more right for that."""
    sweep = plan_sweep("pictures", [Row("exact", small.config(), (1.0, 0.1, 0.01))], (0, 1, 2))
    for cell in sweep.cells:
        train(tmp_path, replace(sweep, cells=(cell,)), OLD)
    for cell in sweep.cells:
        if cell.tau == 0.1:
            finish(tmp_path, str(cell.run), OLD if cell.seed == 0 else best, 0.1)
    states = read_cells(tmp_path, sweep)
    chosen = at_best(sweep, summarize_sweep(sweep, states))
    by_cell = dict(zip(sweep.cells, states, strict=True))
    (row,) = compare(tmp_path, chosen, states=[by_cell[cell] for cell in chosen.cells]).rows
    assert row.finished == sum(by_cell[cell].status == "finished" for cell in chosen.cells)
    assert {read_cell(tmp_path, cell).data for cell in sweep.cells} == {OLD, best}
