"""What ``e`` writes: the curves that are shown, every metric, or a picture of the screen."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from engine.atomic_files import storage_errors
from engine.run import Run
from proxprop_cli.dashboard.lines import Line


def write_curves(path: Path, charts: Sequence[tuple[str, str, Sequence[Line]]]) -> int:
    """The points of the curves as they are drawn; gives the number of rows.

    :param charts: title, name of the x axis and lines of each.
    :raises StorageError: it can not be written.
    """
    rows = 0
    with storage_errors(path), path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["chart", "series", "x_axis", "x", "mean", "low", "high", "not_finite"])
        for title, axis, lines in charts:
            for line in lines:
                columns = (line.x, line.mean, line.low, line.high, line.broken)
                for x, mean, low, high, broken in zip(*(c.tolist() for c in columns), strict=True):
                    writer.writerow([title, line.label, axis, x, mean, low, high, int(broken)])
                    rows += 1
    return rows


def write_metrics(path: Path, runs: Sequence[Run]) -> int:
    """Every metric of the runs, as ``proxprop export`` writes them; gives the number of rows.

    :raises ConfigError: a configuration is damaged.
    :raises StorageError: a store can not be read, or the file not be written.
    """
    from contextlib import ExitStack

    from engine.export import ExportSource, export_csv
    from engine.store_reader import StoreReader

    with ExitStack() as stack:
        sources = [
            ExportSource(run.id, stack.enter_context(StoreReader(run.database)), run.name)
            for run in runs
        ]
        return export_csv(sources, path)
