"""Lines as Braille dots: two columns and four rows of dots in every cell of the terminal.

A line is drawn as vertical spans of dots, one for every piece of a segment in a column of dots. A
span adds 1 where it starts and takes it away after its end; running sums then say which dots are
lit, for all lines at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from proxprop_cli.dashboard.axes import Scale
from proxprop_cli.dashboard.lines import Line
from proxprop_cli.dashboard.marks import (
    Mark,
    Points,
    broken_marks,
    end_mark,
    marks_along,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

# Bits of U+2800 by row and column of a cell.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)

_STIPPLE = 0x95  # every other dot, as on a chess board


@dataclass(frozen=True, slots=True)
class Raster:
    """What lines look like in cells. Arrays have the shape (rows, columns).

    :ivar dots: bits of the Braille pattern, to be added to U+2800.
    :ivar owner: index of the line that colours the cell, -1 for none.
    :ivar dim: whether only raw values behind a smoothed line are in the cell.
    :ivar marks: later ones lie on top.
    """

    dots: npt.NDArray[np.uint8]
    owner: npt.NDArray[np.int16]
    dim: Booleans
    marks: list[Mark]


class _Spans(NamedTuple):
    """Vertical spans of dots, ``first`` to ``last`` inclusive."""

    column: Integers
    first: Integers
    last: Integers


def rasterize(
    lines: Sequence[Line],
    x_scale: Scale,
    y_scale: Scale,
    columns: int,
    rows: int,
    *,
    marked: bool = False,
) -> Raster:
    """Draw lines.

    The range of every bucket is drawn, so that no spike is lost, and a line that joins the means of
    neighbouring buckets unless one is broken or has none. A line leads on to the edge towards
    points outside the range. Where a line is smoothed, that is drawn bright and the rest dim
    behind it; bands are stippled behind all lines. Later lines lie on top.

    :param lines: what to draw.
    :param x_scale: the range of the left to the right column of dots.
    :param y_scale: the range of the lowest to the highest row of dots.
    :param columns: width in cells.
    :param rows: height in cells.
    :param marked: whether the glyph of a line is repeated along it.
    """
    columns, rows = max(columns, 0), max(rows, 0)
    raster = Raster(
        np.zeros((rows, columns), np.uint8),
        np.full((rows, columns), -1, np.int16),
        np.zeros((rows, columns), np.bool_),
        [],
    )
    if not columns or not rows or not any(len(line.x) for line in lines):
        return raster
    width, height = 2 * columns, 4 * rows
    bright, behind, bands = (_Layer(columns, rows) for _ in range(3))
    along: list[Mark] = []
    ends: list[Mark] = []
    for index, line in enumerate(lines):
        if not len(line.x):
            continue
        points = _placed(line, x_scale, y_scale, width, height)
        raw = behind if points.smooth is not None else bright
        ranges = _ranges(points, width, height)
        if line.band:
            bands.add(index, _band(points, width, height))
            ranges = _Spans(*(values[:0] for values in ranges))
        raw.add(index, ranges, _joins(points, points.mean, width, height))
        if points.smooth is not None:
            dots = points._replace(top=points.smooth, bottom=points.smooth)
            bright.add(
                index, _ranges(dots, width, height), _joins(dots, points.smooth, width, height)
            )
        raster.marks.extend(broken_marks(points, index, width, height))
        if marked:
            shift = index / len(lines)
            along.extend(marks_along(line, points, index, width, height, shift))
        ends.extend(end_mark(line, points, index, width, height))
    bright.paint(raster)
    # not over gaps
    raster.marks[:0] = [mark for mark in along if raster.dots[mark.row, mark.column]]
    raster.marks.extend(ends)
    # Raw values would blur a smoothed line where they are in the same cell, so they give way.
    free = raster.dots == 0
    behind.paint(raster, free)
    bands.paint(raster, raster.dots == 0, _STIPPLE)
    raster.dim[:] = free & (raster.dots > 0)
    return raster


class _Layer:
    """Spans of dots that are drawn in one go."""

    def __init__(self, columns: int, rows: int) -> None:
        self._spans: list[_Spans] = []
        self._owner = np.full((columns, rows), -1, np.int16)

    def add(self, line: int, *parts: _Spans) -> None:
        spans = _Spans(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        if len(spans.column):
            self._spans.append(spans)
            cells = _Spans(spans.column >> 1, spans.first >> 2, spans.last >> 2)
            self._owner[cells.column, cells.first] = line
            self._owner[cells.column, cells.last] = line
            tall = cells.last > cells.first + 1
            if tall.any():
                between = _Spans(*(values[tall] for values in cells))
                self._owner[_covered(between, *self._owner.shape)] = line

    def paint(self, raster: Raster, where: Booleans | None = None, mask: int = 0xFF) -> None:
        if not self._spans:
            return
        rows, columns = raster.dots.shape
        spans = _Spans(*(np.concatenate(values) for values in zip(*self._spans, strict=True)))
        lit = _covered(spans, 2 * columns, 4 * rows)
        dots = np.zeros((columns, rows), np.uint8)
        for (row, column), bit in np.ndenumerate(_BITS):
            dots |= lit[column::2, row::4] * bit
        chosen = slice(None) if where is None else where
        raster.dots[chosen] = dots.T[chosen] & mask
        raster.owner[chosen] = self._owner.T[chosen]


def _covered(spans: _Spans, columns: int, rows: int) -> Booleans:
    """Which of (columns, rows) are in a span."""
    size = columns * (rows + 1)
    offset = spans.column * (rows + 1)
    begun = np.bincount(offset + spans.first, minlength=size)
    begun -= np.bincount(offset + spans.last + 1, minlength=size)
    return begun.reshape(columns, rows + 1)[:, :rows].cumsum(axis=1) > 0


def _placed(line: Line, x_scale: Scale, y_scale: Scale, width: int, height: int) -> Points:
    # The range runs from the centre of the first dot to that of the last.
    x = x_scale.place(line.x) * (width - 1) + 0.5
    given = [line.mean, line.low, line.high, *([] if line.smooth is None else [line.smooth])]
    # Upside down: the largest value is in the uppermost row.
    y = (1 - y_scale.place(np.stack(given))) * (height - 1) + 0.5
    top, bottom = np.fmin.reduce(y[:3]), np.fmax.reduce(y[:3])
    smooth = None if line.smooth is None else y[3]
    return Points(x, top, bottom, y[0], smooth, np.asarray(line.broken, np.bool_))


def _ranges(points: Points, width: int, height: int) -> _Spans:
    """Every bucket from its least to its largest value."""
    x, top, bottom = points.x, points.top, points.bottom
    shown = (x >= 0) & (x < width) & (bottom >= 0) & (top < height)
    return _Spans(
        x[shown].astype(np.int64),
        np.maximum(top[shown], 0).astype(np.int64),
        np.minimum(bottom[shown], height - 1).astype(np.int64),
    )


def _band(points: Points, width: int, height: int) -> _Spans:
    """The area between least and largest value, in every column of dots."""
    there = np.isfinite(points.top) & np.isfinite(points.bottom) & np.isfinite(points.x)
    x = points.x[there]
    if not len(x):
        return _Spans(*(np.zeros(0, np.int64) for _ in range(3)))
    first, last = max(int(x[0]), 0), min(int(x[-1]), width - 1)
    column = np.arange(first, last + 1)
    top = np.interp(column + 0.5, x, points.top[there])
    bottom = np.interp(column + 0.5, x, points.bottom[there])
    shown = (bottom >= 0) & (top < height)
    return _Spans(
        column[shown],
        np.maximum(top[shown], 0).astype(np.int64),
        np.minimum(bottom[shown], height - 1).astype(np.int64),
    )


def _joins(points: Points, y: Floats, width: int, height: int) -> _Spans:
    """The segments between neighbouring points, cut at the edges of the columns of dots."""
    x = points.x
    good = np.isfinite(y) & ~points.broken
    joined = good[:-1] & good[1:] & (x[:-1] <= x[1:]) & (x[:-1] < width) & (x[1:] > 0)
    index = np.flatnonzero(joined)
    left, right, begin, end = x[index], x[index + 1], y[index], y[index + 1]
    start = np.maximum(left, 0).astype(np.int64)
    # A segment that ends on an edge has no part in the column behind it.
    stop = np.maximum(np.ceil(np.minimum(right, width)).astype(np.int64) - 1, start)
    counts = stop - start + 1
    slope = np.divide(end - begin, right - left, out=np.zeros_like(left), where=right > left)
    segment = np.repeat(np.arange(len(index)), counts)
    column = np.arange(len(segment)) + (start + counts - np.cumsum(counts))[segment]
    left, right, begin, end, slope = (
        values[segment] for values in (left, right, begin, end, slope)
    )
    entering = begin + slope * np.maximum(column - left, 0)
    leaving = np.where(right <= column + 1, end, begin + slope * (column + 1 - left))
    return _thin(column, entering, leaving, height)


def _thin(column: Integers, entering: Floats, leaving: Floats, height: int) -> _Spans:
    """Spans as thin as they get without a hole: the dots whose centres they hold.

    A span between two centres becomes the dot in its middle.
    """
    top = np.clip(np.minimum(entering, leaving), -1, height + 1)
    bottom = np.clip(np.maximum(entering, leaving), -1, height + 1)
    first = np.ceil(top - 0.5).astype(np.int64)
    last = np.ceil(bottom - 0.5).astype(np.int64) - 1
    middle = ((top + bottom) / 2 + 1).astype(np.int64) - 1
    between = last < first
    first = np.maximum(np.where(between, middle, first), 0)
    last = np.minimum(np.where(between, middle, last), height - 1)
    kept = first <= last
    return _Spans(column[kept], first[kept], last[kept])
