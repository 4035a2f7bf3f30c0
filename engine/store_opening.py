"""Opening the database of a run to read it, also where nothing can be written beside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_BUSY_SECONDS = 5.0
_NOTHING_WRITTEN = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
    }
)
"""What SQLite says of shared memory that it has no room for."""
Mark = tuple[int, int, int, int]


def open_for_reading(path: Path) -> tuple[sqlite3.Connection, Mark | None]:
    """A connection that sees every commit, and None; or one that sees the database as it is now,
    and the mark that holds as long as that is all there is.

    :raises sqlite3.Error: it can not be read.
    """
    try:
        return _open(path, "mode=ro"), None
    except sqlite3.OperationalError as error:
        # A reader needs the writer's -shm file and makes it where there is none. Where it can not,
        # because of the folder's permissions or of a full disk, no writer can have begun either,
        # and without a log nothing is missed.
        refused = error.sqlite_errorcode in _NOTHING_WRITTEN or error.sqlite_errorcode & 0xFF in (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
        )
        found = mark_of(path)
        if not refused or found[-1]:
            raise
        return _open(path, "mode=ro&immutable=1"), found


def mark_of(path: Path) -> Mark:
    """Which file it is, when it was written, its size, and the size of its log."""
    found, log = path.stat(), path.with_name(f"{path.name}-wal")
    return found.st_ino, found.st_mtime_ns, found.st_size, log.stat().st_size if log.exists() else 0


def _open(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
