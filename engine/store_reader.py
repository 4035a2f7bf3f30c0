"""Reading the SQLite database of a run, while it is written or long after."""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from engine.atomic_files import storage_errors
from engine.errors import StorageError
from engine.store_format import check_state, check_version, database_errors, of_type, reading
from engine.store_opening import Mark, mark_of, open_for_reading

if TYPE_CHECKING:
    # numpy is loaded by what returns arrays, so that looking at a run's state is quick
    import numpy as np
    import numpy.typing as npt

    from engine.buckets import Buckets
    from engine.events import Reconstructed, SolverTrace


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

    Every method raises :class:`StorageError` where the database can not be read.
    """

    def __init__(self, path: Path) -> None:
        """Open the store of a run.

        :param path: the database.
        :raises StorageError: it is missing, damaged or of another version.
        """
        self.path = path
        with storage_errors(path):
            is_file = path.is_file()
        if not is_file:
            raise StorageError(f"{path}: expected the database of a run, found no file")
        self._openings = 0
        self._connection, self._mark = self._open()

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

    def data_version(self) -> int:
        """Another number after every commit of the writer; cheap enough to be asked often.

        Numbers of two readers can not be compared.
        """
        with storage_errors(self.path):
            is_old = self._mark is not None and self._mark != mark_of(self.path)
        if is_old:
            old = self._connection
            self._connection, self._mark = self._open()
            old.close()
        return self._openings << 32 | int(self._fetch("PRAGMA data_version")[0][0])

    def state(self) -> dict[str, Any]:
        """All that the writer set: ``status``, ``created``, ``updated`` and more."""
        with reading(self.path):
            rows = self._fetch("SELECT key, value FROM state")
            state = {key: json.loads(value) for key, value in rows}
            check_state(state)
        return state

    def keys(self) -> tuple[str, ...]:
        """Keys of metrics that have a value, sorted."""
        return tuple(name for name, _ in self._numbered_keys())

    def row_count(self) -> int:
        """Values of metrics in all."""
        return int(self._fetch("SELECT count(*) FROM metric_values")[0][0])

    def series(
        self, key: str, after_step: int = -1
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The values of one metric.

        :param after_step: leave out this step and all before it.
        :returns: steps, ascending, and values, both of shape (n,); an unknown key has none.
        """
        import numpy as np

        rows = self._fetch(
            "SELECT step, coalesce(value, special) FROM metric_values"
            " WHERE key_id = (SELECT id FROM keys WHERE name = ?) AND step > ? ORDER BY step",
            (key, after_step),
        )
        with reading(self.path):
            steps = np.fromiter((step for step, _ in rows), np.int64, len(rows))
            values = np.fromiter((float(value) for _, value in rows), np.float64, len(rows))
        return steps, values

    def buckets(self, key: str, limit: int) -> Buckets:
        """One metric in at most ``limit`` buckets (and one more at the end), made by the database:
        several times cheaper than reading every value."""
        from engine.store_buckets import read_buckets

        with reading(self.path):
            return read_buckets(self._fetch, key, limit)

    def samples(self, key: str, limit: int) -> Buckets:
        """The last value of each bucket alone: for a metric that only grows, such as time; cheaper
        still."""
        from engine.store_buckets import read_samples

        with reading(self.path):
            return read_samples(self._fetch, key, limit)

    def latest(self, keys: Sequence[str], count: int) -> list[tuple[int, dict[str, float]]]:
        """Some metrics at the latest steps that have the first one, oldest first.

        :param count: of steps.
        """
        newest = self._fetch(
            "SELECT step FROM metric_values WHERE key_id = (SELECT id FROM keys WHERE name = ?)"
            " ORDER BY step DESC LIMIT ?",
            (keys[0], count),
        )
        found: dict[int, dict[str, float]] = {step: {} for (step,) in reversed(newest)}
        marks = ", ".join("?" * len(found))
        for key in keys:
            # key by key, as they are stored: any other way would look at every value
            rows = self._fetch(
                "SELECT step, coalesce(value, special) FROM metric_values WHERE key_id ="
                f" (SELECT id FROM keys WHERE name = ?) AND step IN ({marks})",
                (key, *found),
            )
            with reading(self.path):
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
        rows = self._fetch(
            "SELECT step, layer, form, solver, size, beta, products, iterations, stop_reason,"
            " true_residual, descent_cosine, residual FROM traces"
            " WHERE step > ? AND (? IS NULL OR layer = ?) ORDER BY step, layer, iteration",
            (after_step, layer, layer),
        )
        with reading(self.path):
            return [_trace(list(group)) for _, group in groupby(rows, key=itemgetter(0, 1))]

    def last_traces(self) -> list[SolverTrace]:
        """Those of the latest step that has any."""
        ((step,),) = self._fetch("SELECT max(step) FROM solves")
        with reading(self.path):
            return [] if step is None else self.traces(after_step=step - 1)

    def reconstructions(self, after_step: int = -1) -> list[Reconstructed]:
        """What an autoencoder made of its samples, in the order of the steps: the latest, and those
        that :func:`engine.reconstructions.lasts` keeps. None of other networks.

        :param after_step: leave out this step and all before it.
        """
        from engine.store_reconstructions import read

        with reading(self.path):
            return read(self._fetch, after_step)

    def events(self, after_id: int = 0) -> list[EventRow]:
        """Facts in the order they were stored.

        :param after_id: leave out this one and all before it.
        """
        rows = self._fetch(
            "SELECT id, step, time, kind, payload FROM events WHERE id > ? ORDER BY id", (after_id,)
        )
        with reading(self.path):
            return [_event(*row) for row in rows]

    def checkpoints(self) -> list[CheckpointRow]:
        """What can be gone on from, newest first."""
        rows = self._fetch(
            "SELECT step, tensors_sha256, json_sha256, reason, epoch, best, time FROM checkpoints"
            " ORDER BY step DESC"
        )
        with reading(self.path):
            return [_checkpoint(*row) for row in rows]

    def _numbered_keys(self) -> list[tuple[str, int]]:
        rows = self._fetch(
            "SELECT name, id FROM keys"
            " WHERE EXISTS (SELECT 1 FROM metric_values WHERE key_id = id) ORDER BY name"
        )
        with reading(self.path):
            return [(of_type(name, str), of_type(number, int)) for name, number in rows]

    def _column(self, name: str, number: int) -> Iterator[tuple[int, str, float]]:
        cursor = self._connection.execute(
            "SELECT step, coalesce(value, special) FROM metric_values WHERE key_id = ?"
            " ORDER BY step",
            (number,),
        )
        for step, value in cursor:
            yield of_type(step, int), name, float(value)

    def _open(self) -> tuple[sqlite3.Connection, Mark | None]:
        self._openings += 1
        with database_errors(self.path), storage_errors(self.path):
            connection, mark = open_for_reading(self.path)
            try:
                check_version(connection, self.path)
            except BaseException:
                connection.close()
                raise
        return connection, mark

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

    def _fetch(self, statement: str, arguments: tuple[Any, ...] = ()) -> list[Any]:
        with database_errors(self.path):
            return self._connection.execute(statement, arguments).fetchall()


def _event(number: int, step: Any, time: Any, kind: Any, payload: Any) -> EventRow:
    content = of_type(json.loads(payload), dict)
    return EventRow(number, of_type(step, int), float(time), of_type(kind, str), content)


def _checkpoint(
    step: Any, tensors: Any, sidecar: Any, reason: Any, epoch: Any, best: Any, time: Any
) -> CheckpointRow:
    return CheckpointRow(
        of_type(step, int),
        of_type(tensors, str),
        of_type(sidecar, str),
        of_type(reason, str),
        of_type(epoch, int),
        bool(best),
        float(time),
    )


def _trace(rows: list[tuple[Any, ...]]) -> SolverTrace:
    from engine.events import SolverTrace

    step, layer, form, solver, size, beta, products, iterations, reason, true, cosine, _ = rows[0]
    return SolverTrace(
        step=of_type(step, int),
        layer=of_type(layer, str),
        form=form,
        solver=of_type(solver, str),
        size=of_type(size, int),
        beta=float(beta),
        products=float(products),
        iterations=of_type(iterations, int),
        stop_reason=of_type(reason, str),
        residuals=tuple(float(row[-1]) for row in rows if row[-1] is not None),
        true_residual=float(true),
        descent_cosine=float(cosine),
    )
