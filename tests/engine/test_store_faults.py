"""The store when things go wrong: kills, full disks, damage, and readers all the while."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import atomic_files, store_format
from engine.errors import StorageError, StorageFullError
from engine.store import StoreWriter
from engine.store_format import database_errors
from engine.store_reader import StoreReader
from tests.engine.holding import start, start_and_wait
from tests.reliability.report import many

# commits without end, each step's metrics and state together
WRITE_ON = """
import sys
from itertools import count
from pathlib import Path
from engine.store import StoreWriter
writer = StoreWriter(Path(sys.argv[1]))
print("ready", flush=True)
for step in count(1):
    writer.append_metrics(step, {"loss": step, "tau": step})
    writer.append_event(step, "fact", {})
    writer.set_state({"step": step})
    writer.commit()
"""


# as nobody in particular: the superuser may write anywhere
READ_UNPRIVILEGED = """
import os, sys
from pathlib import Path
from engine.store_reader import StoreReader
if os.geteuid() == 0:
    os.setuid(65534)
assert not os.access(Path(sys.argv[1]).parent, os.W_OK)
with StoreReader(Path(sys.argv[1])) as reader:
    print(list(reader.rows()))
"""


def test_a_full_disk_loses_no_row(writer: StoreWriter, reader: StoreReader) -> None:
    writer.append_metrics(0, {"loss": 0.0})
    writer.commit()
    (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()
    writer._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    for first in range(1, 30_001, 10_000):
        steps = range(first, first + 10_000)
        writer.append_block(steps, {"loss": steps, "fresh": steps})
        writer.append_event(first, "fact", {})
        writer.set_state({"step": steps[-1]})
        with pytest.raises(StorageError, match=r"run\.db: .*disk is full; free some") as caught:
            writer.commit()
        assert "\n" not in str(caught.value)
        assert reader.row_count() == 1
        assert "step" not in reader.state()
    writer._connection.execute("PRAGMA max_page_count = 1000000")
    writer.commit()
    assert reader.row_count() == 60_001
    assert reader.series("fresh")[0].tolist() == list(range(1, 30_001))
    assert len(reader.events()) == 3
    assert reader.state()["step"] == 30_000


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_CANTOPEN,
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, None])
def test_other_errors_may_be_a_full_disk_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, number: int | None
) -> None:
    def refuse(*_: object) -> None:
        if number is not None:
            raise OSError(number, os.strerror(number))

    def fail() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(atomic_files.os, "fsync", refuse)
    with pytest.raises(StorageError, match="disk I/O error") as caught, database_errors(path):
        fail()
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert isinstance(caught.value, StorageFullError) == full
    assert ("free some space" in str(caught.value)) == full
    assert list(path.parent.iterdir()) == []


def test_an_error_of_reading_is_never_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_format, "is_full", lambda folder: True)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    with pytest.raises(StorageError) as caught, database_errors(path):
        raise error
    assert not isinstance(caught.value, StorageFullError)


def test_leaving_a_block_commits_unless_it_failed(path: Path) -> None:
    with StoreWriter.create(path) as writer:
        writer.set_state({"kept": True})

    def fail() -> None:
        with StoreWriter(path) as writer:
            writer.set_state({"lost": True})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with StoreReader(path) as reader:
        assert reader.state().keys() == {"status", "created", "updated", "kept"}


def test_a_death_before_a_commit_leaves_nothing_half(writer: StoreWriter, tmp_path: Path) -> None:
    """The files of an open store are what a process that dies leaves."""
    for step in range(1, 7):
        writer.append_metrics(step, {"loss": step})
        writer.set_state({"step": step})
        writer.append_event(step, "fact", {})
        if step == 3:
            writer.commit()
    left = copy_of(writer.path, tmp_path / "left")
    assert left.with_name("run.db-wal").stat().st_size > 0
    with StoreReader(left) as reader:
        assert reader.state()["step"] == 3
        assert list(reader.rows()) == [(1, "loss", 1.0), (2, "loss", 2.0), (3, "loss", 3.0)]
        assert [event.step for event in reader.events()] == [1, 2, 3]
        with StoreWriter(left) as later:
            later.append_event(4, "fact", {})
        assert [event.id for event in reader.events()] == [1, 2, 3, 4]


def copy_of(path: Path, folder: Path) -> Path:
    """Copy a store, without the memory that its processes share."""
    folder.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        shutil.copy(path.with_name(name), folder / name)
    return folder / path.name


@pytest.mark.system
@pytest.mark.parametrize("steps", [0, 1, 50])
def test_a_process_killed_at_any_moment_leaves_metrics_and_state_agreeing(
    path: Path, steps: int
) -> None:
    StoreWriter.create(path).close()
    process = start_and_wait(WRITE_ON, path)
    with StoreReader(path) as reader:
        while reader.state().get("step", 0) < steps:
            assert process.poll() is None
    process.kill()
    process.communicate()
    with StoreReader(path) as reader:
        step = reader.state().get("step", 0)
        assert step >= steps
        assert reader.series("loss")[0].tolist() == list(range(1, step + 1))
        assert reader.series("tau")[1].tolist() == list(range(1, step + 1))
        assert [event.step for event in reader.events()] == list(range(1, step + 1))


@pytest.mark.timeout(900)
@many(50, 20_000)
def test_four_readers_never_meet_a_locked_database(path: Path, times: int) -> None:
    """They are threads of the writer's process, as those of a dashboard may be."""
    StoreWriter.create(path).close()

    def watch(reopen: bool) -> None:
        reader = StoreReader(path)
        seen = 0
        while seen < times:
            if reopen:
                reader.close()
                reader = StoreReader(path)
            steps, _ = reader.series("loss", after_step=seen)
            assert steps.tolist() == list(range(seen + 1, seen + 1 + len(steps)))
            seen += len(steps)
            assert reader.state().get("step", 0) >= seen
        reader.close()

    with ThreadPoolExecutor(4) as pool, StoreWriter(path) as writer:
        readers = [pool.submit(watch, reopen) for reopen in (False, True) * 2]
        for step in range(1, times + 1):
            writer.append_metrics(step, {"loss": step, "tau": step})
            writer.append_event(step, "fact", {})
            writer.set_state({"step": step})
            writer.commit()
        for reader in readers:
            reader.result()


def test_readers_can_not_write(reader: StoreReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM state")


@pytest.mark.system
def test_a_store_in_a_folder_that_can_not_be_written_is_readable() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with StoreWriter.create(folder / "run.db") as writer:
            writer.append_metrics(1, {"loss": 1.0})
        (folder / "run.db").chmod(0o444)
        folder.chmod(0o555)
        found = start(READ_UNPRIVILEGED, folder / "run.db").communicate(timeout=120)
        folder.chmod(0o700)
    assert found == ("[(1, 'loss', 1.0)]\n", "")


@pytest.mark.parametrize("opened", [StoreReader, StoreWriter])
def test_what_is_no_store_is_refused_in_one_line(
    opened: type[StoreReader] | type[StoreWriter], path: Path
) -> None:
    with pytest.raises(StorageError, match=r"run\.db: "):
        opened(path)
    assert not path.exists()
    path.write_bytes(b"no database, but long enough to have a header " * 100)
    with pytest.raises(StorageError, match="not a database"):
        opened(path)
    path.unlink()
    StoreWriter.create(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageError, match="expected a store of version 1, found version 99"):
        opened(path)


def test_a_damaged_store_is_a_storage_error(path: Path) -> None:
    with StoreWriter.create(path) as writer:
        writer.append_block(range(50_000), {"loss": range(50_000)})
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xa5" * (len(content) - 8192 - 4096)
    path.write_bytes(content)
    with StoreReader(path) as reader, pytest.raises(StorageError, match="malformed"):
        list(reader.rows())
