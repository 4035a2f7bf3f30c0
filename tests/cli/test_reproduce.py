"""``proxprop reproduce`` at a size of seconds."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace

import pytest

from engine.experiments import EXPERIMENTS, Published
from engine.runs import Runs
from engine.store import StoreWriter
from engine.sweep_plan import Row, cell_config, plan_sweep
from proxprop_cli.output import Output
from proxprop_cli.reports import write
from proxprop_cli.sweeping import How
from tests.cli.terminal import SMALL
from tests.engine.small import config

DIGITS = ["--set", "data.name=digits", "--set", "data.validation=100", "--set", "threads=1"]
DIGITS += SMALL[:4]
DIGITS += ["--set", "batch_size=50", "--epochs", "1"]


@pytest.fixture
def skip_rendering(monkeypatch):
    """Leave the files of figures empty from now on: it takes longer than tiny trainings."""
    return lambda: monkeypatch.setattr("engine.figures.style.render", lambda *_: b"")


@pytest.fixture
def three_step_sizes(monkeypatch):
    """A Table 1 of three columns."""
    table, taus = EXPERIMENTS["table1"], (50.0, 1.0, 0.1)
    published = tuple(item for item in table.published if item.tau in taus)
    monkeypatch.setitem(EXPERIMENTS, "table1", replace(table, taus=taus, published=published))


@pytest.mark.usefixtures("three_step_sizes")
def test_a_table_from_one_command(cli, tmp_path, skip_rendering):
    folder = tmp_path / "out"
    command = ["reproduce", "table1", *DIGITS, "--methods", "backprop,cg3", "-o", str(folder)]
    answer = cli(*command, "--jobs", "2", "--json")
    assert answer.code == 0, answer.err
    assert "6 of 6 runs to be trained, about" in answer.err
    found = answer.json
    assert (found["runs"], found["ended"]) == (6, 6)
    told = "(on digits, 1 of 50 epochs, 300 training samples, batch_size 50, "
    assert found["title"].endswith(f"{told}data.validation 100, model.hidden [16])")
    figures = {(item["method"], item["tau"]): item for item in found["figures"]}
    assert len(figures) == 6
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
    assert len(beside) == 6
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

    skip_rendering()
    again = cli(*command, "--json")
    assert "runs to be trained" not in again.err
    assert again.json["figures"] == found["figures"]
    only = cli(*command, "--report-only", "--json")
    assert only.json["figures"] == found["figures"]

    bad = runs[0]["run"]
    (tmp_path / "runs" / bad / "run.db").write_bytes(b"nonsense" * 1000)
    rest = cli(*command, "--report-only", "--json")
    assert rest.code == 0, rest.err
    assert f"run {bad} is left out: " in rest.err
    assert (rest.json["ended"], rest.json["complete"]) == (5, False)
    assert f"run {bad} is left out: " in (folder / "report.md").read_text()


def test_report_only_trains_nothing(cli, tmp_path):
    folder = tmp_path / "out"
    data = [*DIGITS[:6], "--epochs", "1"]
    answer = cli("reproduce", "fig3", *data, "--report-only", "-o", str(folder))
    assert answer.code == 0, answer.err
    assert "not complete: 0 of 3 runs have ended" in answer.out
    assert "Not complete: 0 of 3" in (folder / "report.md").read_text()
    assert not (tmp_path / "runs").exists()


def test_rows_of_one_s_own_and_the_adam_of_fig2(cli, tmp_path, skip_rendering):
    skip_rendering()
    answer = cli("reproduce", "fig2", *DIGITS, "-o", str(tmp_path / "out"), "--json")
    assert answer.code == 0, answer.err
    methods = [item["method"] for item in answer.json["figures"]]
    assert methods == ["backprop", "exact", "cg3", "cg5", "cg10"]
    report = (tmp_path / "out" / "report.md").read_text()
    settings = report.partition("## Settings")[2]
    assert "data.name: digits" in settings
    assert settings.count("batch_size") == 1
    assert re.search(r"\| backprop adam \| backprop \| .*\| adam \|", settings)
    assert "method.tau" in settings


def test_differences_of_accuracies_are_points_and_nothing_is_hidden(
    tmp_path, capsys, skip_rendering
):
    skip_rendering()
    rows = [Row(name, config(name), (1.0,)) for name in ("cg3", "exact", "backprop", "cg10")]
    sweep = plan_sweep("digits-mlp", rows, (0, 1, 2), kind="comparison")
    runs = Runs(tmp_path / "runs")
    made = {
        ("cg3", 0): {"test_accuracy": 0.321, "train_loss": 0.25},
        ("cg3", 1): None,
        **{("exact", seed): {"test_accuracy": 0.5, "train_loss": 0.25} for seed in range(3)},
        **{("backprop", seed): None for seed in range(3)},
    }
    for cell in sweep.cells:
        if (cell.label, cell.seed) in made:
            metrics = made[cell.label, cell.seed]
            run = runs.create(cell_config(sweep, cell), id=cell.run)
            with StoreWriter(run.database) as writer:
                writer.append_metrics(9, metrics or {"train_loss": math.nan})
                status = "finished" if metrics else "diverged"
                writer.set_state({"status": status, "metrics": metrics or {}})
    methods = ("cg3", "exact", "backprop", "cg10")
    published = (
        Published(("cg3",), "test_accuracy", 0.707, "Fig. 3"),
        Published(("exact", "backprop", "cg10"), "train_loss", 0.5, "Table 1"),
    )
    experiment = replace(EXPERIMENTS["fig2"], methods=methods, published=published)
    how = How(runs, Output(), None, jobs=None, plain=True, detach=False)
    write(experiment, sweep, how, tmp_path / "out", command="proxprop")
    table = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["cg3", "-", "test accuracy", "70.7 %", "32.1 % (1/3) ✖ 1…", "-38.6 points"] in table
    assert ["exact", "-", "train loss", "0.5", "0.25", "-0.25"] in table
    assert ["backprop", "-", "train loss", "0.5", "✖ 3", "-"] in table
    assert ["cg10", "-", "train loss", "0.5", "-…", "-"] in table


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_title_names_the_settings_that_are_not_the_preset_s(cli, tmp_path, name):
    command = ["reproduce", name, "--report-only", "--json", "-o", str(tmp_path / "out")]
    title = EXPERIMENTS[name].title
    assert cli(*command).json["title"] == title
    changed = cli(*command, "--set", "model.activation=tanh", "--set", "max_seconds=5").json
    assert changed["title"] == f"{title} (max_seconds 5, model.activation tanh)"


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
