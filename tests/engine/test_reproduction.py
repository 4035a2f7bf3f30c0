"""Ours beside the paper's."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from engine.cells import read_cell, read_cells
from engine.comparison import compare
from engine.config import RunConfig
from engine.estimate import estimate_seconds
from engine.events import EpochDone
from engine.experiments import EXPERIMENTS, TABLE1, TABLE1_TAUS
from engine.markdown_report import write_report
from engine.reproduction import changes, environment, set_beside, title
from engine.runs import Runs
from engine.stability import summarize_sweep
from engine.store import StoreWriter
from engine.sweep_plan import Row, cell_config, plan_sweep
from engine.sweeps import Kind, Sweep
from tests.engine.small import CPU, config, dataset, trainer


def a_table(methods: tuple[str, ...] = ("backprop", "cg3")) -> Sweep:
    rows = [Row(method, config(method, epochs=50), TABLE1_TAUS) for method in methods]
    return plan_sweep("cifar-mlp-table1", rows, (0, 1))


def write_runs(root: Path, sweep: Sweep, losses: dict[tuple[str, float, int], float]) -> None:
    for cell in sweep.cells:
        loss = losses.get((cell.label, cell.tau, cell.seed))
        if loss is None:
            continue
        run = Runs(root).create(cell_config(sweep, cell), id=cell.run)
        with StoreWriter(run.database) as writer:
            for step, value in ((0, 2.3), (10, loss)):
                metrics = {"train_loss": value, "epoch": step / 10, "time/train": 0.1 * step}
                writer.append_metrics(step, metrics)
            status = "finished" if math.isfinite(loss) else "diverged"
            facts = {"data": "image folder pets (JPEG copy)", "torch": "9.9", "device": "cpu (a|b)"}
            writer.set_state(
                {"status": status, "metrics": {"train_loss": loss}, "environment": facts}
            )


def test_the_published_grid_is_whole() -> None:
    published = EXPERIMENTS["table1"].published
    assert len(published) == 36
    assert sum(math.isnan(item.value) for item in published) == 5
    assert all(len(values) == len(TABLE1_TAUS) for values in TABLE1.values())
    for experiment in EXPERIMENTS.values():
        rows = {*experiment.methods, *experiment.extra}
        told = {row for item in experiment.published for row in item.rows}
        assert told & rows or (experiment.note and not told)
        assert (experiment.kind == "sweep") == (experiment.name == "table1")


def test_ours_beside_the_paper_s(tmp_path: Path) -> None:
    sweep = a_table()
    losses = {
        ("cg3", 1.0, 0): 0.001,
        ("cg3", 1.0, 1): 0.005,
        ("backprop", 50.0, 0): math.nan,
        ("backprop", 0.05, 0): 0.1,
    }
    write_runs(tmp_path, sweep, losses)
    beside = set_beside(EXPERIMENTS["table1"], compare(tmp_path, sweep), sweep)
    assert len(beside) == 18
    found = {(item.row, item.published.tau): item for item in beside}
    there = found["cg3", 1.0]
    assert there.ours is not None
    assert there.ours.mean == pytest.approx(0.003)
    assert there.difference == pytest.approx(0.001)
    assert found["backprop", 50.0].diverged == 1
    assert found["backprop", 50.0].difference is None
    assert found["backprop", 0.05].difference == pytest.approx(0.009)
    assert found["cg3", 5e-4].ours is None


def test_a_report_tells_what_it_stands_on(tmp_path: Path) -> None:
    sweep = a_table()
    losses = {("cg3", 1.0, 0): 0.001, ("backprop", 50.0, 0): math.nan, ("cg3", 0.1, 0): 1.5}
    write_runs(tmp_path, sweep, losses)
    facts = environment(tmp_path, sweep)
    states = [read_cell(tmp_path, cell) for cell in sweep.cells]
    text = write_report(
        EXPERIMENTS["table1"],
        sweep,
        compare(tmp_path, sweep),
        summarize_sweep(sweep, states),
        facts,
        command="proxprop reproduce table1",
        figures=["grid.png"],
    )
    assert "**Not complete: 3 of 36 runs have ended.**" in text
    assert "The images are a JPEG copy" in text
    assert "seeds 0, 1" in text
    assert (
        "| backprop | 50 | final training loss | diverged | 1 diverged … | both diverge |" in text
    )
    assert "| cg3 | 1 | final training loss | 0.002 | 0.001 (1/2) … | -0.001 | Table 1 |" in text
    assert "- device: cpu (a\\|b)" in text
    assert "![grid](grid.png)" in text
    assert "tau_theta: 0.1" in text
    assert "Ours: mean over the finished seeds" in text
    assert "Final training loss, median over seeds." in text
    assert "| 0.001 … |" in text
    assert "| - … | - … |" in text
    assert "…: unfinished, runs are still to come" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_a_title_says_what_was_shortened() -> None:
    experiment = EXPERIMENTS["table1"]

    def titled(run: RunConfig) -> str:
        sweep = plan_sweep("t", [Row("exact", run, (1.0,))], (0,))
        return title(experiment, sweep).removeprefix(experiment.title)

    whole = config("exact", epochs=50, data__name="cifar10", data__train_samples=None)
    assert titled(whole) == ""
    short = config("exact", epochs=5, data__normalize="standardize", data__train_samples=1000)
    assert titled(short) == (
        " (on digits, 5 of 50 epochs, 1,000 training samples, standardised inputs)"
    )


def test_a_title_names_every_setting_that_is_not_the_experiment_s() -> None:
    experiment = EXPERIMENTS["fig3"]
    plain = {"epochs": 50, "data__name": "cifar10", "data__train_samples": None}
    originals = {name: config(name, **plain).model_dump(mode="json") for name in ("cg3", "exact")}

    def titled(kind: Kind = "comparison", **settings: Any) -> str:
        made = [config(name, **plain, **settings) for name in originals]
        rows = [Row(run.method.name, run, (run.method.tau,)) for run in made]
        sweep = plan_sweep("t", rows, (0,), kind=kind)
        return title(experiment, sweep, changes(sweep, originals)).removeprefix(experiment.title)

    assert titled(seed=7, threads=3, log__trace_every=9, data__label="x") == ""
    assert titled(max_seconds=0.05) == " (max_seconds 0.05)"
    assert titled(batch_size=7, model__hidden=[3]) == " (batch_size 7, model.hidden [3])"
    assert titled(optimizer__momentum=0.5) == " (optimizer.momentum 0.5)"
    assert titled(method__tau_theta=3.0) == " (method.tau_theta 3)"
    assert titled(method__tau=3.0) == " (method.tau 3)"
    assert titled("sweep", method__tau=3.0) == ""  # its step sizes are the columns
    originals["cg3"] = config("cg3", **plain, batch_size=7).model_dump(mode="json")
    assert titled() == " (cg3: batch_size 100)"


def test_rows_of_different_epochs_are_not_given_one_number() -> None:
    rows = [Row(name, config(name, epochs=n), (1.0,)) for n, name in ((1, "cg3"), (2, "exact"))]
    assert "1 to 2 of 50 epochs" in title(EXPERIMENTS["fig2"], plan_sweep("t", rows, (0,)))


def report(root: Path, sweep: Sweep, **options: Any) -> str:
    experiment = EXPERIMENTS["table1" if sweep.kind == "sweep" else "fig2"]
    grid = summarize_sweep(sweep, read_cells(root, sweep))
    given = {"command": "proxprop reproduce", "figures": []} | options
    facts = environment(root, sweep)
    return write_report(experiment, sweep, compare(root, sweep), grid, facts, **given)


def test_names_can_not_break_the_report(tmp_path: Path) -> None:
    hostile = "pets\n# Proved <b>[x](y) `z` |"
    rows = [Row("exact", config("exact", data__label=hostile), (1.0,))]
    sweep = plan_sweep("t", rows, (0,))
    text = report(tmp_path, sweep, command="proxprop reproduce 'a`b\n# c'")
    first = text.splitlines()[0]
    assert "pets # Proved \\<b>\\[x](y) \\`z\\` \\|" in first
    assert "Made by `` proxprop reproduce 'a`b # c' ``." in text
    assert not any(line.startswith(("# Proved", "# c")) for line in text.splitlines())


def test_the_end_is_that_of_finished_runs(tmp_path: Path) -> None:
    rows = [Row(name, config(name, epochs=50), (1.0,)) for name in ("backprop", "exact")]
    sweep = plan_sweep("t", rows, (0, 1, 2), kind="comparison")
    losses = {("backprop", 1.0, seed): 0.1 * seed + 0.1 for seed in range(3)}
    losses |= {("exact", 1.0, 0): 0.5, ("exact", 1.0, 1): math.nan, ("exact", 1.0, 2): 2.0}
    write_runs(tmp_path, sweep, losses)
    with StoreWriter(tmp_path / str(sweep.cells[5].run) / "run.db") as writer:
        writer.set_state({"status": "stopped"})
    text = report(tmp_path, sweep)
    assert "**Not complete: 5 of 6 runs have ended.**" in text
    assert "| backprop | 1 | 3/3 | 0.2 ± " in text
    assert "| exact | 1 | 1/3, 1 diverged … | 0.5 |" in text


def test_a_damaged_store_is_named_and_left_out(tmp_path: Path) -> None:
    sweep = a_table(("cg3",))
    write_runs(tmp_path, sweep, {("cg3", 50.0, 0): 1.0, ("cg3", 1.0, 0): 0.001})
    bad = str(sweep.cells[0].run)
    (tmp_path / bad / "run.db").write_bytes(b"nonsense" * 1000)
    text = report(tmp_path, sweep)
    assert f"- run {bad} is left out: " in text
    assert "- torch: 9.9" in text  # of the next one
    assert "| cg3 | 1 | final training loss | 0.002 | 0.001 (1/2) …" in text


def test_an_estimate_is_steps_and_evaluations_times_what_they_take() -> None:
    run = config("cg3", epochs=4)
    data = dataset(run)
    events = list(trainer(run).events())
    steps = max(event.step for event in events if isinstance(event, EpochDone))
    evaluations = sum(isinstance(event, EpochDone) for event in events)
    assert (steps, evaluations) == (16, 5)
    samples = len(data.train) + len(data.validation) + len(data.test)

    def estimate(run: RunConfig) -> float:
        # every step takes a second, and so does an evaluation of the training samples
        return estimate_seconds(run, data, CPU, clock=itertools.count().__next__)

    evaluating = evaluations * samples / len(data.train)
    assert estimate(run) == pytest.approx(steps + evaluating)
    assert estimate(config("cg3", epochs=4, max_seconds=3.0)) == pytest.approx(3.0 + evaluating)
    assert estimate(config("cg3", epochs=4, max_seconds=99.0)) == estimate(run)


def test_a_step_takes_what_it_takes_when_it_is_warm_and_undisturbed() -> None:
    run = config("cg3", epochs=4)
    steps, evaluations = [0.0, 0.5, 10.0, 12.0, 20.0, 21.0, 30.0, 35.0], [40.0] * 8
    clock = iter(steps + evaluations).__next__
    assert estimate_seconds(run, dataset(run), CPU, clock=clock) == 16 * 1.0
