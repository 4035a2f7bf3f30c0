"""What part of the data a chart shows, and how that part is moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proxprop_cli.dashboard.axes import Scale
from proxprop_cli.dashboard.lines import Floats, Line
from proxprop_cli.dashboard.tick_labels import Format

Window = tuple[float, float]

_MARGIN = 0.03
_NARROWEST = 1e-6
"""Of all data: the least that zooming in leaves."""
_TOUCHES = 1e-6


@dataclass(frozen=True, slots=True)
class View:
    """How lines are looked at.

    :ivar shorter: what to say in place of the title where there is less and less room.
    :ivar window: range of x, None for all.
    :ivar y_shift: how far the range of y is moved up, in heights of the plot.
    :ivar empty: what to say where there is nothing to draw.
    :ivar marked: whether the glyph of a line is repeated along it.
    """

    title: str = ""
    x_label: str = ""
    x_format: Format = "count"
    y_format: Format = "number"
    log_x: bool = False
    log_y: bool = False
    window: Window | None = None
    y_shift: float = 0.0
    empty: str = ""
    marked: bool = False
    shorter: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scales:
    """The axes of a view.

    :ivar known: whether any value is in the range; else that of y means nothing.
    """

    x: Scale
    y: Scale
    known: bool


def extent(lines: Sequence[Line], log: bool) -> Window | None:
    """Least and largest x that have a place on the axis; None if there are none."""
    found = []
    for line in lines:
        usable = line.x[np.isfinite(line.x) & ((line.x > 0) | (not log))]
        if len(usable):
            found.append((float(usable.min()), float(usable.max())))
    if not found:
        return None
    return min(low for low, _ in found), max(high for _, high in found)


def scales(lines: Sequence[Line], view: View) -> Scales | None:
    """The axes for a view: y reaches over what the lines do in the window.

    :returns: None where there is nothing to draw.
    """
    found = extent(lines, view.log_x)
    if found is None:
        return None
    if view.window is not None and _proper(view.window):
        found = view.window if not view.log_x else (max(view.window[0], found[0]), view.window[1])
    if found[0] == found[1] and 0 <= found[0] < 1e9 and not view.log_x:
        # One step has whole ones beside it, and no negative ones.
        found = max(found[0] - 1, 0.0), found[0] + 1
    x_scale = Scale(*found, view.log_x)
    values = [_values(line, x_scale.low, x_scale.high, view.log_y) for line in lines]
    shown = np.concatenate(values)
    if not len(shown):
        return Scales(x_scale, Scale(0.1, 1, view.log_y), known=False)
    low, high = float(shown.min()), float(shown.max())
    tight = Scale(low, high, view.log_y)
    below, above = tight.value(-_MARGIN), tight.value(1 + _MARGIN)
    if not view.log_y and low >= 0:
        # What cannot be negative should not look as if it could.
        below = max(below, 0.0)
    if view.y_format == "percent" and high <= 1:
        above = min(above, 1.0) if below < 1 else above
    y_scale = Scale(below, above, view.log_y)
    if view.y_shift and math.isfinite(view.y_shift):
        y_scale = y_scale.part(view.y_shift, 1 + view.y_shift)
    return Scales(x_scale, y_scale, known=True)


def zoomed(lines: Sequence[Line], view: View, factor: float) -> Window | None:
    """The window that shows ``1 / factor`` of the present one.

    Its right edge stays if it is at the newest data, else its centre.
    """
    place = _place(lines, view)
    if place is None or not (factor > 0 and math.isfinite(factor)):
        return view.window
    full, start, stop = place
    width = max((stop - start) / factor, _NARROWEST)
    start = stop - width if stop >= 1 - _TOUCHES else (start + stop - width) / 2
    return _window(full, start, width)


def panned(lines: Sequence[Line], view: View, fraction: float) -> Window | None:
    """The window moved by a fraction of its width, to the right where positive."""
    place = _place(lines, view)
    if place is None or view.window is None or not math.isfinite(fraction):
        return view.window
    full, start, stop = place
    return _window(full, start + fraction * (stop - start), stop - start)


def _proper(window: Window) -> bool:
    return all(map(math.isfinite, window)) and window[0] < window[1]


def _place(lines: Sequence[Line], view: View) -> tuple[Scale, float, float] | None:
    """The axis of all data, and the window as fractions of it."""
    found = extent(lines, view.log_x)
    if found is None or not _proper(found):
        return None
    full = Scale(*found, view.log_x)
    if view.window is None or not _proper(view.window):
        return full, 0.0, 1.0
    start, stop = np.nan_to_num(full.place(view.window), nan=0.0).clip(0, 1).tolist()
    return full, start, stop


def _window(full: Scale, start: float, width: float) -> Window | None:
    if width >= 1 - _TOUCHES:
        return None
    start = min(max(start, 0.0), 1 - width)
    stop = start + width
    return (
        full.value(start) if start > 0 else full.low,
        full.value(stop) if stop < 1 - _TOUCHES else full.high,
    )


def _values(line: Line, start: float, stop: float, log: bool) -> Floats:
    """The values of a line in a range of x, with those where it crosses the edges."""
    part = slice(np.searchsorted(line.x, start), np.searchsorted(line.x, stop, side="right"))
    parts = [line.mean[part], line.low[part], line.high[part]]
    if line.smooth is not None:
        parts.append(line.smooth[part])
    there = np.isfinite(line.mean)
    if there.any() and not there[part].any():
        x = line.x[there]
        edges = np.array([edge for edge in (start, stop) if x[0] <= edge <= x[-1]])
        # Halves: the difference of two values need not be finite.
        parts.append(2 * np.interp(edges, x, line.mean[there] / 2))
    found = np.concatenate(parts)
    return found[np.isfinite(found) & ((found > 0) | (not log))]
