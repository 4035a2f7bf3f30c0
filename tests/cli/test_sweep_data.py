"""Results belong to the content of their data: sweeps of data that were changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from engine.sweeps import all_sweeps
from tests.cli.sweeps import times_started
from tests.cli.terminal import Answer
from tests.reliability.report import MORE, promise

CHANGED = promise(
    MORE,
    "a sweep whose data were changed since its runs were trained",
    "refused in one line that names the runs, exit 3; no table has runs of both",
)


def draw(root: Path, seed: int) -> None:
    """16 images of two classes; of one size in bytes whatever the seed, and always as old."""
    random = np.random.default_rng(seed)
    for number in range(16):
        path = root / "ab"[number % 2] / f"{number:02}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (6, 6), np.uint8)
        Image.fromarray(pixels).save(path)
        os.utime(path, (1e9, 1e9))


@pytest.fixture
def pictures(tmp_path):
    draw(tmp_path / "pictures", 0)
    return tmp_path / "pictures"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def settings(pictures):
    return [
        "--set=data.name=imagefolder",
        f"--set=data.root={pictures}",
        "--set=data.validation=2",
        "--set=model.hidden=[4]",
        "--batch-size=4",
        "--epochs=1",
        "--seeds=1",
        "--plain",
    ]


def assert_refused(answer: Answer, count: str) -> None:
    assert answer.code == 3, answer.err
    line = answer.err.strip().splitlines()[-1]
    assert count in line
    assert "were trained on other data than there are now (SHA-256 " in line
    assert "proxprop runs delete" in line


@CHANGED
def test_a_larger_sweep_of_changed_data(cli, root, pictures, settings):
    grid = ["sweep-tau", *settings, "--methods=backprop"]
    assert cli(*grid, "--tau=0.1,0.01").code == 0
    draw(pictures, 1)
    before = times_started(root)
    assert_refused(cli(*grid, "--tau=0.1,0.01,0.001"), "2 of its 3 runs")
    assert times_started(root) == before
    assert len(all_sweeps(root)) == 1, "nothing was made"

    # what the message says helps
    assert cli("runs", "delete", "--yes", *before).code == 0
    answer = cli(*grid, "--tau=0.1,0.01,0.001", "--json")
    assert answer.code == 0, answer.err
    assert len({digest_of(root, cell["run"]) for cell in answer.json["cells"]}) == 1

    # and so do the old data
    draw(pictures, 0)
    assert_refused(cli(*grid, "--tau=0.1,0.01,0.001"), "3 of its 3 runs")
    draw(pictures, 1)
    assert cli(*grid, "--tau=0.1,0.01,0.001").code == 0


@CHANGED
@pytest.mark.parametrize("command", ["compare", "resume"])
def test_a_comparison_of_changed_data(cli, root, pictures, settings, command):
    again = ["compare", *settings, "--methods=backprop,exact"]
    assert cli(*again).code == 0
    if command == "resume":
        again = ["resume", all_sweeps(root)[0].id, "--plain"]
    assert cli(*again).code == 0
    draw(pictures, 1)
    assert_refused(cli(*again), "2 of its 2 runs")


@CHANGED
def test_other_contenders_of_changed_data(cli, pictures, settings):
    assert cli("compare", *settings, "--methods=backprop,exact").code == 0
    draw(pictures, 1)
    assert_refused(cli("compare", *settings, "--methods=backprop,cg3"), "1 of its 2 runs")


@CHANGED
def test_runs_of_two_data_sets_are_in_no_table_together(cli, root, tmp_path, pictures, settings):
    """However they came into it: here a run is replaced by one that was trained elsewhere."""
    grid = ["sweep-tau", *settings, "--methods=backprop", "--tau=0.1,0.01,0.001"]
    first = cli(*grid, "--json").json
    lost = first["cells"][0]["run"]
    assert cli("runs", "delete", "--yes", lost).code == 0
    other = tmp_path / "other"
    draw(pictures, 1)
    assert cli(*grid, f"--dir={other}").code == 0
    (other / lost).rename(root / lost)
    answer = cli("runs", "show", first["sweep"], "--json")
    statuses = {cell["run"]: cell["status"] for cell in answer.json["cells"]}
    assert statuses.pop(lost) == "unreadable"
    assert set(statuses.values()) == {"finished"}
    assert f"run {lost} is left out: it was trained on other data" in answer.err
    draw(pictures, 0)
    assert_refused(cli("resume", first["sweep"], "--plain"), "1 of its 3 runs")


def digest_of(root: Path, run: str) -> str:
    with StoreReader(Runs(root).find(run).database) as reader:
        return str(reader.state()["environment"]["data_sha256"])


@CHANGED
def test_what_has_not_ended_may_go_on_with_other_data(cli, root, pictures, settings):
    assert cli("compare", *settings, "--methods=backprop,exact").code == 0
    (sweep,) = all_sweeps(root)
    run = Runs(root).find(str(sweep.cells[0].run))
    with run.lock(), StoreWriter(run.database) as writer:
        writer.set_state({"status": "stopped"})
    draw(pictures, 1)
    assert_refused(cli("resume", sweep.id, "--plain"), "2 of its 2 runs")
    assert_refused(cli("resume", sweep.id, "--plain", "--allow-inexact"), "1 of its 2 runs")


@CHANGED
def test_many_runs_are_deleted_by_their_sweep(cli, root, pictures, settings):
    grid = ["sweep-tau", *settings, "--methods=backprop,exact", "--tau=0.1,0.01"]
    assert cli(*grid).code == 0
    (sweep,) = all_sweeps(root)
    draw(pictures, 1)
    answer = cli(*grid, "--seeds=2")
    assert_refused(answer, "4 of its 8 runs")
    assert f"'proxprop runs delete {sweep.id}'" in answer.err
    assert cli("runs", "delete", "--yes", sweep.id).code == 0
    assert cli(*grid, "--seeds=2").code == 0
