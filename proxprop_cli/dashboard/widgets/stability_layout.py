"""Where the parts of the stability grid are, at any size."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from engine.stability import Stability
from proxprop_cli.dashboard.shorten import without_middle
from proxprop_cli.output import printable
from proxprop_cli.sweep_tables import best_text

TALL = 3
"""Least lines of a row where there is room; else 1."""
DETAIL_LINES = 3
"""Most lines about the cell under the cursor."""

_LEAST_NAME = 16
_NAME_SHARE = 5
"""Part of the width that names may take where that is more."""
_NARROW, _ROOMY, _WIDEST = 8, 9, 20
_HIGHEST = 11
"""Where a cell of the greatest width looks like a square."""
_BEST, _WIDTH = 7, 7


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are: all in columns and lines of the widget."""

    name: int
    """Width of the names of the methods, with the space after them."""
    cell: int
    """Width of a cell."""
    taus: range
    """Columns that are seen."""
    best: int
    """Width of the best step sizes, with the space before them; 0: not shown."""
    width: int
    """Width of the stable widths, likewise."""
    height: int
    """Lines of a row."""
    rows: range
    """Rows that are seen."""
    detail: int
    """Line of the first detail; it may lie below the end."""


def arrange(
    table: Stability, width: int, height: int, *, cursor: tuple[int, int], first: tuple[int, int]
) -> Layout:
    """The layout that has the cursor in sight.

    :param width: columns of the widget, at least 1.
    :param height: its lines; the first is the head.
    :param cursor: row and column of the cell.
    :param first: row and column that were first in sight before; they stay if they can.
    """
    count = max(len(table.rows), 1)
    lines = max(height - 1, 1)
    # two lines of detail are worth more than high rows, but less than rows
    tall = TALL if lines >= count * TALL + 2 else 1
    tall = min(max(tall, (lines - 1 - DETAIL_LINES) // count), _HIGHEST if tall > 1 else 1)
    most = max(_LEAST_NAME, width // _NAME_SHARE)
    pieces = [piece for row in table.rows for piece in name_lines(printable(row.label), most, tall)]
    name = max(map(cell_len, pieces), default=0) + 2
    best = max(_BEST, 3 + max((len(best_text(row)) for row in table.rows), default=0))
    stable = _WIDTH
    # where it is narrow: first without what can be read from the cells
    if width < name + best + stable + 2 * _NARROW:
        stable = 0
    if width < name + best + 2 * _NARROW:
        best = 0
    if width < name + best + _NARROW:
        name = max(0, min(name, width - _NARROW))
    room = max(width - name - best - stable, 1)
    columns = max(len(table.taus), 1)
    cell = min(room // columns, _WIDEST) if room >= columns * _ROOMY else min(_NARROW, room)
    seen = min(max(room // cell, 1), columns)
    left = _follow(first[1], cursor[1], seen, columns)

    shown = min(max(lines // tall, 1), count)
    top = _follow(first[0], cursor[0], shown, count)
    # high rows end with a free line
    gap = 1 if lines - shown * tall > (1 if tall == 1 else 2) else 0
    return Layout(
        name=name,
        cell=cell,
        taus=range(left, min(left + seen, len(table.taus))),
        best=best,
        width=stable,
        height=tall,
        rows=range(top, min(top + shown, len(table.rows))),
        detail=1 + shown * tall + gap,
    )


def name_lines(label: str, width: int, lines: int) -> list[str]:
    """A label in at most ``width`` columns: its words on several lines where it is too long and
    there are lines, else without its middle, since what tells rows apart is at the end."""
    words = label.split(" ")
    if cell_len(label) <= width or lines < 2 or len(words) < 2:
        return [without_middle(label, width)]
    first = words[0]
    rest = words[1:]
    while len(rest) > 1 and cell_len(f"{first} {rest[0]}") <= width:
        first = f"{first} {rest.pop(0)}"
    return [without_middle(text, width) for text in (first, " ".join(rest))]


def _follow(first: int, cursor: int, seen: int, count: int) -> int:
    """The first of ``seen`` neighbours, as near to ``first`` as they can be with the cursor."""
    first = min(max(first, cursor - seen + 1), cursor)
    return max(min(first, count - seen), 0)
