"""A disk that is full for a while: a real small one, and refusals made up at random moments."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from engine import atomic_files
from engine.control import Desired
from engine.errors import StorageFullError
from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_opening import mark_of
from engine.store_reader import StoreReader
from engine.summary import summarize
from tests.cli.terminal import Terminal
from tests.engine import small
from tests.reliability.disk.small_disk import fill
from tests.reliability.report import FAULTS, MORE, many, promise
from tests.reliability.trainings import ENDLESS, TRAINING, outcome, the_run, undisturbed, until


@pytest.mark.timeout(3600)
@promise(
    FAULTS,
    "disk full, a real one",
    "waits with a message, and ends the same to the byte once there is room",
)
@many(1, 20)
def test_a_real_disk_that_is_full(small_disk, terminal, tmp_path, rng, measured, times):
    expected = undisturbed(terminal, tmp_path / "undisturbed", *TRAINING)
    waited = 0
    for number in range(times):
        one = Terminal(small_disk / f"runs{number}")
        process = one.start("train", *TRAINING, "--plain")
        one.wait_for_steps(rng.randint(1, 60))
        fill(small_disk / "filler")
        run = the_run(one)
        assert run is not None
        until(lambda run=run, process=process: run.is_waiting() or process.poll() is not None)
        waits = run.is_waiting()
        (small_disk / "filler").unlink()
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert ("waiting for storage" in out) >= waits
        waited += waits
        assert outcome(run) == expected
        Runs(one.runs).delete(run)
    assert waited >= 0.8 * times
    measured(f"{times} of {times}, {waited} of them met it before their end")


@pytest.mark.timeout(600)
@promise(
    MORE,
    "a run that waits for room is paused, stopped or interrupted",
    "hears it; exit 0, 130 or 143, status `stopped`, and it can be resumed",
)
@pytest.mark.parametrize("by", ["stop", "SIGINT", "SIGTERM"])
def test_stopped_while_the_disk_is_full(small_disk, impatient, by):
    terminal = Terminal(small_disk / "runs")
    process = terminal.start("train", *ENDLESS, "--plain")
    # by then the log holds pages that the database has no room for
    run = Runs(terminal.runs).find(terminal.wait_for_steps(60))
    fill(small_disk / "filler")
    until(run.is_waiting)
    shown = terminal("runs", "show", run.id, "--json")
    assert shown.json["reason"] == "waiting for room on the disk"
    paused = impatient("pause", run.id, "--dir", str(terminal.runs))
    assert paused.code == 0, paused.err
    assert "will be paused" in paused.out
    assert run.desired() is Desired.PAUSED
    assert process.poll() is None
    if by == "stop":
        answer = terminal("stop", run.id, "--json")
        assert (answer.code, answer.json["status"]) == (0, "stopped"), answer.err
    else:
        process.send_signal(getattr(signal, by))
    out, err = process.communicate(timeout=60)
    assert process.returncode == {"stop": 0, "SIGINT": 130, "SIGTERM": 143}[by], err
    assert "stopped without room for the last steps" in out
    assert run.status() == "stopped"
    assert not run.is_waiting()
    left = {path.name for path in run.path.iterdir()}
    assert left <= {"config.yaml", "desired.json", "lock", "checkpoints"} | {
        f"run.db{ending}" for ending in ("", "-wal", "-shm")
    }
    (small_disk / "filler").unlink()
    resumed = terminal("resume", run.id, "--max-seconds", "0.01", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["status"] == "finished"


def test_what_sqlite_says_of_a_full_disk(small_disk):
    """It has another code for each file that can not grow."""
    path = small_disk / "run.db"
    StoreWriter.create(path).close()
    fill(small_disk / "filler")
    with pytest.raises(StorageFullError, match=r"run\.db: .*; free some space"):
        StoreWriter(path)
    (small_disk / "filler").unlink()
    StoreWriter(path).close()


@promise(
    MORE,
    "the disk is full while runs are looked at",
    "those that nobody trains are read, and what is written to them later is seen",
)
def test_runs_are_read_on_a_full_disk(small_disk):
    run = Runs(small_disk / "runs").create(small.config())
    with StoreWriter(run.database) as writer:
        writer.append_metrics(1, {"loss": 0.5})
        writer.set_state({"status": "stopped"})
    fill(small_disk / "filler")

    def rows() -> list[tuple[int, str, float]]:
        with StoreReader(run.database) as reader:
            assert reader.state()["status"] == "stopped"
            return list(reader.rows())

    assert rows() == [(1, "loss", 0.5)]
    (small_disk / "filler").unlink()
    assert len(rows()) == 1
    before = mark_of(run.database)
    with StoreWriter(run.database) as writer:
        for step in (2, 3):
            writer.append_metrics(step, {"loss": 1 / step})
            writer.commit()
            assert mark_of(run.database) != before
            assert len(rows()) == step
            before = mark_of(run.database)
    assert summarize(run)["status"] == "stopped"


@promise(
    FAULTS,
    "disk full, refusals at random moments",
    "waits with a message, and ends the same to the byte once there is room",
)
@many(2, 20)
def test_refused_writes(cli, tmp_path, rng, measured, times, monkeypatch):
    short = [*TRAINING, "--epochs", "6"]
    expected = undisturbed(cli, tmp_path / "undisturbed", *short)
    monkeypatch.setattr("engine.recorder._RETRY_SECONDS", 0.0)
    refused = 0
    for number in range(times):
        folder = tmp_path / f"refused{number}"
        run = begun(cli, folder, short)
        with monkeypatch.context() as patch:
            disk = FickleDisk(rng, patch)
            answer = cli("resume", run.id, "--dir", str(folder))
        assert answer.code == 0, answer.err
        assert ("waiting for storage" in answer.out) == (disk.refused > 0)
        assert outcome(run) == expected
        refused += disk.refused
    assert refused > 0
    measured(f"{times} of {times}, {refused} writes refused")


class FickleDisk:
    """Refuses a part of all writes, once training has begun, by its size or by a quota."""

    def __init__(self, rng, patch):
        self.refused = 0
        self._rng = rng
        self._chance = rng.uniform(0.05, 0.6)
        self._begun = False
        self._fsync, self._commit = os.fsync, StoreWriter.commit
        patch.setattr(atomic_files.os, "fsync", self.fsync)
        patch.setattr(StoreWriter, "commit", lambda writer: self.commit(writer))

    def is_full(self):
        return self._begun and self._rng.random() < self._chance

    def fsync(self, descriptor):
        if self.is_full():
            self.refused += 1
            code = self._rng.choice((errno.ENOSPC, errno.EDQUOT))
            raise OSError(code, os.strerror(code))
        self._fsync(descriptor)

    def commit(self, writer):
        (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()
        most = pages if self.is_full() else 2**30
        writer._connection.execute(f"PRAGMA max_page_count = {most}")
        try:
            self._commit(writer)
        except StorageFullError:
            self.refused += 1
            raise
        self._begun = True


def begun(cli, folder, arguments):
    """A run before its first step."""
    assert cli("train", *arguments, "--epochs", "0", "--dir", str(folder)).code == 0
    run = Runs(folder).find("latest")
    run.save_config(run.config().model_copy(update={"epochs": 6}))
    return run
