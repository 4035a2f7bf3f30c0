"""The legend of a chart: in a free corner of the plot, else in the lower border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from proxprop_cli.dashboard.lines import Line
from proxprop_cli.dashboard.picture import AXIS, BORDER, BRIGHT, FIRST_SERIES, TEXT, Area, Picture
from proxprop_cli.dashboard.raster import Raster
from proxprop_cli.dashboard.shorten import distinct, fitted
from proxprop_cli.output import printable

_CORNERS = ("top right", "bottom left", "top left", "bottom right")
_LEAST = 8
"""Columns that an entry gets at least."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the legend."""

    text: str
    code: int

    @property
    def width(self) -> int:
        return cell_len(self.text)


def draw_legend(
    picture: Picture, area: Area, raster: Raster, lines: Sequence[Line], corner: str | None
) -> None:
    """Write the legend into a free corner of the plot, else into the lower border."""
    room = max(_LEAST, area.columns // 2)
    entries = _entries(lines, room, ends=True)
    border_width = picture.characters.shape[1] - 6
    border = _in_line(entries, border_width)
    if len(border) < len(entries):
        border = _in_line(_entries(lines, room, ends=False), border_width)
    if len(border) < len(entries):
        narrow = _entries(lines, max(_LEAST, border_width // len(lines) - 2), ends=False)
        all_of_them = _in_line(narrow, border_width)
        border = all_of_them if len(all_of_them) == len(entries) else border
    taken = raster.dots > 0
    for mark in raster.marks:
        taken[mark.row, mark.column] = True
    # A block is taken only if it says more than the border has room for, or as much.
    least = max(len(border), min(len(entries), 2))
    for count in range(min(len(entries), max(area.rows // 2, 1)), least - 1, -1):
        block = _shortened(entries, count)
        width = max(entry.width for entry in block)
        found = _free_corner(taken, len(block), width, corner)
        if found is not None:
            picture.corner, top, left = found
            for row, entry in enumerate(block):
                y, x = area.top + top + row, area.left + left
                picture.put(y, x - 1, " " * (width + 2), TEXT)
                picture.put(y, x, entry.text, entry.code)
            return
    column, lowest = 2, picture.characters.shape[0] - 1
    for entry in border:
        picture.put(lowest, column, " " * (entry.width + 2), BORDER)
        column = picture.put(lowest, column + 1, entry.text, entry.code) + 1


def _entries(lines: Sequence[Line], room: int, *, ends: bool) -> list[_Entry]:
    labels = [printable(line.label) for line in lines]
    if any(2 + cell_len(label) > room for label in labels):
        labels = distinct(labels)
    entries = []
    for index, (line, label) in enumerate(zip(lines, labels, strict=True)):
        end = ""
        if ends and line.end:
            # whole where there is room, else at least its glyph; the label goes before it
            whole = printable(line.end)
            fits = 2 + cell_len(label) + 1 + cell_len(whole) <= room
            end = f" {whole if fits else whole[0]}"
        label = fitted(label, max(room - 2 - cell_len(end), 1))
        text = fitted(f"{line.glyph} {label}{end}", room)
        entries.append(_Entry(text, FIRST_SERIES + 3 * index + BRIGHT))
    return entries


def _shortened(entries: list[_Entry], count: int) -> list[_Entry]:
    """So many entries, of which the last says how many are missing."""
    if count >= len(entries):
        return entries
    return [*entries[: count - 1], _Entry(f"+ {len(entries) - count + 1} more", AXIS)]


def _in_line(entries: list[_Entry], width: int) -> list[_Entry]:
    # A line that only says how many are missing says nothing.
    for count in range(len(entries), min(len(entries), 2) - 1, -1):
        found = _shortened(entries, count)
        if sum(entry.width + 2 for entry in found) <= width:
            return found
    return []


def _free_corner(
    taken: npt.NDArray[np.bool_], rows: int, width: int, preferred: str | None
) -> tuple[str, int, int] | None:
    """A corner where a block and a cell around it hide nothing: its name, row and column."""
    height, columns = taken.shape
    if rows > height or width + 2 > columns:
        return None
    for name in sorted(_CORNERS, key=lambda name: name != preferred):
        top = 0 if name.startswith("top") else height - rows
        left = columns - width - 1 if name.endswith("right") else 1
        around = taken[max(top - 1, 0) : top + rows + 1, max(left - 1, 0) : left + width + 1]
        if not around.any():
            return name, top, left
    return None
