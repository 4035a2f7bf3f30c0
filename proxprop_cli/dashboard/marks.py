"""Characters in the place of dots: at the ends of lines, along them, and where values are lost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from proxprop_cli.dashboard.lines import Line

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

BROKEN = "✖"
"""Mark of a value that is not finite."""
_MARK_CELLS = 24
"""Between two marks along a line, where there is room."""


class Mark(NamedTuple):
    """A character instead of dots."""

    row: int
    column: int
    character: str
    line: int


class Points(NamedTuple):
    """The buckets of a line, in dots from the upper left corner; NaN where they have no place."""

    x: Floats
    top: Floats
    bottom: Floats
    mean: Floats
    smooth: Floats | None
    broken: Booleans


def broken_marks(points: Points, line: int, width: int, height: int) -> list[Mark]:
    """One for every stretch of broken buckets, beside the value before it, else at the top."""
    begins = points.broken.copy()
    begins[1:] &= ~points.broken[:-1]
    found = np.flatnonzero(begins & (points.x >= 0) & (points.x < width))
    before = points.mean[np.maximum(found - 1, 0)]
    y = np.where(np.isfinite(points.mean[found]), points.mean[found], before)
    row = np.where(np.isfinite(y), np.clip(y, 0, height - 1), 0).astype(np.int64) // 4
    column = points.x[found].astype(np.int64) // 2
    places = zip(row.tolist(), column.tolist(), strict=True)
    return [Mark(row, column, BROKEN, line) for row, column in dict.fromkeys(places)]


def marks_along(
    line: Line, points: Points, index: int, width: int, height: int, shift: float
) -> list[Mark]:
    """Its glyph at intervals, those of other lines in other columns.

    :param shift: by how much of an interval.
    """
    y = points.mean if points.smooth is None else points.smooth
    there = np.isfinite(y) & np.isfinite(points.x)
    x = points.x[there]
    if not len(x):
        return []
    every = min(_MARK_CELLS, max(width // 6, 4))
    cells = np.arange(int(every * (0.5 + shift)) % every, width // 2, every)
    cells = cells[(2 * cells + 1 >= x[0]) & (2 * cells + 1 <= x[-1])]
    at = np.interp(2 * cells + 1.0, x, y[there])
    shown = (at >= 0) & (at < height)
    places = zip(at[shown].astype(np.int64) // 4, cells[shown], strict=True)
    return [Mark(int(row), int(column), line.glyph, index) for row, column in places]


def end_mark(line: Line, points: Points, index: int, width: int, height: int) -> list[Mark]:
    """A mark at the last value, if that is shown."""
    y = points.mean
    if points.smooth is not None and np.isfinite(points.smooth).any():
        y = points.smooth
    there = np.flatnonzero(np.isfinite(y) & np.isfinite(points.x))
    if not len(there):
        return []
    x, last = points.x[there[-1]], y[there[-1]]
    if not (0 <= x < width and 0 <= last < height):
        return []
    return [Mark(int(last) // 4, int(x) // 2, line.end[0] if line.end else line.glyph, index)]
