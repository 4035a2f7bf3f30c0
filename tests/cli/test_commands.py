"""Every command, its JSON, and what it says to bad input."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from engine.runs import Runs
from engine.store_reader import StoreReader
from proxprop_cli.presets import load
from tests.cli.terminal import SMALL


@pytest.fixture
def trained(cli):
    """A finished run of two epochs."""
    answer = cli("train", *SMALL, "--epochs", "2", "--name", "first", "--json")
    assert answer.code == 0, answer.err
    return answer.json


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


def test_resume_of_a_finished_run_says_so_and_extends_it(cli, trained):
    again = cli("resume", "first", "--json")
    assert again.code == 0
    assert again.json["status"] == "finished"
    assert again.json["steps"] == 12
    assert "--epochs" in cli("resume", "first").out
    longer = cli("resume", "first", "--epochs", "3", "--json")
    assert (longer.json["steps"], longer.json["epochs"]) == (18, 3)
    shorter = cli("resume", "first", "--epochs", "1")
    assert shorter.code == 2
    # the same as trained in one go
    whole = cli("train", *SMALL, "--epochs", "3", "--json")
    assert whole.json["train_loss"] == longer.json["train_loss"]


def test_time_limit(cli):
    answer = cli("train", *SMALL, "--epochs", "100000", "--max-seconds", "0.3", "--json")
    assert answer.json["status"] == "finished"
    assert answer.json["reason"] == "time limit"
    assert 0.3 <= answer.json["seconds"] < 5


def test_resume_elsewhere_needs_permission(cli, tmp_path):
    first = cli("train", *SMALL, "--epochs", "1", "--set", "threads=1", "--json")
    run = Runs(tmp_path / "runs").find(first.json["run"])
    config = run.config()
    run.save_config(config.model_copy(update={"threads": 2}))
    refused = cli("resume", run.id, "--epochs", "2")
    assert refused.code == 4
    assert "threads was 1, is 2" in refused.err
    assert "--allow-inexact" in refused.err
    assert run.config().epochs == 1  # what is refused changes nothing
    allowed = cli("resume", run.id, "--epochs", "2", "--allow-inexact", "--json")
    assert allowed.code == 0
    assert allowed.json["steps"] == 12


def test_all_checkpoints_damaged_is_refused_and_changes_nothing(cli, trained, tmp_path):
    run = Runs(tmp_path / "runs").find("first")
    for path in run.checkpoints.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    before = run.database.read_bytes()
    answer = cli("resume", "first", "--epochs", "3")
    assert answer.code == 4
    assert "none of its" in answer.err
    assert run.database.read_bytes() == before


def test_damaged_newest_checkpoint_falls_back_and_says_so(cli, trained, tmp_path):
    run = Runs(tmp_path / "runs").find("first")
    newest = max(run.checkpoints.glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-5])
    answer = cli("resume", "first", "--epochs", "3", "--json")
    assert answer.code == 0
    assert "damaged" in answer.err
    assert "going on from step 6" in answer.err
    whole = cli("train", *SMALL, "--epochs", "3", "--json")
    assert answer.json["train_loss"] == whole.json["train_loss"]


def test_a_pickle_in_place_of_a_checkpoint_is_never_loaded(cli, trained, tmp_path):
    import os
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    run = Runs(tmp_path / "runs").find("first")
    for path in run.checkpoints.iterdir():
        path.write_bytes(pickle.dumps(Bomb()))
    assert cli("resume", "first", "--epochs", "3").code == 4
    assert not (tmp_path / "exploded").exists()


def image_folder(folder):
    """Two classes of 8x8 pictures."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        for index in range(30):
            pixels = rng.integers(0, 120, (8, 8), dtype=np.uint8) + (100 if name == "light" else 0)
            path = folder / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


IMAGES = ["--set", "data.name=imagefolder", "--set", "model.hidden=[8]"]


def test_a_relative_folder_of_images_is_found_again_from_elsewhere(cli, tmp_path, monkeypatch):
    image_folder(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    options = [*IMAGES, "--set", "data.root=pictures", "--set", "data.validation=10"]
    assert cli("train", *options, "--epochs", "1").code == 0
    monkeypatch.chdir("/")
    answer = cli("resume", "latest", "--epochs", "2", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["epochs"] == 2


def test_resume_with_changed_data_needs_permission(cli, tmp_path):
    image_folder(tmp_path / "pictures")
    root = f"data.root={tmp_path / 'pictures'}"
    options = [*IMAGES, "--set", root, "--set", "data.validation=10"]
    assert cli("train", *options, "--epochs", "1").code == 0
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "pictures" / "light" / "0.png")
    refused = cli("resume", "latest", "--epochs", "2")
    assert refused.code == 4
    assert "data_sha256" in refused.err


def test_keeps_the_newest_and_the_best_checkpoint_and_nothing_else(cli, tmp_path):
    cli("train", *SMALL, "--epochs", "30", "--set", "log.keep=1")
    (run,) = stored(tmp_path)
    with StoreReader(run.database) as reader:
        steps, accuracies = reader.series("val_accuracy")
        kept = [row.step for row in reader.checkpoints()]
    best = int(steps[1:][accuracies[1:].argmax()])  # the first of equals
    assert best < 180, "the best epoch must not be the last one for this test"
    assert kept == [180, best]
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == sorted(
        f"{step:09d}.{end}" for step in (best, 180) for end in ("json", "safetensors")
    )


def test_what_a_dead_process_left_among_the_checkpoints_is_removed(cli, trained, tmp_path):
    (run,) = stored(tmp_path)
    strays = [run.checkpoints / ".0123456789abcdef.tmp", run.checkpoints / "000000005.safetensors"]
    ahead = run.checkpoints / "000000099.safetensors"
    for stray in [*strays, ahead]:
        stray.write_bytes(b"x")
    assert cli("resume", "first", "--epochs", "3").code == 0
    assert not any(stray.exists() for stray in strays)
    assert ahead.exists(), "until training has come as far"


def test_after_falling_back_the_summary_is_of_where_the_run_stands(cli, trained, tmp_path):
    from engine.data import default_data_dir
    from engine.file_control import FileControl
    from engine.session import Sitting, sit
    from engine.summary import summarize

    (run,) = stored(tmp_path)
    newest = max(run.checkpoints.glob("*.safetensors"))
    newest.write_bytes(b"damaged")
    control = FileControl(run)
    control.request_stop("test")
    sit(run, Sitting(control, lambda event: None, default_data_dir()))
    with StoreReader(run.database) as reader:
        steps, losses = reader.series("train_loss")
    assert steps.tolist() == [0, 6]
    summary = summarize(run)
    assert (summary["status"], summary["reason"]) == ("stopped", "test")
    assert (summary["steps"], summary["epoch"]) == (6, 1)
    assert summary["train_loss"] == losses[-1]


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
