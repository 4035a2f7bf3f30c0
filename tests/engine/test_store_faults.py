"""The store when things go wrong: kills, full disks, damage, and readers all the while."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from engine import atomic_files, store_format
from engine.errors import StorageError, StorageFullError
from engine.store import StoreWriter
from engine.store_format import database_errors
from engine.store_reader import StoreReader

# commits steps 1 to 3, leaves 4 to 6 pending, then dies or waits to be killed
DIE = """
import os, sys, time
from pathlib import Path
from engine.store import StoreWriter
writer = StoreWriter(Path(sys.argv[1]))
for step in range(1, 7):
    writer.append_metrics(step, {"loss": step})
    writer.set_state({"step": step})
    writer.append_event(step, "fact", {})
    if step == 3:
        writer.commit()
print("ready", flush=True)
time.sleep(60)
"""


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
    for start in range(1, 30_001, 10_000):
        steps = range(start, start + 10_000)
        writer.append_block(steps, {"loss": steps, "fresh": steps})
        writer.append_event(start, "fact", {})
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


def test_a_process_killed_before_its_commit_leaves_nothing_half(path: Path) -> None:
    StoreWriter.create(path).close()
    process = start(DIE, path)
    process.kill()
    process.communicate()
    assert path.with_name("run.db-wal").stat().st_size > 0
    path.with_name("run.db-shm").unlink(missing_ok=True)
    with StoreReader(path) as reader:
        assert reader.state()["step"] == 3
        assert list(reader.rows()) == [(1, "loss", 1.0), (2, "loss", 2.0), (3, "loss", 3.0)]
        assert [event.step for event in reader.events()] == [1, 2, 3]
        with StoreWriter(path) as writer:
            writer.append_event(4, "fact", {})
        assert [event.id for event in reader.events()] == [1, 2, 3, 4]


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.1, 0.2])
def test_a_process_killed_at_any_moment_leaves_metrics_and_state_agreeing(
    path: Path, delay: float
) -> None:
    StoreWriter.create(path).close()
    process = start(WRITE_ON, path)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with StoreReader(path) as reader:
        step = reader.state().get("step", 0)
        assert reader.series("loss")[0].tolist() == list(range(1, step + 1))
        assert reader.series("tau")[1].tolist() == list(range(1, step + 1))
        assert [event.step for event in reader.events()] == list(range(1, step + 1))


def start(script: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def read_during_writes(path: Path, seconds: float) -> tuple[list[BaseException], int]:
    StoreWriter.create(path).close()
    process = start(WRITE_ON, path)
    errors: list[BaseException] = []
    reads: list[int] = []
    deadline = time.monotonic() + seconds

    def watch(reopen: bool) -> None:
        try:
            reader = StoreReader(path)
            seen = 0
            while time.monotonic() < deadline:
                if reopen:
                    reader.close()
                    reader = StoreReader(path)
                steps, _ = reader.series("loss", after_step=seen)
                assert steps.tolist() == list(range(seen + 1, seen + 1 + len(steps)))
                seen += len(steps)
                assert reader.state().get("step", 0) >= seen
                reads.append(len(steps))
            reader.close()
            assert seen > 0
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            errors.append(error)

    threads = [threading.Thread(target=watch, args=(index % 2 == 1,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.kill()
    process.communicate()
    return errors, len(reads)


def test_four_readers_never_meet_a_locked_database(path: Path) -> None:
    errors, reads = read_during_writes(path, seconds=2.0)
    assert errors == []
    assert reads > 20


@pytest.mark.slow
def test_four_readers_for_a_minute(path: Path) -> None:
    errors, reads = read_during_writes(path, seconds=60.0)
    assert errors == []
    assert reads > 600


def test_readers_can_not_write(reader: StoreReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM state")


def test_a_store_in_a_folder_that_can_not_be_written_is_readable() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with StoreWriter.create(folder / "run.db") as writer:
            writer.append_metrics(1, {"loss": 1.0})
        (folder / "run.db").chmod(0o444)
        folder.chmod(0o555)
        found = subprocess.run(
            [sys.executable, "-c", READ_UNPRIVILEGED, str(folder / "run.db")],
            capture_output=True,
            text=True,
            check=False,
        )
        folder.chmod(0o700)
    assert (found.stdout, found.stderr) == ("[(1, 'loss', 1.0)]\n", "")


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
