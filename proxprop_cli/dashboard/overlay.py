"""From several runs to what a chart draws: a line a run, or a band a row of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxprop_cli.dashboard.curves import X_AXES, line_of
from proxprop_cli.dashboard.lines import Floats, Line
from proxprop_cli.dashboard.views import RunView, series_of

_GAVE_UP = ("stopped", "failed", "interrupted", "unreadable", "deleted")
"""States of runs that do not go on by themselves, apart from those that are done."""
_MOST_OF_ALL = 0.75
"""Of what the farthest seed has: where the mean covers less, the rest is shown too."""


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
    if not banded:
        return [found[0][1] for found in rows.values()]
    return [line for found in rows.values() for line in _joined(found)]


def _joined(found: Sequence[tuple[RunView, Line]]) -> list[Line]:
    """The mean of runs as a line, with the range from the least to the greatest of them.

    It reaches as far as all of them do, so that no seed that joins or leaves on the way bends it.
    A seed that went ahead is a line of its own beyond that, which stands back. A seed that ended
    before its time (it diverged, was stopped or died) would hold the rest back for ever: where
    others are not like that it is left out, from the beginning on, and counted; once it is resumed
    it is one of them again.
    """
    view, first = found[0]
    if view.place is None:
        return [first]
    sound = [(one, line) for one, line in found if line.end is None]
    held = [(one, line) for one, line in sound if one.status not in _GAVE_UP] or sound
    # a seed that diverged would take mean and range with it
    lines = [line for _, line in held or found]
    counts = (("✖", len(found) - len(sound)), ("■", len(sound) - len(held)))
    notes = [f", {glyph} {count}/{len(found)}" for glyph, count in counts if count and held]
    x, curves = _on_one_axis(lines)
    # where one of them has a gap there is no mean of all
    known = np.isfinite(curves).all(axis=0)
    with np.errstate(all="ignore"):
        found_there = (curves / len(lines)).sum(axis=0), curves.min(axis=0), curves.max(axis=0)
    mean, low, high = (np.where(known, values, np.nan) for values in found_there)
    band = Line(
        f"{view.place.row} (n={len(lines)}{''.join(notes)})",
        first.series,
        x,
        low,
        high,
        mean,
        np.zeros(len(x), np.bool_),
        end=None if sound else f"✖ {len(found)}/{len(found)} diverged",
        band=True,
    )
    return [*_ahead(held, x), band] if len(x) else [band]


def _ahead(held: Sequence[tuple[RunView, Line]], x: Floats) -> list[Line]:
    """What the seed that is farthest has beyond the mean, where that is much."""
    if not held:
        return []
    view, line = max(held, key=lambda one: _ends(one[1])[1])
    end = _ends(line)[1]
    if not x[-1] - x[0] < _MOST_OF_ALL * (end - x[0]):
        return []
    part = line.x > x[-1]
    x, low, high = line.x[part], line.low[part], line.high[part]
    # a smoothed line that is nowhere leaves the values standing back
    nowhere = np.full(len(x), np.nan)
    mean, broken = line.mean[part], line.broken[part]
    return [Line(view.short, line.series, x, low, high, mean, broken, smooth=nowhere)]


def _on_one_axis(lines: Sequence[Line]) -> tuple[Floats, Floats]:
    """The places where all lines are, as close as they are in the one that has most, and what
    each has there: NaN in its gaps."""
    ends = [_ends(line) for line in lines]
    start, stop = np.max(ends, axis=0)[0], np.min(ends, axis=0)[1]
    most = max(lines, key=lambda line: len(line.x))
    inner = most.x[(most.x > start) & (most.x < stop)]
    x = np.concatenate(([start], inner, [stop] if stop > start else []))
    if not start <= stop:  # also where one of them has no value
        x = x[:0]
    curves = np.full((len(lines), len(x)), np.nan)
    for row, line in enumerate(lines):
        values = _drawn(line)
        there = np.isfinite(values)
        if not there.any():
            continue
        gaps = np.interp(x, line.x, there.astype(float)) < 1
        at = np.interp(x, line.x[there], values[there])
        curves[row] = np.where(gaps, np.nan, at)
    return x, curves


def _drawn(line: Line) -> Floats:
    return line.mean if line.smooth is None else line.smooth


def _ends(line: Line) -> tuple[float, float]:
    """Where its first and its last value are; NaN where it has none."""
    x = line.x[np.isfinite(_drawn(line))]
    return (float(x[0]), float(x[-1])) if len(x) else (np.nan, np.nan)
