"""What writer and readers of a store agree on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from engine.atomic_files import is_full
from engine.errors import StorageError, StorageFullError, shortened

VERSION = 1
"""Of the schema, kept as SQLite's ``user_version``."""

SCHEMA = """
CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE metric_values (
    key_id INTEGER NOT NULL REFERENCES keys (id),
    step INTEGER NOT NULL,
    value REAL,
    special TEXT,
    PRIMARY KEY (key_id, step)
) WITHOUT ROWID;
CREATE VIEW metrics AS
    SELECT step, name AS key, value, special FROM metric_values JOIN keys ON id = key_id;

CREATE TABLE solves (
    step INTEGER NOT NULL,
    layer TEXT NOT NULL,
    form TEXT NOT NULL,
    solver TEXT NOT NULL,
    size INTEGER NOT NULL,
    beta REAL NOT NULL,
    products REAL NOT NULL,
    iterations INTEGER NOT NULL,
    stop_reason TEXT NOT NULL,
    true_residual REAL NOT NULL,
    descent_cosine REAL NOT NULL,
    PRIMARY KEY (step, layer)
) WITHOUT ROWID;
CREATE TABLE residuals (
    step INTEGER NOT NULL,
    layer TEXT NOT NULL,
    iteration INTEGER NOT NULL,
    residual REAL NOT NULL,
    PRIMARY KEY (step, layer, iteration)
) WITHOUT ROWID;
CREATE VIEW traces AS
    SELECT step, layer, iteration, residual, form, solver, size, beta, products, iterations,
           stop_reason, true_residual, descent_cosine
    FROM solves LEFT JOIN residuals USING (step, layer);

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    step INTEGER NOT NULL,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL
);
CREATE TABLE checkpoints (
    step INTEGER PRIMARY KEY,
    tensors_sha256 TEXT NOT NULL,
    json_sha256 TEXT NOT NULL,
    reason TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    best INTEGER NOT NULL,
    time REAL NOT NULL
);
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
"""The tables of a store without reconstructions. ``metrics`` and ``traces`` are views for people
and other programs.

SQLite keeps NaN as NULL and -0.0 as 0.0. A metric's ``special`` names such a value, and infinities;
in the columns of traces a number that is not finite stands as text.
"""

RECONSTRUCTIONS = """
CREATE TABLE IF NOT EXISTS reconstructions (
    step INTEGER PRIMARY KEY,
    epoch REAL NOT NULL,
    part TEXT NOT NULL,
    samples TEXT NOT NULL,
    channels INTEGER NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    inputs BLOB NOT NULL,
    outputs BLOB NOT NULL,
    lasting INTEGER NOT NULL
);
"""
"""A later table: stores of older runs do not have it before they are written to."""
_MAX_ENTRIES = 100

_WRITING = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""Errors that may mean that there is no room: SQLite tells ENOSPC of a write by a code of its own,
but neither EDQUOT nor ENOSPC of a sync, of the shared memory or of a new file."""


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Report what SQLite refuses as one line about ``path``.

    :raises StorageError: instead of any ``sqlite3.Error``; where there is no room,
        :class:`StorageFullError`.
    :raises KeyboardInterrupt: the user interrupted a statement.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_INTERRUPT:
            # what a signal's handler raised within SQLite's callback ended there
            raise KeyboardInterrupt from error
        if code == sqlite3.SQLITE_FULL or (code in _WRITING and is_full(path.parent)):
            raise StorageFullError(f"{path}: {error}; free some space and try again") from error
        raise StorageError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        # SQLite quotes a damaged schema in its message, whatever is in there
        raise StorageError(f"{path}: damaged: found bytes that are not text") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Report a store whose rows are not what the writer puts there, as :func:`database_errors` does
    what SQLite refuses.

    :raises StorageError: one line about ``path``.
    """
    try:
        with database_errors(path):
            yield
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        text = " ".join(str(error).split())[:200]
        raise StorageError(f"{path}: damaged: {text}") from error


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a store of another version of the program, and one whose tables are not exactly ours.

    To be called before the first question about data: a view in the place of a table, or a trigger,
    would let whoever made the file choose what a question does.

    :raises StorageError: with what was expected and found.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != VERSION:
        raise StorageError(
            f"{path}: expected a store of version {VERSION}, found version {found};"
            " open it with the version of proxprop that made it"
        )
    schema, (least, whole) = _schema_of(connection), _schemas()
    if schema not in (least, whole):
        strange = [entry for entry in schema if entry not in whole]
        missing = [entry for entry in least if entry not in schema]
        kind, name, *_ = (*strange, *missing, *schema)[0]
        what = "found another" if strange else "found no" if missing else "found more than one"
        raise StorageError(
            f"{path}: expected the tables of proxprop, {what} {shortened(f'{kind} {name!r}')};"
            " it is damaged, or another program made it"
        )


_Entry = tuple[str, ...]


def _schema_of(connection: sqlite3.Connection) -> list[_Entry]:
    """Type, name, table and SQL of every table, index, view and trigger, sorted."""
    rows = connection.execute(
        f"SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT {_MAX_ENTRIES}"
    )
    return sorted(tuple(" ".join(str(part).split()) for part in row) for row in rows)


@cache
def _schemas() -> tuple[list[_Entry], list[_Entry]]:
    """What there is in a store without reconstructions, and in one with them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        least = _schema_of(connection)
        connection.executescript(RECONSTRUCTIONS)
        return least, _schema_of(connection)
