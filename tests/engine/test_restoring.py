"""Which state a run goes on from where its store and its checkpoints do not agree."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine import checkpoint
from engine.control import AlwaysRun, Desired
from engine.errors import CheckpointError, StorageError
from engine.events import CheckpointDue, Event, Warned
from engine.recorder import Recorder
from engine.restoring import newest_state
from engine.run import Run
from engine.runs import Runs
from engine.session import Sitting, sit
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from tests.engine import small
from tests.engine.small import cache_dir
from tests.reliability.report import FAULTS, MORE, promise
from tests.reliability.trainings import outcome

LOST = promise(
    MORE,
    "a store that has lost its last commits",
    "says so, and goes on from the newest whole checkpoint",
)
SETTINGS: dict[str, Any] = {"epochs": 3, "log__keep": 1, "log__keep_best": False, "threads": 1}
EPOCH = 4
"""Steps."""


def train(run: Run, epochs: int, control: AlwaysRun | None = None) -> list[str]:
    """Train up to an epoch; gives what was warned of."""
    events: list[Event] = []
    config = run.config().model_copy(update={"epochs": epochs})
    sit(run, Sitting(control or AlwaysRun(), events.append, cache_dir(), config=config))
    return [event.text for event in events if isinstance(event, Warned)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Runs(tmp_path).create(small.config(**SETTINGS))


def forget(run: Run, old: bytes) -> None:
    """Let the store be what it was, as after a copy without its log."""
    for path in run.path.glob("run.db*"):
        path.unlink()
    run.database.write_bytes(old)


def trained_beyond(run: Run, epochs: int, beyond: int) -> None:
    """A run whose store ends with an epoch, and whose checkpoint is of a later one."""
    if epochs:
        train(run, epochs)
    old = run.database.read_bytes()
    train(run, beyond)
    forget(run, old)


@LOST
@pytest.mark.parametrize("known", [0, 1])
def test_the_newest_whole_checkpoint_is_gone_on_from(run, tmp_path, known):
    """With one checkpoint kept, the store knows only ones that are gone."""
    other = Runs(tmp_path / "other").create(run.config())
    train(other, 3)
    trained_beyond(run, known, 2)
    (text,) = train(run, 3)
    assert f"lost its last commits: it knows step {known * EPOCH}, and there is a whole" in text
    assert f"checkpoint of step {2 * EPOCH}; going on from there" in text
    assert outcome(run)["tensors"] == outcome(other)["tensors"]
    with StoreReader(run.database) as reader:
        assert any(event.payload.get("text") == text for event in reader.events())


@LOST
def test_it_is_known_from_then_on(run):
    trained_beyond(run, 0, 2)
    train(run, 3, Stopping())
    with StoreReader(run.database) as reader:
        (row,) = reader.checkpoints()
    assert (row.step, row.reason, row.epoch) == (2 * EPOCH, "found", 2)
    assert train(run, 3) == []


class Stopping(AlwaysRun):
    """Wants nothing done."""

    def desired(self) -> Desired:
        return Desired.STOPPED


@LOST
@pytest.mark.parametrize("what", ["damaged", "of another run", "of an earlier version"])
def test_a_checkpoint_that_can_not_be_checked_is_kept_and_told_of(run, tmp_path, what):
    trained_beyond(run, 1, 1)
    train(run, 1)
    steps = checkpoint.paths(run.checkpoints, 2 * EPOCH)
    other = Runs(tmp_path / "other").create(run.config())
    train(other, 2)
    for path in steps:
        shutil.copy(other.checkpoints / path.name, path)
    if what == "damaged":
        steps[0].write_bytes(steps[0].read_bytes()[:-1])
    elif what == "of an earlier version":
        steps[1].write_text('{"format": 1}')
    warned: list[str] = []
    restored = newest_state(run, warned.append)
    assert (restored.step, restored.unknown) == (EPOCH, None)
    (text,) = warned
    assert f"checkpoints of steps {2 * EPOCH}, which the store does not know" in text
    assert all(path.exists() for path in steps)


def test_what_a_death_left_is_no_lost_commit(run):
    train(run, 1)
    with sqlite3.connect(run.database) as store:
        store.execute("DELETE FROM checkpoints")
    warned: list[str] = []
    restored = newest_state(run, warned.append)
    assert (restored.snapshot, restored.leftovers) == (None, (EPOCH,))
    assert warned == []


def test_a_death_before_a_checkpoint_counts_and_one_more_lose_nothing(run, tmp_path):
    """The first leaves its files ahead of what the rewound store knows."""
    other = Runs(tmp_path / "other").create(run.config())
    train(other, 3)
    train(run, 2)
    with sqlite3.connect(run.database) as store:
        store.execute("UPDATE checkpoints SET step = 4")  # as if one of before were kept
    old = Runs(tmp_path / "old").create(run.config())
    train(old, 1)
    for path in old.checkpoints.iterdir():
        shutil.copy(path, run.checkpoints / path.name)
    with StoreReader(old.database) as reader:
        (row,) = reader.checkpoints()
    with sqlite3.connect(run.database) as store:
        store.execute(
            "UPDATE checkpoints SET tensors_sha256 = ?, json_sha256 = ?",
            (row.tensors_sha256, row.json_sha256),
        )
    assert train(run, 3, Stopping()) == []
    assert train(run, 3) == []
    assert outcome(run)["rows"] == outcome(other)["rows"]
    assert outcome(run)["tensors"] == outcome(other)["tensors"]


def test_what_was_refused_as_damaged_is_not_taken_later(run, tmp_path):
    kept = run.config().model_copy(update={"log": run.config().log.model_copy(update={"keep": 2})})
    run.save_config(kept)
    other = Runs(tmp_path / "other").create(kept)
    train(other, 3)
    train(run, 2)
    _, meta = checkpoint.paths(run.checkpoints, 2 * EPOCH)
    meta.write_bytes(meta.read_bytes().replace(b'"epoch": 2', b'"epoch": 1'))
    (text,) = train(run, 3, Stopping())
    assert "damaged or replaced" in text
    assert train(run, 3) == []
    assert outcome(run) == outcome(other)


def test_a_damaged_part_of_what_is_no_tensor_is_seen(run):
    trained_beyond(run, 0, 2)
    _, meta = checkpoint.paths(run.checkpoints, 2 * EPOCH)
    meta.write_bytes(meta.read_bytes().replace(b'"epoch": 2', b'"epoch": 1'))
    warned: list[str] = []
    assert newest_state(run, warned.append).snapshot is None
    assert "can not be checked" in warned[0]


def test_what_a_death_left_is_used_where_nothing_else_can_be(run):
    train(run, 1)
    with sqlite3.connect(run.database) as store:
        store.execute("UPDATE checkpoints SET step = 1, tensors_sha256 = 'gone'")
    warned: list[str] = []
    restored = newest_state(run, warned.append)
    assert restored.step == EPOCH
    assert len(warned) == 1
    assert "000000001.safetensors: No such file" in warned[0]


@promise(
    FAULTS,
    "a checkpoint that is larger than the memory",
    "passed over, not read; exit 4 if it is the only one",
)
def test_a_sparse_checkpoint_is_not_read(run):
    train(run, 1)
    path, _ = checkpoint.paths(run.checkpoints, EPOCH)
    with path.open("wb") as stream:
        stream.truncate(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + 1)
    with pytest.raises(CheckpointError, match=r"none of its 1 checkpoints can be used: .*at most"):
        newest_state(run, lambda text: None)


def test_the_best_checkpoint_is_known_as_the_best(run):
    snapshot = checkpoint.Snapshot({}, {})
    with run.lock(), StoreWriter(run.database) as writer:
        keep = small.config(log__keep=1).log
        recorder = Recorder(run, writer, AlwaysRun(), lambda: snapshot, keep, lambda event: None)
        recorder.record(CheckpointDue(4, 1.0, "interval"))
        recorder.record(CheckpointDue(4, 1.0, "epoch", best=True))
        recorder.record(CheckpointDue(8, 2.0, "epoch"))
        with StoreReader(run.database) as reader:
            assert [(row.step, row.best) for row in reader.checkpoints()] == [(8, False), (4, True)]


GONE = promise(
    FAULTS,
    "the files of a live run are deleted or replaced",
    "noticed within a second; the training ends, exit 6",
)


class Doing(AlwaysRun):
    """Does something after some looks."""

    def __init__(self, action) -> None:
        self.action, self.looks = action, 0

    def desired(self) -> Desired:
        self.looks += 1
        if self.looks == 3:
            self.action()
        return Desired.RUNNING


@GONE
@pytest.mark.parametrize("what", ["all", "run.db", "run.db-wal", "replaced"])
def test_a_run_that_goes_while_it_is_trained(run, what):
    def act() -> None:
        if what == "all":
            shutil.rmtree(run.path)
        elif what == "replaced":
            content = run.database.read_bytes()
            run.database.unlink()
            run.database.write_bytes(content)
        else:
            (run.path / what).unlink()

    words = {"all": "was deleted", "replaced": "replaced by another file"}
    with pytest.raises(StorageError, match=words.get(what, f"{what} was deleted")):
        train(run, 100_000, Doing(act))


@GONE
def test_a_paused_run_whose_database_goes(run):
    class Paused(Doing):
        def desired(self) -> Desired:
            return Desired.PAUSED if super().desired() is Desired.RUNNING else Desired.STOPPED

    with pytest.raises(StorageError, match=r"run\.db was deleted"):
        train(run, 2, Paused(run.database.unlink))
