"""The database of a run as one file, and such a file back into the place of a run's database."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from engine.atomic_files import storage_errors
from engine.errors import StorageError
from engine.own_files import COPY, remove_own
from engine.store_format import database_errors
from engine.store_opening import open_copy, open_for_reading, open_for_writing

_PREFIX = ".copy-"
_RANDOM = 8 * "?"
"""What Python appends."""
_PAGES = 1024
"""Copied between two moments in which signals are heard."""


@contextmanager
def place_for_copy(path: Path) -> Iterator[Path]:
    """Where a copy of a database may lie for a while, on the same disk.

    :raises StorageError: there is no room.
    """
    with (
        storage_errors(path),
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=path.parent) as folder,
    ):
        yield Path(folder) / path.name


def remove_left_copies(path: Path) -> None:
    """Remove what processes that died here have left, and nothing else that is called like that;
    the caller holds the run's lock, and nobody copies its database."""
    for left in path.parent.glob(f"{_PREFIX}{_RANDOM}"):
        with suppress(StorageError):
            remove_own(left, COPY)


def read_store(path: Path) -> bytes:
    """All of a run's database, as of one moment, with what is still in its log.

    :raises StorageError: it can not be read.
    """
    with place_for_copy(path) as copy:
        with (
            database_errors(path),
            closing(open_for_reading(path)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            _copy(source, target)
        return copy.read_bytes()


def replace_store(path: Path, copy: Path) -> None:
    """Put another database in the place of a run's, in one transaction: who reads meanwhile sees
    the old one or the new one, and a death leaves one of them.

    The caller holds the run's lock.

    :param copy: a file that nobody writes to.
    :raises StorageError: it is no database of a run, or there is no room; nothing was changed.
    """
    with (
        database_errors(path),
        closing(open_copy(copy)) as source,
        closing(open_for_writing(path)) as target,
    ):
        _copy(source, target)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    source.backup(target, pages=_PAGES, progress=lambda *_: None)
