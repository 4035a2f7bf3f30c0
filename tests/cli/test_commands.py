"""Every command, its JSON, and what it says to bad input."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re

import pytest

from engine.runs import Runs
from engine.store_reader import StoreReader
from proxprop_cli.presets import load
from tests.cli.terminal import SMALL
from tests.cli.trained import train_copy


@pytest.fixture
def trained(tmp_path):
    """A finished run of two epochs."""
    options = ["--epochs", "2", "--name", "first", "--json"]
    return train_copy(tmp_path / "runs", *SMALL, *options).json


DEEP = ["--preset", "digits-convnet", "--set", "model.channels=[2,2,2,2]", "--set", "model.pools=4"]


def stored(tmp_path):
    return Runs(tmp_path / "runs").all()


def test_train_json_is_one_document_with_the_result(trained):
    assert trained["status"] == "finished"
    assert (trained["epochs"], trained["steps"]) == (2, 12)
    assert isinstance(trained["epochs"], int)  # a fraction only where a time limit cut it
    assert trained["diverged"] is False
    assert 0 < trained["train_loss"] < 2.4
    assert 0 <= trained["val_accuracy"] <= 1
    assert 0 <= trained["test_accuracy"] <= 1
    assert trained["val_loss"] > 0
    assert trained["seconds"] > 0
    assert (trained["method"], trained["preset"]) == ("exact", "digits-mlp")


def test_json_lets_everything_else_go_to_standard_error(cli):
    answer = cli("train", *SMALL, "--epochs", "1", "--json")
    assert json.loads(answer.out)["run"]
    assert "epoch   1/1" in answer.err


def test_plain_prints_one_line_an_epoch(cli):
    answer = cli("train", *SMALL, "--epochs", "3", "--plain")
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert lines[0].startswith("run ")
    assert "seed 0" in lines[0]
    assert sum(line.startswith("epoch ") for line in lines) == 4
    assert lines[-1].startswith("finished after 18 steps")


def test_train_without_a_preset_uses_the_embedded_data(cli, tmp_path):
    cli("train", "--epochs", "0", "--plain")
    (run,) = stored(tmp_path)
    assert run.config().preset == "digits-mlp"
    assert run.config().data.name == "digits"


def test_method_brings_the_step_sizes_of_the_preset(cli, tmp_path):
    cli("train", *SMALL, "--epochs", "0", "--method", "backprop")
    cli("train", *SMALL, "--epochs", "0", "--method", "cg5", "--tau", "0.25")
    cg, backprop = (run.config().method for run in stored(tmp_path))
    document, _ = load("digits-mlp")
    assert (backprop.name, backprop.tau) == ("backprop", document["methods"]["backprop"]["tau"])
    assert (cg.name, cg.tau, cg.tau_theta) == ("cg5", 0.25, document["method"]["tau_theta"])


def test_divergence_is_a_result_unless_asked(cli):
    hot = ["--method", "backprop", "--tau", "1e5", "--set", "loss=mse", "--epochs", "5", "--json"]
    answer = cli("train", *SMALL, *hot)
    assert answer.code == 0
    assert answer.json["status"] == "diverged"
    assert answer.json["diverged"] is True
    assert "diverged at step" in answer.err
    answer = cli("train", *SMALL, *hot, "--fail-on-divergence")
    assert answer.code == 7
    again = cli("resume", "latest")
    assert again.code == 2
    assert "diverged" in again.err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["train", "--preset", "nope"], 2, "unknown preset 'nope'"),
        (["train", "--preset", "digts-mlp"], 2, "did you mean 'digits-mlp'"),
        (["train", "--set", "lrr=1"], 2, "unknown key 'lrr'"),
        (["train", "--set", "optimizer.momentm=1"], 2, "did you mean 'optimizer.momentum'"),
        (["train", "--set", "epochs"], 2, "KEY=VALUE"),
        (["train", "--set", "model.hidden=[1,"], 2, "--set model.hidden"),
        (["train", "--set", "epochs=1.5"], 2, "epochs"),
        (["train", "--tau", "nan"], 2, "method.tau"),
        (["train", "--tau", "-1"], 2, "greater than 0"),
        (["train", "--epochs", "many"], 2, "'--epochs': expected a valid integer (see"),
        (["train", "--tau", "x"], 2, "'--tau': expected a valid number (see"),
        (["train", "--name", "latest"], 2, "stands for the newest run"),
        (["reproduce", "fig2", "--scale", "0"], 2, "--scale: expected a number greater than 0"),
        (["bench", "--time-to-loss", "-1"], 2, "--time-to-loss: expected a training loss"),
        (["train", "--method", "cg0"], 2, "cgN"),
        (["train", "--bogus"], 2, "--bogus"),
        (["trian"], 2, "'train'"),
        (["train", "--set", "method.eps=0"], 2, "method.eps"),
        (
            ["train", *DEEP],
            2,
            "pools",
        ),
        (
            ["train", *SMALL, "--set", "model.batch_norm=true", "--batch-size", "13"],
            2,
            "batch_size",
        ),
        (["train", "--set", "data.name=imagefolder"], 2, "data.root"),
        (
            ["train", "--set", "data.name=imagefolder", "--set", "data.root=/no/where"],
            3,
            "no folder",
        ),
        (["train", "--preset", "missing.yaml"], 2, "missing.yaml"),
        (["runs", "show", "../x"], 2, "invalid run id"),
        (["runs", "show", "/etc"], 2, "invalid run id"),
        (["runs", "show", "no\0de"], 2, "invalid run id"),
        (["runs", "delete", "nothing", "-y"], 2, "no run 'nothing'"),
        (["resume", "latest"], 2, "no runs"),
        (["pause", "latest"], 2, "no runs"),
        (["export", "latest"], 2, "no runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_one_line_and_makes_nothing(cli, tmp_path, arguments, code, text):
    answer = cli(*arguments)
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith("proxprop: ")
    assert text in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback(cli):
    from engine.errors import ConfigError

    with pytest.raises(ConfigError):
        cli("train", "--preset", "nope", "--debug")


def test_runs_list_and_show(cli, trained):
    second = cli("train", *SMALL, "--epochs", "1", "--json").json
    listed = cli("runs", "list", "--json").json["runs"]
    assert [run["id"] for run in listed] == [second["run"], trained["run"]]
    assert {"id", "name", "status", "preset", "method", "epoch"} <= set(listed[0])
    assert listed[1]["name"] == "first"
    table = cli("runs", "list").out
    assert trained["run"] in table
    assert "first" in table
    shown = cli("runs", "show", "first", "--json").json
    assert shown["id"] == trained["run"]
    assert shown["config"]["epochs"] == 2
    assert shown["rows"] > 0
    facts = cli("runs", "show", trained["run"][:6]).out
    assert "hidden" in facts
    for key in ("created", "updated"):
        when = datetime.datetime.fromtimestamp(shown[key])
        assert re.search(rf"{key} +{when:%Y-%m-%d %H:%M:%S}[+-]\d\d:\d\d", facts)


def test_an_empty_store_is_no_error(cli):
    assert cli("runs", "list", "--json").json == {"runs": []}
    assert "no runs" in cli("runs", "list").out


def test_a_damaged_run_does_not_hide_the_others(cli, trained, tmp_path):
    cli("train", *SMALL, "--epochs", "0")
    (tmp_path / "runs" / trained["run"] / "run.db").write_bytes(b"not a database")
    listed = cli("runs", "list", "--json").json["runs"]
    assert [run["status"] for run in listed] == ["finished", "unreadable"]
    assert "unreadable" in cli("runs", "list").out


def test_delete(cli, trained, tmp_path):
    assert cli("runs", "delete", "first", "--json").code == 2  # can not ask
    assert len(stored(tmp_path)) == 1
    assert cli("runs", "delete", "first", "--yes", "--json").json == {"deleted": [trained["run"]]}
    assert stored(tmp_path) == []


def test_whoever_does_not_want_to_delete_loses_nothing(cli, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answer = cli("runs", "delete", "first")
    assert answer.code == 0
    assert "nothing was deleted" in answer.err
    assert len(stored(tmp_path)) == 1


@pytest.mark.parametrize("group", [(), ("runs",), ("presets",)])
def test_a_group_without_a_command_shows_its_help(cli, group):
    answer = cli(*group)
    assert answer.code == 2
    assert answer.err == ""
    assert answer.out == cli(*group, "--help").out


def test_presets(cli):
    names = [preset["name"] for preset in cli("presets", "list", "--json").json["presets"]]
    assert {
        "digits-mlp",
        "digits-convnet",
        "cifar-mlp",
        "cifar-mlp-table1",
        "cifar-convnet",
        "mnist-mlp",
        "usps-mlp",
    } <= set(names)
    assert "cifar-mlp" in cli("presets", "list").out
    shown = cli("presets", "show", "cifar-mlp", "--json").json
    assert shown["method"]["tau_theta"] == 0.05
    assert shown["model"]["hidden"] == [4000, 1000, 4000]
    assert "tau: 0.05" in cli("presets", "show", "cifar-mlp", "--method", "backprop").out


def test_export_holds_every_logged_value(cli, trained, tmp_path):
    with StoreReader(tmp_path / "runs" / trained["run"] / "run.db") as reader:
        logged = {(step, key): value for step, key, value in reader.rows()}
    target = tmp_path / "metrics.csv"
    answer = cli("export", "first", "-o", str(target), "--json")
    assert answer.json["rows"] == len(logged)
    with target.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(int(row["step"]), row["key"]): float(row["value"]) for row in rows} == logged
    assert {row["run"] for row in rows} == {trained["run"]}
    # 12 steps of 6 keys, 4 figures of the solver at the first; 3 evaluations of epoch, 6 means and
    # 3 times, of which time/train and time/wall take the place of the step's at steps 6 and 12
    assert len(rows) == 12 * 6 + 4 + 3 * 10 - 4


def test_export_wide_and_to_standard_output(cli, trained):
    answer = cli("export", "latest", "--wide")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [int(row["step"]) for row in rows] == list(range(13))
    assert float(rows[12]["train_loss"]) == trained["train_loss"]
    assert rows[1]["train_loss"] == ""


def test_hostile_names_are_shown_escaped(cli):
    name = "evil\x1b[31m\x07\u202ename"
    assert cli("train", *SMALL, "--epochs", "0", "--name", name, "--plain").code == 0
    for answer in (
        cli("runs", "list"),
        cli("runs", "show", "latest"),
        cli("runs", "list", "--json"),
        cli("runs", "show", name + "?"),
    ):
        text = answer.out + answer.err
        assert not any(ord(c) < 32 and c != "\n" for c in text)
        assert "\u202e" not in text
    assert "evil\\x1b[31m" in cli("runs", "list").out
    assert cli("runs", "list", "--json").json["runs"][0]["name"] == name


def test_solver_figures_are_stored_and_exported(cli, tmp_path):
    traced = ["--set", "log.trace_every=5", "--method", "cg3", "--epochs", "2"]
    run = cli("train", *SMALL, *traced, "--json").json["run"]
    with StoreReader(tmp_path / "runs" / run / "run.db") as reader:
        traces = reader.traces()
    assert [trace.step for trace in traces] == [1, 5, 10]
    rows = list(csv.DictReader(io.StringIO(cli("export", run).out)))
    exported = {(int(row["step"]), row["key"]): float(row["value"]) for row in rows}
    for trace in traces:
        assert exported[trace.step, f"solver/{trace.layer}/residual"] == trace.true_residual
        assert exported[trace.step, f"solver/{trace.layer}/iterations"] == trace.iterations
