"""``proxprop reproduce`` at a size of seconds."""

from __future__ import annotations

import csv

import pytest

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
    assert found["title"].endswith("(on digits, 1 of 50 epochs, 300 training samples)")
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
    assert "### backprop adam" in report
    assert "name: adam" in report


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
