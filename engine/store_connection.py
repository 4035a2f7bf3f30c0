"""Questions to the database of a run that end, whatever is in it."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import StorageError
from engine.store_format import database_errors

ANSWER_SECONDS = 10.0
"""What one question to a store may take."""
MAX_VALUE_BYTES = 1 << 20
"""Largest row that is read, but for reconstructions."""
_OPERATIONS = 50_000
"""Of SQLite's virtual machine between two looks at the clock: some milliseconds."""
_ROWS = 1024
"""Asked for at a time."""
_ROW_BYTES = 100
"""What a row takes beside its texts, about."""
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 20,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 3,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
}
"""As in https://sqlite.org/security.html, and enough for every statement of ours."""
_T = TypeVar("_T")
Row = tuple[Any, ...]


class Deadline:
    """Ends a statement of SQLite that takes too long, and lets Python hear signals meanwhile."""

    def __init__(self) -> None:
        self._end = math.inf
        self._has_passed = False

    def __call__(self) -> bool:
        """Whether to end it; asked by SQLite now and then."""
        self._has_passed = time.monotonic() > self._end
        return self._has_passed

    @contextmanager
    def within(self, seconds: float, path: Path) -> Iterator[None]:
        """End what takes longer.

        :raises StorageError: it did.
        """
        self._end, self._has_passed = time.monotonic() + seconds, False
        try:
            yield
        except sqlite3.Error:
            if not self._has_passed:
                raise
            raise StorageError(
                f"{path}: no answer within {seconds:g} s; it is damaged or far too large"
            ) from None
        finally:
            self._end = math.inf


class StoreConnection(sqlite3.Connection):
    """A connection with small limits; call :meth:`limit` first.

    Questions raise :class:`StorageError` where there is no answer, or none in time.
    """

    def limit(self, path: Path) -> None:
        """Hold SQLite to what the statements of ours need.

        :param path: of the database, for errors.
        """
        self._path = path
        self.deadline = Deadline()
        self.set_progress_handler(self.deadline, _OPERATIONS)
        for limit, most in _LIMITS.items():
            self.setlimit(limit, most)
        self.execute("PRAGMA trusted_schema = OFF")
        self.execute("PRAGMA cell_size_check = ON")

    def ask(self, question: Callable[[], _T], seconds: float | None = None) -> _T:
        """The answer to a question.

        :param seconds: that it may take; None: :data:`ANSWER_SECONDS`.
        """
        with (
            database_errors(self._path),
            self.deadline.within(ANSWER_SECONDS if seconds is None else seconds, self._path),
        ):
            return question()

    def fetch(self, statement: str, arguments: Row = ()) -> list[Any]:
        """The rows of a question that has few, however large the store is."""
        return self.ask(lambda: self.execute(statement, arguments).fetchall())

    def pieces(
        self, statement: str, arguments: Row = (), at_a_time: int = _ROWS
    ) -> Iterator[list[Any]]:
        """The rows of a question, some at a time, each piece in time."""
        cursor = self.ask(lambda: self.execute(statement, arguments))
        while rows := self.ask(lambda: cursor.fetchmany(at_a_time)):
            yield rows

    def stream(
        self, statement: str, arguments: Row = (), *, ordered_by: int = 1, at_a_time: int = _ROWS
    ) -> Iterator[Row]:
        """The rows of a question as they are asked for.

        In a damaged or crafted file pages may lead to one another in circles, and a few of them
        hold rows without end; but then they are not in their order.

        :param ordered_by: columns at the beginning of a row that ascend from row to row.
        :raises ValueError: they do not.
        """
        place, last = itemgetter(*range(ordered_by)), None
        for rows in self.pieces(statement, arguments, at_a_time):
            for row in rows:
                here = place(row)
                if last is not None and not last < here:
                    raise ValueError(f"rows are not in their order at {str(here)[:60]}")
                last = here
                yield row

    def texts(
        self, statement: str, most_bytes: int, arguments: Row = (), *, at_a_time: int = 16
    ) -> Iterator[Row]:
        """The rows of a table of texts, as :meth:`stream`.

        :param most_bytes: of all of them.
        :raises ValueError: there is more.
        """
        left = most_bytes
        for row in self.stream(statement, arguments, at_a_time=at_a_time):
            left -= _ROW_BYTES + sum(len(part) for part in row if isinstance(part, str | bytes))
            if left < 0:
                raise ValueError(f"a table has more than {most_bytes:,} bytes")
            yield row
