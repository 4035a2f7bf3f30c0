"""What ``e`` writes: the curves that are shown, every metric, or a picture of the screen."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import StorageError
from engine.export import writing
from engine.run import Run
from proxprop_cli.output import printable

if TYPE_CHECKING:
    from proxprop_cli.dashboard.lines import Line

_COLUMNS = ["chart", "series", "x_axis", "x", "mean", "low", "high", "not_finite", "smooth"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A chart as it is on the screen.

    :ivar title: what it shows.
    :ivar axis: name of the x axis.
    :ivar window: range of x in view; none: all.
    """

    title: str
    axis: str
    window: tuple[float, float] | None
    lines: Sequence[Line]


def fresh(path: Path) -> Path:
    """Where to write without taking the place of a file: ``a.csv``, else ``a-2.csv``, and so on;
    absolute."""
    path = path.absolute()
    taken, number = path, 1
    while os.path.lexists(taken):
        number += 1
        taken = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return taken


def write_curves(path: Path, charts: Sequence[Shown]) -> int:
    """The points in view, decimated as they are drawn; gives the number of rows.

    :raises StorageError: it can not be written; an old file is what it was before.
    """
    rows = 0
    with writing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for chart in charts:
            for line in chart.lines:
                for x, mean, low, high, broken, smooth in _points(line):
                    if chart.window is None or chart.window[0] <= x <= chart.window[1]:
                        label = (plain(chart.title), plain(line.label), chart.axis)
                        writer.writerow([*label, x, mean, low, high, int(broken), smooth])
                        rows += 1
    return rows


def plain(text: str) -> str:
    """Text that neither a terminal nor a spreadsheet takes for a command."""
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _points(line: Line) -> Iterator[tuple[Any, ...]]:
    columns = [line.x, line.mean, line.low, line.high, line.broken]
    smooth = [""] * len(line.x) if line.smooth is None else line.smooth.tolist()
    yield from zip(*(column.tolist() for column in columns), smooth, strict=True)


def write_metrics(path: Path, runs: Sequence[Run]) -> tuple[int, list[str]]:
    """Every metric of the runs, as ``proxprop export`` writes them; gives the number of rows, and a
    line for each run that can not be read and was left out.

    :raises ConfigError: a configuration is damaged.
    :raises StorageError: no store can be read, or the file not be written.
    """
    from engine.export import ClosedStore, ExportSource, export_csv, split_readable

    readable, problems = split_readable(runs)
    if not readable:
        raise StorageError(problems[0])
    sources = [ExportSource(run.id, ClosedStore(run.database), _name(run)) for run in readable]
    return export_csv(sources, path), problems


def _name(run: Run) -> str | None:
    return None if run.name is None else printable(run.name)
