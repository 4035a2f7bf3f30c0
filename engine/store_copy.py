"""The database of a run as one file, and such a file back into the place of a run's database."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from engine.atomic_files import storage_errors
from engine.store_format import check_version, database_errors

_PREFIX = ".copy-"


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
    """Remove what processes that died here have left; the caller holds the run's lock, and nobody
    copies its database."""
    for left in path.parent.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def read_store(path: Path) -> bytes:
    """All of a run's database, as of one moment, with what is still in its log.

    :raises StorageError: it can not be read.
    """
    with place_for_copy(path) as copy:
        with (
            database_errors(path),
            closing(_connect(path, "mode=ro")) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            check_version(source, path)
            source.backup(target)
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
        closing(_connect(copy, "mode=ro&immutable=1")) as source,
        closing(_connect(path, "mode=rw")) as target,
    ):
        check_version(source, copy)
        target.execute("PRAGMA synchronous = FULL")
        source.backup(target)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=5.0)
