"""``proxprop reproduce`` at a size of seconds."""

from __future__ import annotations

import csv
import math
import re

import pytest

from engine.comparison import Statistic
from engine.experiments import EXPERIMENTS, Published
from engine.reproduction import Beside
from proxprop_cli.reports import _row, changed_settings
from tests.cli.terminal import SMALL

DIGITS = ["--set", "data.name=digits", "--set", "data.validation=100", "--set", "threads=1"]
DIGITS += SMALL[:4]
DIGITS += ["--set", "batch_size=50", "--epochs", "1"]


def test_a_table_from_one_command(terminal, tmp_path):
    folder = tmp_path / "out"
    command = ["reproduce", "table1", *DIGITS, "--methods", "backprop,cg3", "-o", str(folder)]
    answer = terminal(*command, "--jobs", "2", "--json")
    assert answer.code == 0, answer.err
    assert "18 of 18 runs to be trained, about" in answer.err
    found = answer.json
    assert (found["runs"], found["ended"]) == (18, 18)
    told = "(on digits, 1 of 50 epochs, 300 training samples, batch_size 50, "
    assert found["title"].endswith(f"{told}data.validation 100, model.hidden [16])")
    figures = {(item["method"], item["tau"]): item for item in found["figures"]}
    assert len(figures) == 18
    with (folder / "runs.csv").open(newline="") as stream:
        runs = list(csv.DictReader(stream))
    for run in runs:
        mean = figures[run["method"], float(run["tau"])]["mean"]
        if run["status"] == "finished":
            assert mean == float(run["train_loss"])
    with (folder / "grid.csv").open(newline="") as stream:
        assert [row["row"] for row in csv.DictReader(stream)] == ["backprop", "cg3"]
    with (folder / "published.csv").open(newline="") as stream:
        beside = list(csv.DictReader(stream))
    assert len(beside) == 18
    for row in beside:
        ours = figures[row["method"], float(row["tau"])]
        for key in ("mean", "ci95", "n", "published", "difference"):
            number = None if row[key] in ("", "nan") else float(row[key])
            assert number == ours[key]
    with (folder / "means.csv").open(newline="") as stream:
        means = {row["row"]: row for row in csv.DictReader(stream) if row["figure"] == "test_loss"}
    assert "cg3 tau=0.1" in means
    report = (folder / "report.md").read_text()
    assert report.startswith("# Table 1")
    assert "- data: digits" in report
    assert "Not complete" not in report
    for name in ("stability.png", "heatmap.png"):
        assert f"]({name})" in report
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert (folder / name).with_suffix(".svg").is_file()

    again = terminal(*command, "--json")
    assert "runs to be trained" not in again.err
    assert again.json["figures"] == found["figures"]
    only = terminal(*command, "--report-only", "--json")
    assert only.json["figures"] == found["figures"]

    bad = runs[0]["run"]
    (terminal.runs / bad / "run.db").write_bytes(b"nonsense" * 1000)
    rest = terminal(*command, "--report-only", "--json")
    assert rest.code == 0, rest.err
    assert f"run {bad} is left out: " in rest.err
    assert (rest.json["ended"], rest.json["complete"]) == (17, False)
    assert f"run {bad} is left out: " in (folder / "report.md").read_text()


def test_report_only_trains_nothing(terminal, tmp_path):
    folder = tmp_path / "out"
    data = [*DIGITS[:6], "--epochs", "1"]
    answer = terminal("reproduce", "fig3", *data, "--report-only", "-o", str(folder))
    assert answer.code == 0, answer.err
    assert "not complete: 0 of 3 runs have ended" in answer.out
    assert "Not complete: 0 of 3" in (folder / "report.md").read_text()
    assert not terminal.runs.exists()


def test_rows_of_one_s_own_and_the_adam_of_fig2(terminal, tmp_path):
    answer = terminal("reproduce", "fig2", *DIGITS, "-o", str(tmp_path / "out"), "--json")
    assert answer.code == 0, answer.err
    methods = [item["method"] for item in answer.json["figures"]]
    assert methods == ["backprop", "exact", "cg3", "cg5", "cg10"]
    report = (tmp_path / "out" / "report.md").read_text()
    settings = report.partition("## Settings")[2]
    assert "data.name: digits" in settings
    assert settings.count("batch_size") == 1
    assert re.search(r"\| backprop adam \| backprop \| .*\| adam \|", settings)
    assert "method.tau" in settings


def test_differences_of_accuracies_are_points_and_nothing_is_hidden():
    one = Published(("cg3",), "test_accuracy", 0.707, "Fig. 3")
    ours = Statistic(0.321, math.nan, 1, math.nan)
    row = _row(Beside(one, "cg3", ours, diverged=1, seeds=3, complete=False))
    assert row[3:] == ["70.7 %", "32.1 % (1/3) ✖ 1…", "-38.6 points"]
    loss = Published(("cg3",), "train_loss", 0.5, "Table 1", 1.0)
    row = _row(Beside(loss, "cg3", Statistic(0.25, 0.1, 3, 0.2), 0, 3, complete=True))
    assert row[3:] == ["0.5", "0.25", "-0.25"]
    assert _row(Beside(loss, "cg3", None, 3, 3, complete=True))[4:] == ["✖ 3", "-"]
    assert _row(Beside(loss, "cg3", None, 0, 3, complete=False))[4:] == ["-…", "-"]


def test_the_changed_settings_are_those_beside_the_preset():
    from engine.sweep_plan import plan_sweep
    from proxprop_cli.commands.reproduce import _rows

    for name, experiment in EXPERIMENTS.items():
        sweep = plan_sweep(name, _rows(experiment, None, {}, None), (0,), kind=experiment.kind)
        assert changed_settings(experiment, sweep) == []
        rows = _rows(experiment, ["model.activation=tanh"], {"max_seconds": 5.0}, None)
        sweep = plan_sweep(name, rows, (0,), kind=experiment.kind)
        assert changed_settings(experiment, sweep) == ["max_seconds 5", "model.activation tanh"]


@pytest.mark.parametrize("name", ["report.md", "runs.csv", "curves.svg"])
def test_files_of_a_person_are_not_replaced(cli, tmp_path, name):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / name).write_text("# Made by hand")
    command = ["reproduce", "fig3", *DIGITS[:6], "--epochs", "1", "--report-only", "-o"]
    answer = cli(*command, str(folder))
    assert answer.code == 2
    assert f"holds no report of 'reproduce', but a {name}" in answer.err
    assert (folder / name).read_text() == "# Made by hand"
    assert cli(*command, str(folder), "--force").code == 0
    assert (folder / "report.md").read_text().startswith("# ")
    (folder / "grid.csv").unlink(missing_ok=True)
    (folder / "grid.csv").mkdir()
    answer = cli(*command, str(folder), "--force")
    assert answer.code == 2
    assert f"{folder / 'grid.csv'}: expected a file, found something else" in answer.err
    (folder / "grid.csv").rmdir()
    # by now it is a report, which is made anew whenever it is asked for
    assert cli(*command, str(folder)).code == 0
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["fig9"], "expected fig2, table1, fig3"),
        (["fig2", "--methods", "kfac"], "--methods: expected backprop"),
        (["fig2", "--scale", "0.1", "--epochs", "3"], "give one of them"),
        (["fig2", "--scale", "2"], "--scale"),
        (["fig2", "-o", __file__], "expected a folder"),
    ],
)
def test_bad_input(cli, arguments, text):
    answer = cli("reproduce", *arguments)
    assert answer.code == 2
    assert text in answer.err
