"""Ours beside the paper's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from engine.cells import read_cell
from engine.comparison import compare
from engine.config import RunConfig
from engine.estimate import estimate_seconds
from engine.experiments import EXPERIMENTS, TABLE1, TABLE1_TAUS
from engine.reproduction import environment, set_beside, title, write_report
from engine.runs import Runs
from engine.stability import summarize_sweep
from engine.store import StoreWriter
from engine.sweep_plan import Row, cell_config, plan_sweep
from engine.sweeps import Sweep
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
        assert {row for item in experiment.published for row in item.rows} & rows
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
    assert "| backprop | 50 | final training loss | diverged | 1 diverged | both diverge |" in text
    assert "| cg3 | 1 | final training loss | 0.002 | 0.001 | -0.001 | Table 1 |" in text
    assert "- device: cpu (a\\|b)" in text
    assert "![grid](grid.png)" in text
    assert "tau_theta: 0.1" in text
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


def test_an_estimate_is_of_the_right_size() -> None:
    run = config("cg3", epochs=40, model__hidden=[256, 256])
    data = dataset(run)
    expected = estimate_seconds(run, data, CPU)
    events = list(trainer(run).events())
    ends = [event.metrics["time/wall"] for event in events if hasattr(event, "metrics")]
    # the machine is shared: this is about the number of steps and evaluations, not about a percent
    assert 0.2 * ends[-1] < expected < 5 * ends[-1]
    assert estimate_seconds(config("cg3", epochs=400), data, CPU) > 3 * estimate_seconds(
        config("cg3", epochs=40), data, CPU
    )
    limited = config("cg3", epochs=100_000, max_seconds=1.0)
    assert estimate_seconds(limited, data, CPU) < estimate_seconds(
        config("cg3", epochs=100_000), data, CPU
    )
