"""Sweeps and comparisons from the command line, trained in this process."""

from __future__ import annotations

import pytest

from engine.numbers import format_number
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from tests.cli.sweeps import figures, times_started
from tests.cli.terminal import SMALL

GRID = [*SMALL, "--tau", "1,0.05,500", "--methods", "backprop,cg3", "--seeds", "2"]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def test_a_grid_and_the_same_grid_again(cli, root):
    answer = cli("sweep-tau", *GRID, "--epochs", "3", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["tau"] == [500.0, 1.0, 0.05]
    assert len(found["cells"]) == 12
    by_place = {(c["method"], c["tau"], c["seed"]): c for c in found["cells"]}
    assert by_place["cg3", 1.0, 0]["status"] == "finished"
    assert by_place["backprop", 500.0, 0]["train_loss"] is None or (
        by_place["backprop", 500.0, 0]["train_loss"] > 2.4
    )
    assert set(found["methods"]) == {"backprop", "cg3"}
    assert found["methods"]["cg3"]["best_tau"] in (1.0, 0.05)
    assert set(times_started(root).values()) == {1}

    # 3 epochs, one checkpoint: a large network's would fill the disk
    kept = [len(list(run.checkpoints.glob("*.safetensors"))) for run in Runs(root).all()]
    assert max(kept) == 1

    again = cli("sweep-tau", *GRID, "--epochs", "3", "--json")
    assert figures(again) == figures(answer)
    assert again.err.count("(kept)") == 12
    assert set(times_started(root).values()) == {1}

    larger = cli("sweep-tau", *GRID, "--epochs", "3", "--tau", "1,0.05,500,0.2", "--json")
    assert larger.err.count("(kept)") == 12
    assert larger.json["sweep"] != found["sweep"]
    assert len(times_started(root)) == 16


def test_a_cell_is_the_run_that_train_makes(cli, root):
    settings = [*SMALL, "--epochs", "2"]
    one = cli("train", *settings, "--method", "cg3", "--tau", "0.5", "--seed", "1", "--json")
    grid = ["--tau", "0.5", "--methods", "cg3,exact", "--seeds", "1", "--seed", "1"]
    sweep = cli("sweep-tau", *settings, *grid, "--jobs", "2", "--json")
    (cell,) = (cell for cell in sweep.json["cells"] if cell["method"] == "cg3")
    for key in ("train_loss", "val_accuracy"):
        assert cell[key] == one.json[key]


def test_one_bad_run_does_not_end_the_others(cli, root):
    grid = [*SMALL, "--epochs", "1", "--tau", "1,0.1", "--methods", "exact", "--seeds", "1"]
    first = cli("sweep-tau", *grid, "--json").json
    run = Run(root / first["cells"][0]["run"])
    run.save_config(run.config().model_copy(update={"batch_size": 60}))
    answer = cli("sweep-tau", *grid, "--tau", "1,0.1,0.2", "--json")
    assert answer.code == 1
    assert "with another configuration" in answer.err
    assert len(answer.json["cells"]) == 3
    assert [cell["status"] for cell in answer.json["cells"]] == ["finished"] * 3


def test_a_second_axis(cli, root):
    grid = [*SMALL, "--epochs", "1", "--tau", "1,0.1", "--methods", "backprop,exact"]
    answer = cli("sweep-tau", *grid, "--seeds", "1", "--over", "method.tau_theta=0.1,1", "--json")
    assert answer.code == 0, answer.err
    assert list(answer.json["methods"]) == ["backprop", "exact tau_theta=0.1", "exact tau_theta=1"]
    thetas = [cell["tau_theta"] for cell in answer.json["cells"]]
    assert thetas == [None, None, 0.1, 0.1, 1.0, 1.0]


def test_a_second_axis_of_a_setting_that_only_cg_heeds(cli, root):
    grid = [*SMALL, "--epochs", "1", "--tau", "1", "--methods", "backprop,exact,cg1"]
    answer = cli("sweep-tau", *grid, "--seeds", "1", "--over", "method.tol=0.1,0.5", "--json")
    assert answer.code == 0, answer.err
    assert list(answer.json["methods"]) == ["backprop", "exact", "cg1 tol=0.1", "cg1 tol=0.5"]


def test_compare(cli, root):
    variants = ["--variant", "adam: method=backprop optimizer.name=adam tau=1e-3"]
    options = [*SMALL, "--epochs", "2", "--seeds", "2", "--methods", "backprop,exact", *variants]
    answer = cli("compare", *options, "--json")
    assert answer.code == 0, answer.err
    rows = {row["method"]: row for row in answer.json["methods"]}
    assert list(rows) == ["backprop", "exact", "adam"]
    assert (rows["exact"]["tau"], rows["backprop"]["tau"], rows["adam"]["tau"]) == (1, 0.1, 1e-3)
    for row in rows.values():
        losses = []
        for run in row["runs"]:
            with StoreReader(root / run / "run.db") as reader:
                losses.append(reader.state()["metrics"]["train_loss"])
        assert row["train_loss"]["n"] == 2
        assert row["train_loss"]["mean"] == pytest.approx(sum(losses) / 2)
        assert row["train_loss"]["ci95"] > row["train_loss"]["std"]
        assert row["seconds_to_best"]["mean"] <= row["seconds"]["mean"]
        assert row["seconds_at_loss"]["n"] == 2
    config = Runs(root).find(rows["adam"]["runs"][0]).config()
    assert (config.optimizer.name, config.method.name) == ("adam", "backprop")
    text = cli("compare", *options)
    ends, _, rest = text.out.partition("time of training, without evaluation")
    times, _, there = rest.partition("at the training loss")
    for part in (ends, times, there):
        assert " sd" in part
        assert part.count("±") >= 3
    deviation = rows["exact"]["train_loss"]["std"]
    assert format_number(deviation) in ends


def test_equal_time(cli, root):
    options = [*SMALL, "--epochs", "100000", "--seeds", "1", "--methods", "backprop,exact"]
    answer = cli("compare", *options, "--max-seconds", "0.3", "--json")
    for row in answer.json["methods"]:
        with StoreReader(root / row["runs"][0] / "run.db") as reader:
            times = reader.series("time/train")[1]
        assert row["seconds"]["mean"] >= 0.3
        assert times[-1] >= 0.3 > times[-2]  # not a step more than it takes


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sweep-tau", "--tau", "x"], "--tau: expected a number"),
        (["sweep-tau", "--tau", "logspace(1e-4,50,100000)"], "1,500,000 runs asked for"),
        (["sweep-tau", "--methods", "foo"], "method.name"),
        (["sweep-tau", "--methods", ""], "--methods: expected names"),
        (["sweep-tau", "--over", "seed=1,2"], "--seeds is for"),
        (["sweep-tau", "--over", "nonsense"], "expected KEY=LIST"),
        (["sweep-tau", "--over", "batch_size=0,1"], "batch_size"),
        (["sweep-tau", "--seeds", "0"], "--seeds"),
        (["sweep-tau", "--tau", "logspace(1,2)"], "--tau: expected logspace(A,B,N)"),
        (["sweep-tau", "--level", "nan"], "--level: expected a training loss greater than 0"),
        (["compare", "--at-loss", "-1"], "--at-loss: expected a training loss greater than 0"),
        (["sweep-tau", "--preset", "nope"], "unknown preset"),
        (["compare", "--variant", "x"], "expected 'LABEL: KEY=VALUE"),
        (["compare", "--variant", "x: =1"], "expected KEY=VALUE"),
        (["compare", "--variant", "x: method=3"], "expected a name"),
        (["compare", "--variant", "exact: tau=1"], "more than once"),
        (["resume", "sweep-nothing"], "no run"),
    ],
)
def test_bad_input_makes_nothing(cli, tmp_path, arguments, text):
    answer = cli(*arguments)
    assert answer.code == 2
    assert text in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())
