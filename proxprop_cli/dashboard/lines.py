"""What a chart draws, apart from how: a line with its range, its gaps and its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxprop_cli.dashboard.palette import color_of, glyph_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """A decimated series. All arrays have the shape (n,), one entry a bucket of steps.

    :ivar label: what the legend says; shown as it is, escaped.
    :ivar series: number of the series, from 0: chooses colour and glyph.
    :ivar x: in units of the axis, ascending, finite.
    :ivar low: least finite value of the bucket; NaN where it has none.
    :ivar high: largest.
    :ivar mean: of the finite values; the line goes through these.
    :ivar broken: whether the bucket holds a value that is not finite: the line is not joined over
        it, and it is marked.
    :ivar smooth: smoothed values to draw over the raw ones, if any; NaN in gaps.
    :ivar band: whether the range from low to high is an area behind the line, and not a part of it.
    :ivar end: text of a mark at the last point, such as ``✖ diverged``, if any.
    """

    label: str
    series: int
    x: Floats
    low: Floats
    high: Floats
    mean: Floats
    broken: npt.NDArray[np.bool_]
    smooth: Floats | None = None
    end: str | None = None
    band: bool = False

    @property
    def color(self) -> str:
        """As a CSS colour."""
        return color_of(self.series)

    @property
    def glyph(self) -> str:
        """One character."""
        return glyph_of(self.series)


def points(label: str, series: int, x: Floats, y: Floats, end: str | None = None) -> Line:
    """A line of single points, not decimated."""
    finite = np.isfinite(y)
    y = np.where(finite, y, np.nan)
    return Line(label, series, x, y, y, y, ~finite, end=end)
