"""``proxprop export`` of sweeps and in other formats; runs as CSV are in test_commands."""

from __future__ import annotations

import csv
import io
import math
import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from engine.runs import Runs
from engine.store_reader import StoreReader
from engine.sweeps import save_sweep
from tests.cli.terminal import no_file
from tests.dashboard.sweep_helper import Made, make_sweep

CELLS = [
    ("backprop", 1.0, 0, Made("diverged", math.nan, bad_step=3)),
    ("backprop", 0.1, 0, Made(loss=0.5)),
    ("cg3", 1.0, 0, Made(loss=0.25)),
    ("cg3", 0.1, 0, Made(None)),
]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def sweep(root):
    return make_sweep(root, CELLS)


def logged(root, *runs):
    found = []
    for run in runs:
        with StoreReader(root / run / "run.db") as reader:
            found += [(run, step, key, repr(value)) for step, key, value in reader.rows()]
    return found


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def cells_of(text):
    return [
        (row["run"], int(row["step"]), row["key"], repr(float(row["value"])))
        for row in rows_of(text)
    ]


MADE = ("sweep-0", "sweep-1", "sweep-2")


def test_a_sweep_is_its_table(cli, sweep, tmp_path):
    answer = cli("export", "sweep")
    assert (answer.code, answer.err) == (0, "")
    rows = rows_of(answer.out)
    assert [row["run"] for row in rows] == [*MADE, ""]
    assert [row["train_loss"] for row in rows] == ["nan", "0.5", "0.25", ""]
    out = tmp_path / "table.csv"
    document = cli("export", "sweep", "sweep", "-o", str(out), "--json").json
    assert document == {"path": str(out), "rows": 4, "sweep": "sweep", "runs": list(MADE)}
    assert out.read_text() == answer.out


def test_wide_a_sweep_is_its_grid(cli, sweep):
    rows = rows_of(cli("export", "sweep", "--wide").out)
    assert [(row["row"], row["1.0"], row["0.1"]) for row in rows] == [
        ("backprop", "diverged 1/1", "0.5"),
        ("cg3", "0.25", ""),
    ]


def test_wide_a_comparison_is_its_means(cli, root, tmp_path):
    sweep = make_sweep(root, [("exact", 1.0, seed, Made(loss=0.25)) for seed in (0, 1)])
    save_sweep(root, replace(sweep, id="comparison-a", kind="comparison", level=0.25))
    answer = cli("export", "comparison-a", "--wide")
    assert (answer.code, answer.err) == (0, "")
    rows = {row["figure"]: row for row in rows_of(answer.out)}
    assert rows["train_loss"] | {"row": "exact", "n": "2", "mean": "0.25"} == rows["train_loss"]
    assert {row["common_train_loss"] for row in rows.values()} == {"0.25"}
    out = tmp_path / "means.csv"
    document = cli("export", "comparison-a", "--wide", "-o", str(out), "--json").json
    assert document["rows"] == len(rows)
    assert out.read_text() == answer.out


def test_metrics_of_a_sweep_are_those_of_its_runs(cli, sweep, root):
    answer = cli("export", "sweep", "--metrics")
    assert cells_of(answer.out) == logged(root, *MADE)
    assert answer.out == cli("export", *MADE).out
    wide = cli("export", "sweep", "--metrics", "--wide").out
    assert wide == cli("export", *MADE, "--wide").out
    assert "train_loss" in wide.splitlines()[0]


def test_every_run_is_exported_once(cli, sweep, root):
    answer = cli("export", "sweep-2", "sweep", "sweep-2", "sweep-0", "--metrics")
    assert cells_of(answer.out) == logged(root, "sweep-2", "sweep-0", "sweep-1")
    assert cells_of(cli("export", "sweep-1", "sweep-1").out) == logged(root, "sweep-1")


@pytest.mark.parametrize("more", ["sweep-1", "other"])
def test_a_table_is_exported_alone(cli, sweep, root, tmp_path, more):
    make_sweep(root, [("exact", 1.0, 0, Made())], id="other")
    out = tmp_path / "out.csv"
    answer = cli("export", more, "sweep", "-o", str(out))
    assert answer.code == 2
    assert "--metrics" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not out.exists()
    assert cli("export", more, "sweep", "-o", str(out), "--metrics").code == 0


def test_parquet_holds_the_metrics_of_a_sweep(cli, sweep, root, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out.parquet"
    document = cli("export", "sweep", "--format", "parquet", "-o", str(out), "--json").json
    expected = logged(root, *MADE)
    assert document == {"path": str(out), "rows": len(expected), "runs": list(MADE)}
    found = pq.read_table(out).to_pylist()
    assert [(r["run"], r["step"], r["key"], repr(r["value"])) for r in found] == expected
    wide = ("export", "sweep", "--format", "parquet", "-o", str(out), "--wide")
    assert cli(*wide).code == 2
    answer = cli(*wide, "--force")
    assert f"wrote {pq.read_metadata(out).num_rows} rows to {out}" in answer.out
    assert "train_loss" in pq.read_schema(out).names


@pytest.mark.parametrize("more", [(), ("--metrics",), ("--wide",)])
def test_a_file_is_replaced_only_by_force(cli, sweep, tmp_path, more):
    out = tmp_path / "out.csv"
    export = ("export", "sweep", "-o", str(out), *more)
    out.write_text("of a person")
    answer = cli(*export)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"proxprop: --output: {out} is there already; --force replaces it\n"
    assert out.read_text() == "of a person"
    assert cli(*export, "--force").code == 0
    assert out.read_text() == cli("export", "sweep", *more).out
    # our own is a person's too
    assert cli(*export).code == 2
    link = tmp_path / "link.csv"
    link.symlink_to(out)
    assert cli("export", "sweep", "-o", str(link)).code == 2


@pytest.mark.parametrize("kind", ["folder", "socket"])
@pytest.mark.parametrize("more", [(), ("--force",), ("--metrics", "--force")])
def test_only_files_and_streams_are_written_to(cli, sweep, tmp_path, kind, more):
    out = tmp_path / "out.csv"
    with no_file(out, kind):
        answer = cli("export", "sweep", "-o", str(out), *more)
        found = "a folder" if kind == "folder" else "something else"
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == f"proxprop: --output: {out}: expected a file, found {found}\n"
        assert out.exists()
        assert not out.is_file()


def test_the_folder_of_a_file_is_there(cli, sweep, tmp_path):
    answer = cli("export", "sweep", "-o", str(tmp_path / "none" / "out.csv"))
    assert answer.code == 6
    assert answer.err.endswith("out.csv: there is no such folder\n")
    assert not (tmp_path / "none").exists()


def test_what_is_no_file_is_written_to(cli, sweep, tmp_path):
    assert cli("export", "sweep", "-o", "/dev/null").code == 0
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        received = pool.submit(pipe.read_text)
        assert cli("export", "sweep", "-o", str(pipe)).code == 0
    assert received.result() == cli("export", "sweep").out
    assert cli("export", "sweep", "-o", "-", "--force").code == 0


def test_tensorboard_holds_the_metrics_of_a_sweep(cli, sweep, root, tmp_path):
    pytest.importorskip("tensorboard")
    out = tmp_path / "logs"
    arguments = ("export", "sweep", "--format", "tensorboard", "-o", str(out))
    document = cli(*arguments, "--json").json
    assert document["rows"] == len(logged(root, *MADE))
    assert sorted(path.name for path in out.iterdir()) == list(MADE)
    again = cli(*arguments)
    assert again.code == 2
    assert "holds event files already" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "xls"], "expected csv, parquet or tensorboard, found 'xls'"),
        (["--format", "parquet"], "give a file with --output"),
        (["--format", "tensorboard", "-o", "-"], "give a folder with --output"),
        (["--format", "tensorboard", "-o", "x", "--wide"], "--wide"),
        (["--json"], "give a file with --output"),
    ],
)
def test_options_that_do_not_fit(cli, sweep, arguments, said):
    answer = cli("export", "sweep", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_sweep_without_runs(cli, root):
    make_sweep(root, [("exact", 1.0, 0, Made(None))])
    assert len(rows_of(cli("export", "sweep").out)) == 1
    answer = cli("export", "sweep", "--metrics")
    assert answer.code == 2
    assert "none of its runs was made yet" in answer.err


def test_a_damaged_run_is_a_state_in_the_table_and_left_out_of_metrics(cli, sweep, root):
    (root / "sweep-1" / "run.db").write_bytes(b"no database" * 100)
    rows = rows_of(cli("export", "sweep").out)
    assert [row["status"] for row in rows] == ["diverged", "unreadable", "finished", "waiting"]
    answer = cli("export", "sweep", "--metrics")
    assert {row["run"] for row in rows_of(answer.out)} == {"sweep-0", "sweep-2"}
    assert "sweep-1 is unreadable and left out" in answer.err
    answer = cli("export", "sweep-1")
    assert (answer.code, answer.out) == (6, "")
    assert "sweep-1" in answer.err


@pytest.mark.parametrize(("kind", "package"), [("parquet", "pyarrow"), ("tensorboard",) * 2])
def test_a_missing_extra_is_one_line(cli, sweep, tmp_path, monkeypatch, kind, package):
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    answer = cli("export", "sweep", "--format", kind, "-o", str(tmp_path / "out"))
    assert answer.code == 2
    assert answer.err == (
        f"proxprop: --format {kind} needs the extra: pip install 'proxprop[{kind}]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_more_runs_than_files_may_be_open(cli, root, tmp_path):
    count = 24
    cells = [("exact", 1.0, seed, Made()) for seed in range(count)]
    make_sweep(root, cells)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, hard))
    try:
        answers = [cli("export", "sweep", "--metrics", *more) for more in ([], ["--wide"])]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [answer.err for answer in answers] == ["", ""]
    assert len({row["run"] for row in rows_of(answers[0].out)}) == count


def test_a_terminal_gets_no_control_characters(cli, root, monkeypatch):
    evil = "evil\x1b[31m\u202e"
    make_sweep(root, CELLS[:1])
    named = Runs(root).find("sweep-0")
    named.save_config(named.config().model_copy(update={"name": evil}))
    assert evil in cli("export", "sweep-0").out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    shown = cli("export", "sweep-0").out
    assert "evil\\x1b[31m\\u202e" in shown
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    assert len(shown.splitlines()) == 1 + len(logged(root, "sweep-0"))
