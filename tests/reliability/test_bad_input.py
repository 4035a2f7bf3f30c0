"""What a person may type wrong, and what they are told: one line each, and nothing is lost."""

from __future__ import annotations

import csv
import io
import os
import pickle
import socket

import pytest

from engine.data.torchvision_import import import_torchvision
from engine.runs import Runs
from engine.store import StoreWriter
from tests.cli.terminal import SMALL
from tests.dashboard.runs_helper import make_run
from tests.engine.data.test_data_vision import DATA_FAULT
from tests.reliability.report import BAD_INPUT, promise

PRESET = """\
batch_size: 50
epochs: 1
data: {name: digits, train_samples: 300}
model: {kind: mlp, hidden: [16]}
method: {name: exact, tau: %s}
"""


@pytest.fixture
def preset(cli, tmp_path):
    """Train a preset file; its text may end in more lines, which begin at line 6."""

    def train(more="", tau="1.0", text=None):
        path = tmp_path / "file.yaml"
        path.write_text(PRESET % tau + more if text is None else text)
        return cli("train", "--preset", str(path), "--plain", "--device", "cpu")

    return train


def refused(answer, code, *words):
    assert answer.code == code, answer.err
    (line,) = answer.err.splitlines()
    assert line.startswith("proxprop: ")
    for word in words:
        assert word in line
    assert answer.out == ""


@promise(BAD_INPUT, "broken YAML", "`file.yaml:7:3: expected …`, exit 2")
def test_broken_yaml(preset):
    refused(preset("\n\u0020\u0020log: {keep: 1}\n"), 2, "file.yaml:7:3: expected")


@promise(BAD_INPUT, "unknown key", "names it and the nearest right one, exit 2")
def test_unknown_key(preset):
    refused(preset("optimizer: {momentm: 0.9}\n"), 2, "momentm", "did you mean", "momentum")


@promise(BAD_INPUT, "duplicate key", "refused, exit 2")
def test_duplicate_key(preset):
    refused(preset("epochs: 2\n"), 2, "file.yaml:6:1: expected each key once", "'epochs'")


@promise(BAD_INPUT, "`tau: 1e-3`, which YAML 1.1 reads as text", "a number, exit 0")
@pytest.mark.parametrize("tau", ["1e-3", "+1E-3", ".001"])
def test_numbers_without_a_point(preset, tmp_path, tau):
    assert preset(tau=tau).code == 0
    assert Runs(tmp_path / "runs").find("latest").config().method.tau == 1e-3


@promise(
    BAD_INPUT,
    "wrong type, NaN, infinity, out of range",
    "field, value and what is allowed, exit 2",
)
@pytest.mark.parametrize(
    ("tau", "more", "words"),
    [
        ("fast", "", ["method.tau", "number", "'fast'"]),
        (".nan", "", ["method.tau", "nan"]),
        (".inf", "", ["method.tau", "inf"]),
        ("-1", "", ["method.tau", "greater than 0", "-1"]),
        ("1", "seed: 1.5\n", ["seed", "1.5"]),
        ("1", "optimizer: {momentum: 1.0}\n", ["optimizer.momentum", "less than 1", "1.0"]),
        ("1", "loss: hinge\n", ["loss", "hinge"]),
    ],
)
def test_wrong_values(preset, tmp_path, tau, more, words):
    refused(preset(more, tau), 2, *words)
    assert not (tmp_path / "runs").exists()


@promise(BAD_INPUT, "YAML aliases, more than 256 KiB", "refused, exit 2")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: [*x, *x]\n", "the anchor '&x'"),
        ("a: *x\n", "the alias '*x'"),
        ("a: " + "x" * (1 << 18), "at most 256 KiB"),
    ],
)
def test_aliases_and_size(preset, text, said):
    refused(preset(text=text), 2, said)


@DATA_FAULT
def test_data_that_are_not_there(cli, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/usps.bz2"
    parts = {"train": [url, "usps.bz2", "0" * 32], "test": [url, "usps.t.bz2", "0" * 32]}
    monkeypatch.setattr(import_torchvision().datasets.USPS, "split_list", parts)
    answer = cli("train", "--preset", "usps-mlp", "--data-dir", str(tmp_path / "data"))
    refused(answer, 3, "usps.bz2 is not in", str(tmp_path / "data"), "put the file there yourself")
    assert not (tmp_path / "runs").exists()


@promise(BAD_INPUT, "checkpoint replaced by a pickle", "refused, never loaded, exit 4")
def test_a_pickle(cli, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    assert cli("train", *SMALL, "--epochs", "1").code == 0
    run = Runs(tmp_path / "runs").find("latest")
    for path in run.checkpoints.iterdir():
        path.write_bytes(pickle.dumps(Bomb()))
    refused(cli("resume", run.id, "--epochs", "2"), 4, "none of its", "nothing was changed")
    assert not (tmp_path / "exploded").exists()


@promise(
    BAD_INPUT,
    "run id `../x`, absolute, with NUL, a link out of the folder",
    "`invalid run id`, exit 2",
)
@pytest.mark.parametrize("command", [["runs", "show"], ["export"], ["stop"], ["runs", "delete"]])
@pytest.mark.parametrize("id", ["../x", "/etc", "no\0de", "link"])
def test_run_ids(cli, tmp_path, command, id):
    outside = make_run(tmp_path / "elsewhere")
    make_run(tmp_path / "runs")
    (tmp_path / "runs" / "link").symlink_to(outside.path)
    more = ["--yes"] if command[-1] == "delete" else []
    refused(cli(*command, id, *more), 2, "invalid run id")
    assert outside.exists()


@promise(BAD_INPUT, "names with escape sequences", "shown escaped, no raw control byte, exit 0")
def test_names(cli):
    name = "evil\x1b[31m\x07\u202e\x9bname"
    assert cli("train", *SMALL, "--epochs", "0", "--name", name).code == 0
    shown = [cli("runs", "list"), cli("runs", "show", "latest"), cli("runs", "list", "--json")]
    for answer in shown:
        assert answer.code == 0
        text = answer.out + answer.err
        assert not any(
            ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e" for c in text if c != "\n"
        )
    assert shown[2].json["runs"][0]["name"] == name


@promise(
    BAD_INPUT,
    "CSV cells that start with `=`, `+`, `-`, `@`",
    "prefixed with `'` in columns of text; numbers stay numbers, exit 0",
)
@pytest.mark.parametrize("start", list("=+-@"))
def test_formulas(cli, tmp_path, start):
    run = make_run(tmp_path / "runs", name=f"{start}1+1")
    with StoreWriter(run.database) as writer:
        writer.append_metrics(10_000, {f"{start}key": -1.5})
    answer = cli("export", run.id)
    assert answer.code == 0
    rows = list(csv.DictReader(io.StringIO(answer.out, newline="")))
    assert {row["name"] for row in rows} == {f"'{start}1+1"}
    assert rows[-1]["key"] == f"'{start}key"
    assert rows[-1]["value"] == "-1.5"


@promise(
    BAD_INPUT,
    "a sweep of a million runs",
    "refused with the count before anything is made; `--max-runs` raises the limit, exit 2",
)
def test_a_huge_sweep(cli, tmp_path):
    grid = ["sweep-tau", "--tau", "logspace(1e-4,1,1000)", "--methods", "exact"]
    refused(cli(*grid, "--seeds", "1000"), 2, "1,000,000 runs", "--max-runs")
    assert not (tmp_path / "runs").exists()
