"""Metrics of runs as CSV, complete and exact; what all kinds of exports share."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from engine.atomic_files import replacing, storage_errors
from engine.errors import ConfigError, StorageError
from engine.store_reader import StoreReader

if TYPE_CHECKING:
    from engine.run import Run

_USER_FILE = 0o666
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Metrics(Protocol):
    """What was logged of a run; a :class:`StoreReader` is one."""

    def state(self) -> dict[str, Any]:
        """All that the writer set, ``created`` among it."""

    def keys(self) -> tuple[str, ...]:
        """Keys of metrics that have a value, sorted."""

    def rows(self) -> Iterator[tuple[int, str, float]]:
        """Every (step, key, value), in the order of step and key."""


@dataclass(frozen=True, slots=True)
class ClosedStore:
    """A store that is opened for each question: a process may have a few hundred files open, and
    a sweep has more runs. Every method raises :class:`StorageError` where it can not be read."""

    path: Path

    def state(self) -> dict[str, Any]:
        """See :class:`Metrics`."""
        with StoreReader(self.path) as reader:
            return reader.state()

    def keys(self) -> tuple[str, ...]:
        """See :class:`Metrics`."""
        with StoreReader(self.path) as reader:
            return reader.keys()

    def rows(self) -> Iterator[tuple[int, str, float]]:
        """See :class:`Metrics`."""
        with StoreReader(self.path) as reader:
            yield from reader.rows()


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A run and what to call it."""

    run: str
    """Id of the run."""
    reader: Metrics
    name: str | None = None
    """Its label."""


def split_readable(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs whose stores can be read, and a line for each of the others: a damaged one must not
    keep the others from being exported."""
    readable, problems = [], []
    for run in runs:
        try:
            ClosedStore(run.database).keys()
        except StorageError as error:
            problems.append(f"{run.id} is unreadable and left out: {error}")
        else:
            readable.append(run)
    return readable, problems


class TextSink(Protocol):
    """A stream, as far as an export needs one."""

    def write(self, text: str, /) -> object:
        """Take a text."""


def export_csv(sources: Sequence[ExportSource], out: Path | TextSink, *, wide: bool = False) -> int:
    """Write the metrics of runs, one run after the other.

    The columns are ``run``, ``name`` (where any run has one), ``step``, and then ``key`` and
    ``value``; the wide form has a column per key instead, empty where there is no value. Numbers
    are the shortest text that gives the same float64, or ``nan``, ``inf`` and ``-inf``. A text
    that a spreadsheet would take for a formula gets a ``'`` in front.

    :param out: a stream, or the path of a file that is replaced when all is written.
    :param wide: one row per step instead of one per step and key.
    :returns: rows written, the header not counted.
    :raises StorageError: a store can not be read or the file can not be written.
    """
    if not isinstance(out, Path):
        return _write(sources, out, wide)
    with writing(out) as stream:
        return _write(sources, stream, wide)


@contextmanager
def writing(out: Path) -> Iterator[TextIO]:
    """Open a file for an export; it has the name once the block ends without an exception.

    A link is followed and kept; a device or a pipe is written to, never replaced by a file.

    :raises StorageError: it can not be written; an old file is what it was before.
    """
    with storage_errors(out):
        target = out.resolve()
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8", newline="") as stream:
                yield stream
        else:
            with replacing(target, mode=_USER_FILE) as stream:
                yield stream


def load_extra(kind: str, module: str) -> Any:
    """A module of the extra that is called like a kind of export.

    :raises ConfigError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        fix = f"pip install 'proxprop[{kind}]'"
        raise ConfigError(f"--format {kind} needs the extra: {fix}") from error


class _UnixLines:
    """Ends lines with a line feed alone.

    The csv module quotes a text because of the characters in its line terminator only, and a
    carriage return must be quoted: readers take it for the end of a row.
    """

    def __init__(self, stream: TextSink) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Take one line, as the csv module gives them."""
        self._stream.write(line.removesuffix("\r\n") + "\n")


def _write(sources: Sequence[ExportSource], stream: TextSink, wide: bool) -> int:
    writer = csv_writer(stream)
    named = any(source.name is not None for source in sources)
    keys = wide_keys(sources) if wide else ["key", "value"]
    writer.writerow(["run", *(["name"] if named else []), "step", *map(csv_text, keys)])
    count = 0
    for source in sources:
        label = [csv_text(source.run)]
        if named:
            label.append(csv_text(source.name or ""))
        if wide:
            for step, values in wide_rows(source.reader, keys):
                # the csv module writes nothing for None
                writer.writerow([*label, step, *values])
                count += 1
        else:
            for step, key, value in source.reader.rows():
                writer.writerow([*label, step, csv_text(key), value])
                count += 1
    return count


def wide_rows(reader: Metrics, keys: Sequence[str]) -> Iterator[tuple[int, list[float | None]]]:
    """A step and its value for every key, None where there is none."""
    for step, group in groupby(reader.rows(), key=itemgetter(0)):
        values = {key: value for _, key, value in group}
        yield step, [values.get(key) for key in keys]


def wide_keys(sources: Sequence[ExportSource]) -> list[str]:
    """The epoch first, then what training gives, then what the clock gives."""
    keys = set[str]().union(*(source.reader.keys() for source in sources))
    return sorted(keys, key=lambda key: (key != "epoch", key.startswith("time/"), key))


def csv_writer(stream: TextSink) -> Any:
    """A writer of the csv module whose lines end with a line feed alone."""
    return csv.writer(_UnixLines(stream), lineterminator="\r\n")


def csv_text(text: str) -> str:
    """A text for a cell: one that a spreadsheet would take for a formula gets a ``'`` in front."""
    text = encodable(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 does not have, as escapes: JSON may hold them."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
