"""From several runs to what a chart draws: a line a run, or a band a row of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxprop_cli.dashboard.curves import X_AXES, line_of
from proxprop_cli.dashboard.lines import Floats, Line
from proxprop_cli.dashboard.views import RunView, series_of


def overlay_lines(
    views: Sequence[RunView], key: str, axis: int, smoothing: float, *, banded: bool
) -> list[Line]:
    """One metric of several runs.

    :param axis: index of the x axis.
    :param banded: whether the seeds of a row become one line.
    """
    rows: dict[str, list[tuple[RunView, Line]]] = {}
    for view, number in zip(views, series_of(views, banded=banded), strict=True):
        line = line_of(view, key, view.short, number, X_AXES[axis], smoothing, marked=key)
        if line is not None:
            row = f"row {view.place.row}" if banded and view.place else f"run {view.id}"
            rows.setdefault(row, []).append((view, line))
    return [_joined(found) if banded else found[0][1] for found in rows.values()]


def _joined(found: Sequence[tuple[RunView, Line]]) -> Line:
    """The mean of runs as a line, with the range from the least to the greatest of them."""
    view, first = found[0]
    if view.place is None:
        return first
    sound = [line for _, line in found if line.end is None]
    # a seed that diverged would take mean and range with it
    lines = sound or [line for _, line in found]
    lost = len(found) - len(sound)
    x, curves = _on_one_axis(lines)
    known = np.isfinite(curves)
    count = known.sum(axis=0)
    with np.errstate(all="ignore"):
        mean = np.where(known, curves / np.maximum(count, 1), 0.0).sum(axis=0)
    nothing = count == 0
    low = np.where(known, curves, np.inf).min(axis=0)
    high = np.where(known, curves, -np.inf).max(axis=0)
    mean[nothing] = low[nothing] = high[nothing] = np.nan
    note = f", ✖ {lost}/{len(found)}" if lost and sound else ""
    return Line(
        f"{view.place.row} (n={len(lines)}{note})",
        first.series,
        x,
        low,
        high,
        mean,
        np.zeros(len(x), np.bool_),
        end=None if sound else f"✖ {lost}/{len(found)} diverged",
        band=True,
    )


def _on_one_axis(lines: Sequence[Line]) -> tuple[Floats, Floats]:
    """The places of the line that has most, and what each has there: NaN where it has nothing.

    Beyond those the places of the line that reaches farthest.
    """
    most = max(lines, key=lambda line: len(line.x))
    farthest = max(lines, key=lambda line: line.x[-1])
    x = np.concatenate((most.x, farthest.x[farthest.x > most.x[-1]]))
    curves = np.full((len(lines), len(x)), np.nan)
    for row, line in enumerate(lines):
        values = line.mean if line.smooth is None else line.smooth
        there = np.isfinite(values)
        if there.any():
            curves[row] = np.interp(x, line.x[there], values[there], left=np.nan, right=np.nan)
    return x, curves
