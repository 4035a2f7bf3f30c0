"""What writer and readers of a store agree on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import StorageError, StorageFullError

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
"""The tables; ``metrics`` and ``traces`` are views for people and other programs.

SQLite keeps NaN as NULL and -0.0 as 0.0. A metric's ``special`` names such a value, and infinities;
in the columns of traces a number that is not finite stands as text.
"""


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Report what SQLite refuses as one line about ``path``.

    :raises StorageError: instead of any ``sqlite3.Error``; where there is no room,
        :class:`StorageFullError`.
    """
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFullError(f"{path}: {error}; free some space and try again") from error
        raise StorageError(f"{path}: {error}") from error


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a store that was written by another version of the program.

    :raises StorageError: with both versions.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != VERSION:
        raise StorageError(
            f"{path}: expected a store of version {VERSION}, found version {found};"
            " open it with the version of proxprop that made it"
        )
