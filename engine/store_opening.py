"""Opening the database of a run, which is data and never trusted: somebody may have sent it.

Nothing is followed that is no regular file, its tables must be ours and no others, and SQLite is
held to small limits.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from engine.atomic_files import storage_errors
from engine.errors import StorageError
from engine.own_files import require_own_database
from engine.store_connection import ANSWER_SECONDS, StoreConnection
from engine.store_format import check_version

_MAX_BYTES = 1 << 34
"""Largest database, and largest log of one."""
_MAX_PATH_BYTES = 500
"""SQLite takes 512 with what it appends."""
_BUSY_SECONDS = 5.0
_TICK_SECONDS = 0.05
"""More than the time within which the kernel gives two writes the same moment."""
_NOTHING_WRITTEN = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
    }
)
"""What SQLite says of shared memory that it has no room for."""
_unsettled = itertools.count(1)


class Mark(NamedTuple):
    """The files of a database at one moment; another one after every commit."""

    device: int
    inode: int
    changed_ns: int
    size: int
    log_changed_ns: int
    """Of the log; 0 where there is nothing in it, for readers make empty ones."""
    log_size: int
    number: int
    """0, or unlike every other: changed so lately that one more commit might not be seen."""

    @property
    def file(self) -> tuple[int, int]:
        """Which file it is, whatever is written to it."""
        return self.device, self.inode


def open_for_reading(path: Path) -> StoreConnection:
    """Open a database without changing it.

    It sees every commit; where nobody can write because the folder is read-only or the disk full,
    it sees the database as it is now.

    :raises StorageError: it is missing, no file of ours, of another version or with other tables.
    :raises sqlite3.Error: it can not be read.
    """
    try:
        return _open(path, "mode=ro")
    except sqlite3.OperationalError as error:
        # A reader needs the writer's -shm file and makes it where there is none. Where it can not,
        # because of the folder's permissions or of a full disk, no writer can have begun either,
        # and without a log nothing is missed.
        refused = error.sqlite_errorcode in _NOTHING_WRITTEN or error.sqlite_errorcode & 0xFF in (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
        )
        found = mark_of(path)
        if not refused or found is None or found.log_size:
            raise
        return open_copy(path)


def open_for_writing(path: Path) -> StoreConnection:
    """Open a database for its one writer, who holds the run's lock.

    :raises StorageError: as :func:`open_for_reading`; it was not written to.
    :raises sqlite3.Error: it can not be written.
    """
    connection = _open(path, "mode=rw")
    try:
        # what is written is ours, and pictures may be large
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def open_copy(path: Path) -> StoreConnection:
    """Open a database that nobody writes to and that has no log.

    :raises StorageError: as :func:`open_for_reading`.
    :raises sqlite3.Error: it can not be read.
    """
    return _open(path, "mode=ro&immutable=1")


def mark_of(path: Path) -> Mark | None:
    """The mark of a database now; None where there is no file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    try:
        log = path.with_name(f"{path.name}-wal").lstat()
    except OSError:
        log = None
    log_changed, log_size = (log.st_ctime_ns, log.st_size) if log and log.st_size else (0, 0)
    # not when they were written: a copy may have that from the original, and a change of
    # permissions, after which a file can be read, leaves it as it is
    age = time.time() - max(found.st_ctime_ns, log_changed) / 1e9
    number = next(_unsettled) if abs(age) < _TICK_SECONDS else 0
    return Mark(
        found.st_dev, found.st_ino, found.st_ctime_ns, found.st_size, log_changed, log_size, number
    )


def _open(path: Path, options: str) -> StoreConnection:
    _check_files(path)
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=StoreConnection,
    )
    try:
        connection.limit(path)
        with connection.deadline.within(ANSWER_SECONDS, path):
            check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_files(path: Path) -> None:
    require_own_database(path)
    with storage_errors(path):
        if len(os.fsencode(path.absolute())) > _MAX_PATH_BYTES:
            raise StorageError(
                f"{path}: expected a path of at most {_MAX_PATH_BYTES} bytes, which SQLite takes;"
                " choose a shorter one with --dir or PROXPROP_DIR"
            )
        for suffix, most in (("", _MAX_BYTES), ("-wal", _MAX_BYTES), ("-journal", 0)):
            file = path.with_name(f"{path.name}{suffix}")
            try:
                size = file.lstat().st_size
            except FileNotFoundError:
                if suffix:
                    continue
                raise StorageError(
                    f"{path}: expected the database of a run, found no file"
                ) from None
            # We have a log, never a journal: SQLite would play it back, and with it remove
            # whatever file it names.
            if size > most:
                raise StorageError(f"{file}: expected at most {most:,} bytes, found {size:,}")
