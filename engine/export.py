"""Metrics of runs as CSV, complete and exact."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from engine.atomic_files import replacing, storage_errors
from engine.store_reader import StoreReader

_USER_FILE = 0o666
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Cell = str | int | float


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A run and what to call it."""

    run: str
    """Id of the run."""
    reader: StoreReader
    name: str | None = None
    """Its label."""


def export_csv(sources: Sequence[ExportSource], out: Path | TextIO, *, wide: bool = False) -> int:
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
    target = out.resolve()
    with storage_errors(out):
        if target.exists() and not target.is_file():
            # a device or a pipe is written to, never replaced by a file
            with target.open("w", encoding="utf-8", newline="") as stream:
                return _write(sources, stream, wide)
        with replacing(target, mode=_USER_FILE) as stream:
            return _write(sources, stream, wide)


class _UnixLines:
    """Ends lines with a line feed alone.

    The csv module quotes a text because of the characters in its line terminator only, and a
    carriage return must be quoted: readers take it for the end of a row.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Take one line, as the csv module gives them."""
        self._stream.write(line.removesuffix("\r\n") + "\n")


def _write(sources: Sequence[ExportSource], stream: TextIO, wide: bool) -> int:
    writer = csv_writer(stream)
    named = any(source.name is not None for source in sources)
    keys = _columns(sources) if wide else ["key", "value"]
    writer.writerow(["run", *(["name"] if named else []), "step", *map(csv_text, keys)])
    count = 0
    for source in sources:
        label: list[Cell] = [csv_text(source.run)]
        if named:
            label.append(csv_text(source.name or ""))
        for row in _wide(source.reader, keys) if wide else _long(source.reader):
            writer.writerow([*label, *row])
            count += 1
    return count


def _long(reader: StoreReader) -> Iterator[list[Cell]]:
    for step, key, value in reader.rows():
        yield [step, csv_text(key), value]


def _wide(reader: StoreReader, keys: Sequence[str]) -> Iterator[list[Cell]]:
    for step, group in groupby(reader.rows(), key=itemgetter(0)):
        values = {key: value for _, key, value in group}
        yield [step, *(values.get(key, "") for key in keys)]


def _columns(sources: Sequence[ExportSource]) -> list[str]:
    """The epoch first, then what training gives, then what the clock gives."""
    keys = set[str]().union(*(source.reader.keys() for source in sources))
    return sorted(keys, key=lambda key: (key != "epoch", key.startswith("time/"), key))


def csv_writer(stream: TextIO) -> Any:
    """A writer of the csv module whose lines end with a line feed alone."""
    return csv.writer(_UnixLines(stream), lineterminator="\r\n")


def csv_text(text: str) -> str:
    """A text for a cell: one that a spreadsheet would take for a formula gets a ``'`` in front."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
