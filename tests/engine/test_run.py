"""What a run folder says, and what a person tells it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine import run as run_module
from engine.atomic_files import overwrite, replacing, storage_errors
from engine.config import RunConfig
from engine.control import Desired
from engine.errors import ConfigError, StorageError, StorageFullError
from engine.file_control import FileControl
from engine.run import Request, Run
from engine.runs import Runs
from engine.store import StoreWriter
from tests.engine.holding import Clock


def set_status(run: Run, status: str) -> None:
    with StoreWriter(run.database) as writer:
        writer.set_state({"status": status})


def test_files_written_later_are_private_too(run: Run) -> None:
    run.set_desired(Desired.PAUSED)
    run.save_config(RunConfig(name="second"))
    with StoreWriter(run.database) as writer:
        writer.append_metrics(1, {"batch_loss": 1.0})
        writer.commit()
        files = [path for path in run.path.iterdir() if path.is_file()]
        assert {path.name for path in files} >= {"desired.json", "run.db-wal", "run.db-shm"}
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize(
    "name", [None, "a" * 200, "two\nlines", "'quoted'", "- x", "é\x1b[31m", " "]
)
def test_name_alone_agrees_with_the_configuration(runs: Runs, name: str | None) -> None:
    run = runs.create(RunConfig(name=name, preset="name: other"))
    assert run.name == name == run.config().name


def test_names_can_not_smuggle_control_bytes_into_messages(runs: Runs) -> None:
    for id in ("abc1", "abd2"):
        runs.create(RunConfig(name="\x1b[31mred"), id=id)
    for ref in ("ab", "\x1b[31mre", "\x1b[31mred"):
        with pytest.raises(ConfigError) as caught:
            runs.find(ref)
        assert "\x1b" not in str(caught.value)


def test_a_wrong_configuration_is_a_config_error(run: Run) -> None:
    (run.path / "config.yaml").write_text("epochs: -1\n")
    with pytest.raises(ConfigError, match="epochs"):
        run.config()
    (run.path / "config.yaml").write_bytes(b"\xff")
    assert run.name is None
    with pytest.raises(StorageError, match="UTF-8"):
        run.config()
    (run.path / "config.yaml").unlink()
    with pytest.raises(StorageError, match="No such file"):
        run.config()


def test_status_of_living_and_dead_processes(run: Run) -> None:
    for status in ("finished", "stopped", "diverged", "created"):
        set_status(run, status)
        assert run.status() == status
    for status in ("running", "paused"):
        set_status(run, status)
        with run.lock():
            assert run.status() == status
    assert run.status() == "paused"
    set_status(run, "running")
    assert run.status() == "interrupted"


def test_a_run_that_ends_while_it_is_looked_at_is_not_interrupted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_status(run, "running")

    def end(_: Run) -> bool:
        set_status(run, "finished")
        return False

    monkeypatch.setattr(Run, "is_live", end)
    assert run.status() == "finished"


@pytest.mark.parametrize("desired", list(Desired))
def test_the_desired_state_is_remembered(run: Run, desired: Desired) -> None:
    run.set_desired(desired, "because")
    assert Run(run.path).desired() is desired
    assert Run(run.path).request() == Request(desired, "because")
    assert sorted(path.name for path in run.path.iterdir() if path.suffix == ".tmp") == []


def test_every_word_over_another_one_has_a_time_of_its_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    seen = set()
    for _ in range(200):
        overwrite(run.request_file, b"{}")
        seen.add(run.request_signature())
    assert len(seen) == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_word_is_left_on_a_full_disk_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It has its room from the start, and one after the other is heard."""

    def full(path: Path, content: bytes) -> None:
        with storage_errors(path):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_module, "replace_own", full)
    control = FileControl(run, clock=Clock())
    size = run.request_file.stat().st_size
    assert size == 4096
    for desired in [Desired.PAUSED, Desired.STOPPED, Desired.RUNNING] * 30:
        run.set_desired(desired, "é😀\0" * 100)
        assert (run.desired(), control.desired()) == (desired, desired)
        assert run.request_file.stat().st_size == size
    run.request_file.unlink()
    with pytest.raises(StorageFullError, match="free some space"):
        run.set_desired(Desired.PAUSED)
    assert not run.request_file.exists()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"[]", b"1", b'{"desired": "x"}', b'{"desired": []}', b"\xff", b"[" * 9999],
)
def test_a_garbled_word_is_no_word(run: Run, garbage: bytes) -> None:
    now = Clock()
    control = FileControl(run, clock=now)
    run.set_desired(Desired.PAUSED)
    assert control.desired() is Desired.PAUSED
    run.request_file.write_bytes(garbage)
    assert run.desired() is Desired.RUNNING
    assert control.desired() is Desired.PAUSED
    run.set_desired(Desired.RUNNING)
    assert control.desired() is Desired.RUNNING


def test_a_failed_replacement_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_halfway() -> None:
        with replacing(path) as stream:
            stream.write("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "old")]


def test_the_control_follows_the_file(run: Run) -> None:
    now = Clock()
    control = FileControl(run, clock=now)
    assert control.desired() is Desired.RUNNING
    assert control.stop_reason() == ""
    run.set_desired(Desired.PAUSED, "lunch")
    assert (control.desired(), control.stop_reason()) == (Desired.PAUSED, "")
    run.set_desired(Desired.STOPPED, "enough")
    assert (control.desired(), control.stop_reason()) == (Desired.STOPPED, "enough")
    run.set_desired(Desired.RUNNING)
    assert control.desired() is Desired.RUNNING


def test_the_control_looks_twenty_times_a_second_and_reads_changes_only(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, reads = [], []
    look, read = Run.request_signature, Run.request
    monkeypatch.setattr(Run, "request_signature", lambda it: looks.append(1) or look(it))
    monkeypatch.setattr(Run, "request", lambda it: reads.append(1) or read(it))
    run.set_desired(Desired.PAUSED)
    ticks = iter(range(10_000))
    control = FileControl(run, clock=lambda: next(ticks) / 10_000)
    assert {control.desired() for _ in range(10_000)} == {Desired.PAUSED}
    assert len(looks) == 20
    assert len(reads) == 1


def test_a_signal_wins_over_the_file(run: Run) -> None:
    control = FileControl(run, clock=Clock())
    control.request_stop("SIGTERM")
    control.request_stop("SIGINT")
    run.set_desired(Desired.RUNNING)
    assert (control.desired(), control.stop_reason()) == (Desired.STOPPED, "SIGTERM")
