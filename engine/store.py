"""Writing the SQLite database of a run.

One process writes, by one connection (SQLite before 3.51.3 has a fault with two), any number read
through :mod:`engine.store_reader`.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from engine import store_reconstructions
from engine.atomic_files import PRIVATE_FILE, storage_errors
from engine.clock import now
from engine.events import Reconstructed, SolverTrace
from engine.locks import file_of, refuse_other_file
from engine.store_format import SCHEMA, VERSION, database_errors, reading
from engine.store_opening import open_for_writing

_PUT_KEY = "INSERT OR IGNORE INTO keys VALUES (?, ?)"
_PUT_VALUE = "INSERT OR REPLACE INTO metric_values VALUES (?, ?, ?, ?)"
_PUT_SOLVE = "INSERT OR REPLACE INTO solves VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DROP_RESIDUALS = "DELETE FROM residuals WHERE step = ? AND layer = ?"
_PUT_RESIDUAL = "INSERT OR REPLACE INTO residuals VALUES (?, ?, ?, ?)"
_PUT_EVENT = "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)"
_PUT_CHECKPOINT = "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)"
_MARK_BEST = "UPDATE checkpoints SET best = 1 WHERE step = ?"
_DROP_CHECKPOINT = "DELETE FROM checkpoints WHERE step = ?"
_PUT_STATE = "INSERT OR REPLACE INTO state VALUES (?, ?)"
_REWIND = (
    "DELETE FROM metric_values WHERE key_id IN (SELECT id FROM keys) AND step > ?",
    "DELETE FROM solves WHERE step > ?",
    "DELETE FROM residuals WHERE step > ?",
    "DELETE FROM events WHERE step > ?",
    "DELETE FROM checkpoints WHERE step > ?",
    store_reconstructions.REWIND,
)

Row = store_reconstructions.Row


class StoreWriter:
    """Collects rows and writes them, all or none, in :meth:`commit`.

    Nothing of what the other methods are given can be seen before. Rows that could not be written
    are kept, in their order, so that a commit can be tried again once there is room. What is given
    twice is stored once.

    The caller holds the run's lock.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = now) -> None:
        """Open the store of a run.

        :param path: the database.
        :param clock: seconds since the epoch, for the times of events, checkpoints and commits.
        :raises StorageError: it is missing, damaged or of another version.
        """
        self.path = path
        self._clock = clock
        self._pending: list[tuple[str, list[Row]]] = []
        with reading(path):
            self._connection = open_for_writing(path)
            try:
                self._connection.execute(store_reconstructions.SCHEMA)  # of an older run
                self._keys: dict[str, int] = dict(
                    self._connection.execute("SELECT name, id FROM keys")
                )
                # also past events that were deleted: readers ask for what comes after an id
                seen = self._connection.execute("SELECT seq FROM sqlite_sequence").fetchone()
                self._last_event = int(seen[0]) if seen else 0
            except BaseException:
                self._connection.close()
                raise
        log = path.with_name(f"{path.name}-wal")  # there from the first commit on
        self._files = {file: file_of(file) for file in (path, log)}

    @classmethod
    def create(cls, path: Path, *, clock: Callable[[], float] = now) -> StoreWriter:
        """Make the store of a new run, readable by its owner alone.

        :raises StorageError: there is a file already, or it can not be written.
        """
        with storage_errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
        created = (json.dumps("created"), json.dumps(clock()))
        with database_errors(path):
            connection = sqlite3.connect(path, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                schema = f"{SCHEMA} {store_reconstructions.SCHEMA}"
                connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {VERSION};")
                connection.executemany(_PUT_STATE, zip(("status", "created"), created, strict=True))
                connection.execute("COMMIT")
            finally:
                connection.close()
        return cls(path, clock=clock)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    @property
    def pending(self) -> int:
        """Rows that wait for :meth:`commit`."""
        return sum(len(rows) for _, rows in self._pending)

    def append_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Add one value per key; NaN and infinities are kept."""
        self.append_block((step,), {key: (value,) for key, value in values.items()})

    def append_block(self, steps: Sequence[int], values: Mapping[str, Sequence[float]]) -> None:
        """Add a block of steps, as in :class:`engine.events.StepsDone`.

        :param values: per key one value a step.
        :raises ValueError: a key has more or fewer values than there are steps.
        """
        rows: list[Row] = []
        for key, column in values.items():
            number = self._key(key)
            rows.extend(
                (number, step, *_split_special(float(value)))
                for step, value in zip(steps, column, strict=True)
            )
        self._add(_PUT_VALUE, rows)

    def append_traces(self, traces: Iterable[SolverTrace]) -> None:
        """Add what solvers did, one record per step and layer."""
        for trace in traces:
            place = (trace.step, trace.layer)
            self._add(_PUT_SOLVE, [_solve(trace)])
            self._add(_DROP_RESIDUALS, [place])
            numbered = enumerate(trace.residuals)
            self._add(_PUT_RESIDUAL, [(*place, index, _real(value)) for index, value in numbered])

    def add_reconstructions(self, event: Reconstructed) -> None:
        """Add what an autoencoder made of its samples; the ones before make room, unless they are
        to last."""
        self._add(store_reconstructions.DROP_PASSING, [(0,)])
        self._add(store_reconstructions.PUT, [store_reconstructions.row_of(event)])

    def append_event(self, step: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Add a fact with the time of now.

        :param payload: what JSON can hold, NaN and infinities too (in Python's spelling).
        """
        self._last_event += 1
        text = json.dumps(payload)
        self._add(_PUT_EVENT, [(self._last_event, step, self._clock(), kind, text)])

    def set_state(self, values: Mapping[str, Any]) -> None:
        """Replace the values of these keys; others stay. Values are what JSON can hold."""
        self._add(_PUT_STATE, [(key, json.dumps(value)) for key, value in values.items()])

    def add_checkpoint(
        self,
        step: int,
        *,
        tensors_sha256: str,
        json_sha256: str,
        reason: str,
        epoch: int,
        best: bool,
    ) -> None:
        """Note a checkpoint whose two files are on disk already; hashes in hexadecimal."""
        row = (step, tensors_sha256, json_sha256, reason, epoch, int(best), self._clock())
        self._add(_PUT_CHECKPOINT, [row])

    def mark_best(self, step: int) -> None:
        """Let a checkpoint be the best one."""
        self._add(_MARK_BEST, [(step,)])

    def remove_checkpoint(self, step: int) -> None:
        """Forget a checkpoint."""
        self._add(_DROP_CHECKPOINT, [(step,)])

    def rewind(self, step: int) -> None:
        """Delete metrics, traces, events, checkpoints and reconstructions past a step, in one
        transaction.

        That transaction also takes along everything else that waits, such as a new state.

        :raises StorageError: nothing was changed; the next :meth:`commit` tries it again.
        """
        for statement in _REWIND:
            self._add(statement, [(step,)])
        self.commit()

    def commit(self) -> None:
        """Write everything that waits, and the time as state ``updated``, in one transaction.

        :raises StorageError: nothing was written; everything still waits. Or the database is not
            the one any more that was opened.
        """
        if not self._pending:
            return
        with database_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in self._pending:
                    self._connection.executemany(statement, rows)
                updated = json.dumps(self._clock())
                self._connection.execute(_PUT_STATE, ("updated", updated))
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        self._check_files()
        self._pending.clear()

    def close(self) -> None:
        """Close the database; what was not committed is gone."""
        self._connection.close()

    def _check_files(self) -> None:
        """SQLite writes on into files that were deleted or replaced, where nobody will find it."""
        for path, before in self._files.items():
            refuse_other_file(path, before)
        self._files = {path: file_of(path) for path in self._files}

    def _add(self, statement: str, rows: list[Row]) -> None:
        if self._pending and self._pending[-1][0] == statement:
            self._pending[-1][1].extend(rows)
        elif rows:
            self._pending.append((statement, rows))

    def _key(self, name: str) -> int:
        if name not in self._keys:
            self._keys[name] = max(self._keys.values(), default=0) + 1
            self._add(_PUT_KEY, [(self._keys[name], name)])
        return self._keys[name]


def _split_special(value: float) -> tuple[float | None, str | None]:
    """What SQLite's REAL can not hold, as text: it turns NaN into NULL and -0.0 into 0.0."""
    if math.isfinite(value) and (value or math.copysign(1.0, value) > 0):
        return value, None
    return None, repr(value)


def _solve(trace: SolverTrace) -> Row:
    return (
        trace.step,
        trace.layer,
        trace.form,
        trace.solver,
        trace.size,
        _real(trace.beta),
        trace.products,
        trace.iterations,
        trace.stop_reason,
        _real(trace.true_residual),
        _real(trace.descent_cosine),
    )


def _real(value: float) -> float | str:
    """For columns of traces, where a number that is not finite stands as text."""
    return value if math.isfinite(value) else repr(value)
