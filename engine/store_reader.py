"""Reading the SQLite database of a run, while it is written or long after."""

from __future__ import annotations

import heapq
import json
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from engine.errors import StorageError
from engine.locks import read_created
from engine.store_connection import MAX_VALUE_BYTES
from engine.store_format import database_errors, reading
from engine.store_opening import open_for_reading
from engine.store_values import check_state, moment_of, name_of, of_type

if TYPE_CHECKING:
    # numpy is loaded by what returns arrays, so that looking at a run's state is quick
    import numpy as np
    import numpy.typing as npt

    from engine.buckets import Buckets
    from engine.events import Reconstructed, SolverTrace

_CHECK_SECONDS = 60.0
"""What looking through a whole database may take."""
_MAX_STATE_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 26
"""Of a table of texts."""
_MAX_PAYLOAD = 1 << 16
"""Characters of what an event tells."""
_MAX_IMAGE_BYTES = 1 << 28
"""Of the reconstructions at one step."""
_MAX_IMAGES_BYTES = 1 << 30
_VALUES = (
    "SELECT step, coalesce(value, special) FROM metric_values"
    " WHERE key_id = ? AND step > ? ORDER BY step"
)
_FIRST = -(2**63)


@dataclass(frozen=True, slots=True)
class EventRow:
    """A stored fact."""

    id: int
    """Grows with every event and is never used again."""
    step: int
    time: float
    """Seconds since the epoch."""
    kind: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A stored checkpoint and the SHA-256 of its two files, in hexadecimal."""

    step: int
    tensors_sha256: str
    json_sha256: str
    reason: str
    epoch: int
    best: bool
    time: float
    """Seconds since the epoch."""


class StoreReader:
    """Never writes and never keeps the writer waiting. May change threads, but not be shared.

    To be closed after a look: it would read on from a file that was deleted or replaced.
    :func:`engine.store_opening.mark_of` tells whether there is something new to read.

    Every method raises :class:`StorageError` where the database can not be read, holds what the
    writer does not put there, or does not answer in time.
    """

    def __init__(self, path: Path) -> None:
        """Open the store of a run.

        :param path: the database.
        :raises StorageError: it is missing, damaged, of another version or not ours.
        """
        self.path = path
        with database_errors(path):
            self._connection = open_for_reading(path)

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def check(self) -> None:
        """Look through the whole database for damage.

        :raises StorageError: there is some.
        """
        check = "PRAGMA quick_check(1)"
        execute = self._connection.execute
        with reading(self.path):
            ((answer,),) = self._connection.ask(lambda: execute(check).fetchall(), _CHECK_SECONDS)
        if answer != "ok":
            raise StorageError(f"{self.path}: damaged: {' '.join(str(answer).split())[:200]}")

    def state(self) -> dict[str, Any]:
        """All that the writer set: ``status``, ``created``, ``updated`` and more."""
        statement = "SELECT key, value FROM state ORDER BY key"
        with reading(self.path):
            rows = self._connection.texts(statement, _MAX_STATE_BYTES)
            state = {key: json.loads(value) for key, value in rows}
            check_state(state)
        made = read_created(self.path.with_name("lock"))
        if made is not None and state.get("created", made) != made:
            raise StorageError(f"{self.path}: this is the database of another run")
        return state

    def keys(self) -> tuple[str, ...]:
        """Keys of metrics that have a value, sorted."""
        return tuple(name for name, _ in self._numbered_keys())

    def row_count(self) -> int:
        """Values of metrics in all."""
        # without a condition SQLite counts whole pages, and looks at no clock meanwhile
        statement = "SELECT count(*) FROM metric_values WHERE step > ?"
        return int(self._connection.fetch(statement, (_FIRST,))[0][0])

    def series(
        self, key: str, after_step: int = -1
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The values of one metric.

        :param after_step: leave out this step and all before it.
        :returns: steps, ascending, and values, both of shape (n,); an unknown key has none.
        """
        import numpy as np

        steps, values = array("q"), array("d")
        with reading(self.path):
            for (number,) in self._connection.fetch("SELECT id FROM keys WHERE name = ?", (key,)):
                for rows in self._connection.pieces(_VALUES, (number, after_step)):
                    begin = max(len(steps) - 1, 0)
                    steps.extend(step for step, _ in rows)
                    values.extend(float(value) for _, value in rows)
                    if any(step >= later for step, later in pairwise(steps[begin:])):
                        raise ValueError(f"steps of {key!r} are not in their order")
        return np.array(steps, np.int64), np.array(values, np.float64)

    def buckets(self, key: str, limit: int) -> Buckets:
        """One metric in at most ``limit`` buckets (and one more at the end), made by the database:
        several times cheaper than reading every value."""
        from engine.store_buckets import read_buckets

        with reading(self.path):
            return read_buckets(self._connection.fetch, key, limit)

    def samples(self, key: str, limit: int) -> Buckets:
        """The last value of each bucket alone: for a metric that only grows, such as time; cheaper
        still."""
        from engine.store_buckets import read_samples

        with reading(self.path):
            return read_samples(self._connection.fetch, key, limit)

    def latest(self, keys: Sequence[str], count: int) -> list[tuple[int, dict[str, float]]]:
        """Some metrics at the latest steps that have the first one, oldest first.

        :param count: of steps.
        """
        newest = self._connection.fetch(
            "SELECT step FROM metric_values WHERE key_id = (SELECT id FROM keys WHERE name = ?)"
            " ORDER BY step DESC LIMIT ?",
            (keys[0], count),
        )
        found: dict[int, dict[str, float]] = {}
        with reading(self.path):
            for (step,) in reversed(newest):
                found[of_type(step, int)] = {}
            marks = ", ".join("?" * len(found))
            for key in keys:
                # key by key, as they are stored: any other way would look at every value
                rows = self._connection.fetch(
                    "SELECT step, coalesce(value, special) FROM metric_values WHERE key_id ="
                    f" (SELECT id FROM keys WHERE name = ?) AND step IN ({marks})",
                    (key, *found),
                )
                for step, value in rows:
                    found[step][key] = float(value)
        return list(found.items())

    def rows(self) -> Iterator[tuple[int, str, float]]:
        """Every (step, key, value), in the order of step and key, as of the first one's moment.

        They are read as they are asked for, not held in memory.
        """
        with self._snapshot():
            # an index by key is all there is; to merge the keys is cheaper than to have two
            columns = [self._column(name, number) for name, number in self._numbered_keys()]
            yield from heapq.merge(*columns, key=itemgetter(0, 1))

    def traces(self, *, layer: str | None = None, after_step: int = -1) -> list[SolverTrace]:
        """What the solvers did, in the order of step and layer.

        :param layer: only this one.
        :param after_step: leave out this step and all before it.
        """
        from engine.store_traces import READ, trace_of

        with reading(self.path):
            rows = self._connection.stream(READ, (after_step, layer, layer), ordered_by=3)
            return [trace_of(list(group)) for _, group in groupby(rows, key=itemgetter(0, 1))]

    def last_traces(self) -> list[SolverTrace]:
        """Those of the latest step that has any."""
        ((step,),) = self._connection.fetch("SELECT max(step) FROM solves")
        with reading(self.path):
            return [] if step is None else self.traces(after_step=of_type(step, int) - 1)

    def reconstructions(self, after_step: int = -1) -> list[Reconstructed]:
        """What an autoencoder made of its samples, in the order of the steps: the latest, and those
        that :func:`engine.reconstructions.lasts` keeps. None of other networks.

        :param after_step: leave out this step and all before it.
        """
        from engine.store_reconstructions import IS_THERE, READ, reconstructed_of

        if not self._connection.fetch(IS_THERE):
            return []
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_IMAGE_BYTES)
        try:
            with reading(self.path):
                rows = self._connection.texts(READ, _MAX_IMAGES_BYTES, (after_step,), at_a_time=1)
                return [reconstructed_of(*row) for row in rows]
        finally:
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)

    def events(self, after_id: int = 0) -> list[EventRow]:
        """Facts in the order they were stored.

        :param after_id: leave out this one and all before it.
        """
        statement = "SELECT id, step, time, kind, payload FROM events WHERE id > ? ORDER BY id"
        with reading(self.path):
            rows = self._connection.texts(statement, _MAX_TEXT_BYTES, (after_id,))
            return [_event(*row) for row in rows]

    def checkpoints(self) -> list[CheckpointRow]:
        """What can be gone on from, newest first."""
        statement = (
            "SELECT step, tensors_sha256, json_sha256, reason, epoch, best, time FROM checkpoints"
            " ORDER BY step"
        )
        with reading(self.path):
            rows = self._connection.texts(statement, _MAX_TEXT_BYTES)
            return [_checkpoint(*row) for row in rows][::-1]

    def _numbered_keys(self) -> list[tuple[str, int]]:
        statement = (
            "SELECT id, name FROM keys"
            " WHERE EXISTS (SELECT 1 FROM metric_values WHERE key_id = id) ORDER BY id"
        )
        with reading(self.path):
            rows = self._connection.texts(statement, _MAX_TEXT_BYTES)
            return sorted((name_of(name), of_type(number, int)) for number, name in rows)

    def _column(self, name: str, number: int) -> Iterator[tuple[int, str, float]]:
        for step, value in self._connection.stream(_VALUES, (number, _FIRST)):
            yield of_type(step, int), name, float(value)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Let all reads within see the same state; a snapshot within a snapshot is the same one."""
        with reading(self.path):
            outermost = not self._connection.in_transaction
            if outermost:
                self._connection.execute("BEGIN")
            try:
                yield
            finally:
                # somebody who stopped reading halfway may have closed the reader meanwhile
                with suppress(sqlite3.ProgrammingError):
                    if outermost:
                        self._connection.execute("COMMIT")


def _event(number: int, step: Any, time: Any, kind: Any, payload: Any) -> EventRow:
    if len(payload) > _MAX_PAYLOAD:
        raise ValueError(f"expected an event of at most {_MAX_PAYLOAD:,} characters")
    content = of_type(json.loads(payload), dict)
    return EventRow(number, of_type(step, int), moment_of(time), name_of(kind), content)


def _checkpoint(
    step: Any, tensors: Any, sidecar: Any, reason: Any, epoch: Any, best: Any, time: Any
) -> CheckpointRow:
    return CheckpointRow(
        of_type(step, int),
        name_of(tensors),
        name_of(sidecar),
        name_of(reason),
        of_type(epoch, int),
        bool(best),
        moment_of(time),
    )
