"""Runs that somebody sent, or that were damaged: told of, and never in the way of the others."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from engine.errors import StorageError
from engine.figures.read_curves import read_groups
from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from proxprop_cli.dashboard.exports import write_metrics
from tests.dashboard.runs_helper import make_run
from tests.engine.test_received_stores import REFUSED, STRANGE
from tests.reliability.report import MORE, promise

OTHERS = promise(
    MORE,
    "the store of another run in the place of a run's",
    "unreadable with the reason; of a run of an earlier version `runs show` and `doctor` say so",
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def hostile(root):
    run = make_run(root, id="hostile")
    with closing(sqlite3.connect(run.database)) as connection:
        connection.executescript(STRANGE["a view for a table"])
    return run


@REFUSED
def test_the_others_are_listed(cli, root, hostile):
    make_run(root, id="healthy")
    listed = {run["id"]: run for run in cli("runs", "list", "--json").json["runs"]}
    assert listed["healthy"]["status"] == "finished"
    assert listed["hostile"]["status"] == "unreadable"
    assert "found another view 'state'" in listed["hostile"]["reason"]
    answer = cli("runs", "list")
    assert answer.code == 0
    assert "healthy" in answer.out
    assert answer.err.startswith("hostile is unreadable: ")
    for command in (["runs", "show"], ["export"], ["resume"], ["pause"]):
        answer = cli(*command, hostile.id)
        assert (answer.code, answer.err.count("\n")) == (6, 1), answer
    assert "view 'state'" in cli("doctor").out.replace("\n", " ")


def test_many_that_can_not_be_read_are_counted(cli, root):
    for number in range(12):
        make_run(root, id=f"run-{number:02}").database.write_bytes(b"")
    lines = cli("runs", "list").err.splitlines()
    assert len(lines) == 9
    assert lines[-1].startswith("and 4 more")


@REFUSED
def test_one_that_can_not_be_deleted_does_not_keep_the_others(cli, root, hostile):
    live, other = make_run(root, id="live"), make_run(root, id="other")
    with RunLock(live.lock_file):
        answer = cli("runs", "delete", "live", "hostile", "other", "--yes", "--json")
    assert answer.code == 5
    assert answer.json == {"deleted": ["hostile", "other"]}
    assert "live is in use" in answer.err
    assert live.exists()
    assert not other.exists()


@REFUSED
def test_the_others_are_exported(root, hostile, tmp_path):
    healthy = make_run(root, id="healthy")
    rows, problems = write_metrics(tmp_path / "all.csv", [healthy, hostile])
    assert rows > 100
    assert problems[0].startswith("hostile is unreadable and left out: ")
    with pytest.raises(StorageError, match="hostile"):
        write_metrics(tmp_path / "none.csv", [hostile])


@OTHERS
def test_the_store_of_another_run_is_told_of(cli, root):
    run = make_run(root, id="mine", method__tau=1.0)
    other = make_run(root / "others", "backprop", id="theirs", method__tau=0.25)
    assert cli("runs", "show", "mine").err == ""
    shutil.copy(other.database, run.database)
    (listed,) = cli("runs", "list", "--json").json["runs"]
    assert "database of another run" in listed["reason"]
    assert "database of another run" in cli("doctor").out.replace("\n", " ")
    run.lock_file.write_bytes(b"")  # earlier versions kept nothing in it
    (listed,) = cli("runs", "list", "--json").json["runs"]
    assert (listed["method"], listed["tau"]) == ("backprop", 0.25), "as its figures are"
    problem = "run.db is not of this config.yaml: it has method backprop instead of exact, tau 0.25"
    assert problem in cli("runs", "show", "mine").err
    doctor = cli("doctor", "--json")
    assert doctor.code == 1
    (stores,) = (one for one in doctor.json["findings"] if one["name"] == "stores")
    assert problem in stores["text"]


@OTHERS
def test_a_run_that_is_trained_for_longer_is_the_same_run(cli, root):
    run = make_run(root, id="mine")
    run.save_config(run.config().model_copy(update={"epochs": 99, "name": "longer"}))
    assert cli("runs", "show", "mine").err == ""
    assert cli("doctor").code == 0


def test_the_list_reads_no_configuration_that_the_store_has(cli, root, monkeypatch):
    make_run(root, id="one", name="first")

    def fail(run):
        raise AssertionError("this takes long")

    monkeypatch.setattr(Run, "config", fail)
    (listed,) = cli("runs", "list", "--json").json["runs"]
    assert (listed["name"], listed["method"], listed["epochs_limit"]) == ("first", "exact", 4)


def test_a_run_one_may_not_read_is_not_to_be_deleted(cli, root, monkeypatch):
    run = make_run(root, id="mine")

    def refuse(path):
        raise StorageError(f"{path}: Permission denied")

    monkeypatch.setattr("engine.health.StoreReader", refuse)
    (stores,) = (one for one in cli("doctor", "--json").json["findings"] if one["name"] == "stores")
    assert run.id in stores["text"]
    assert stores["fix"] == "make those files readable that are denied to you"


def test_curves_read_no_more_than_the_last_step_of_a_long_series(root, monkeypatch):
    run = make_run(root, id="one", steps=45)
    read = []
    series = StoreReader.series
    monkeypatch.setattr(
        StoreReader, "series", lambda it, key, *rest: read.append(key) or series(it, key, *rest)
    )
    with StoreWriter(run.database) as writer:
        writer.append_metrics(47, {"batch_loss": 1.0})
    (group,) = read_groups([run], root, ["epoch"], ["train_loss"])
    assert "batch_loss" not in read
    assert group.runs[0].series["epoch", "train_loss"][0].tolist() == [0, 1, 2, 3, 4]
    assert [run.id for run in Runs(root).all()] == ["one"]
