"""A chart as characters: frame, axes, legend and dots laid out in a grid of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from proxprop_cli.dashboard.axes import Tick
from proxprop_cli.dashboard.lines import Line
from proxprop_cli.dashboard.raster import BROKEN, Raster, rasterize
from proxprop_cli.dashboard.view import Scales, View, scales
from proxprop_cli.output import printable

TEXT, BORDER, TITLE, AXIS, RULE, GRID, EMPTY = range(7)
FIRST_SERIES = 7
BRIGHT, DIM, BOLD = range(3)
"""Kinds of ink of a line; ``FIRST_SERIES + 3 * index + kind`` is its code."""
_CONTINUED = 0  # the second cell of a wide character
_BLANK = ord(" ")
_BRAILLE = 0x2800
_CORNERS = ("top right", "bottom left", "top left", "bottom right")


class Picture:
    """A grid of characters and of codes for the ink they are drawn in.

    :ivar corner: where the legend is in the plot, if it is there.
    """

    def __init__(self, width: int, height: int) -> None:
        self.characters = np.full((height, width), _BLANK, np.uint32)
        self.codes = np.zeros((height, width), np.int32)
        self.corner: str | None = None

    def put(self, row: int, column: int, text: str, code: int) -> int:
        """Write a text, cut off at the edges, and return the column behind it."""
        width = self.characters.shape[1]
        for character in text:
            size = cell_len(character)
            if size and 0 <= column <= width - size:
                self.characters[row, column] = ord(character)
                self.characters[row, column + 1 : column + size] = _CONTINUED
                self.codes[row, column : column + size] = code
            column += size
        return column

    def row(self, row: int) -> list[tuple[str, int]]:
        """Texts with the codes of their ink, from left to right."""
        codes = self.codes[row]
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        text = self.characters[row].astype("<u4").tobytes().decode("utf-32-le")
        return [
            (text[start:stop].replace("\0", ""), int(codes[start]))
            for start, stop in pairwise(bounds)
        ]


@dataclass(frozen=True, slots=True)
class _Area:
    """Cells of the picture."""

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the legend."""

    text: str
    code: int

    @property
    def width(self) -> int:
        return cell_len(self.text)


def compose(
    lines: Sequence[Line], view: View, width: int, height: int, corner: str | None = None
) -> Picture:
    """Lay out a chart.

    :param lines: what to draw; later ones lie on top.
    :param view: what part of it, and the texts.
    :param width: in cells; without room for axes or frame they are left out.
    :param height: in cells.
    :param corner: where the legend was, to keep it there if it can be.
    """
    picture = Picture(width, height)
    if width < 2 or height < 1:
        return picture
    framed = width >= 12 and height >= 4
    if framed:
        _frame(picture, view)
    area = _Area(1, 1, height - 2, width - 2) if framed else _Area(0, 0, height, width)
    found = scales(lines, view)
    if found is None:
        text = fitted(printable(view.empty), area.columns)
        left = area.left + (area.columns - cell_len(text)) // 2
        picture.put(area.top + (area.rows - 1) // 2, left, text, EMPTY)
        return picture
    if width >= 20 and height >= 5:
        area = _axes(picture, area, found, view)
    raster = rasterize(lines, found.x, found.y, area.columns, area.rows, marked=view.marked)
    _draw(picture, area, raster, lines)
    if framed:
        _legend(picture, area, raster, lines, corner)
    return picture


def fitted(text: str, width: int) -> str:
    """The text with an ellipsis in place of what does not fit into so many cells."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[:-1]
    return text.rstrip() + "…" if width > 0 else ""


def _frame(picture: Picture, view: View) -> None:
    height, width = picture.characters.shape
    picture.put(0, 0, "╭" + "─" * (width - 2) + "╮", BORDER)
    for row in range(1, height - 1):
        picture.put(row, 0, "│", BORDER)
        picture.put(row, width - 1, "│", BORDER)
    picture.put(height - 1, 0, "╰" + "─" * (width - 2) + "╯", BORDER)
    title = fitted(printable(view.title), width - 6)
    notes = ["log x"] * view.log_x + ["log y"] * view.log_y
    if view.x_label:
        notes.append(f"x: {printable(view.x_label)}")
    room = width - 6 - (cell_len(title) + 4 if title else 0)
    # The least important note is the last.
    while notes and cell_len(" · ".join(notes)) > room:
        notes.pop()
    if title:
        picture.put(0, 2, f" {title} ", TITLE)
    if notes:
        note = f" {' · '.join(notes)} "
        picture.put(0, width - 2 - cell_len(note), note, AXIS)


def _axes(picture: Picture, inside: _Area, found: Scales, view: View) -> _Area:
    """Draw the axes and return what is left for the dots."""
    ruled = inside.rows >= 8
    rows = inside.rows - (2 if ruled else 1)
    ticks = (
        found.y.ticks(max(2, min(rows // 2, 4 + rows // 6)), view.y_format) if found.known else []
    )
    labelled: dict[int, Tick] = {}
    for tick in ticks:
        place = float(found.y.place(tick.position))
        if -1e-9 <= place <= 1 + 1e-9:
            labelled.setdefault(int((1 - place) * (4 * rows - 1) + 0.5) // 4, tick)
    margin = max((len(tick.label) for tick in labelled.values()), default=-1) + 1
    if inside.columns - margin - 1 < 8:
        margin, labelled = 0, {}
    axis = inside.left + margin
    area = _Area(inside.top, axis + 1, rows, inside.columns - margin - 1)
    for row in range(rows):
        picture.put(area.top + row, axis, "┤" if row in labelled else "│", RULE)
    for row, tick in labelled.items():
        picture.put(area.top + row, axis - len(tick.label) - 1, tick.label, AXIS)
        picture.put(area.top + row, area.left, "┈" * area.columns, GRID)
    if ruled:
        picture.put(area.top + rows, axis, "└" + "─" * area.columns, RULE)
    _x_labels(picture, inside, area, found, view)
    return area


def _x_labels(picture: Picture, inside: _Area, area: _Area, found: Scales, view: View) -> None:
    below = inside.top + inside.rows - 1
    places: list[tuple[int, int, str]] = []
    # As many as keep a distance; the last try is two, of which one may have to go.
    for count in range(max(2, area.columns // 9), 1, -1):
        free, crowded, places = inside.left, False, []
        for tick in found.x.ticks(count, view.x_format):
            place = min(max(float(found.x.place(tick.position)), 0.0), 1.0)
            column = area.left + int(place * (2 * area.columns - 1) + 0.5) // 2
            left = column - (len(tick.label) - 1) // 2
            left = min(max(left, inside.left), inside.left + inside.columns - len(tick.label))
            if left < free:
                crowded = True
                continue
            places.append((left, column, tick.label))
            free = left + len(tick.label) + 3
        if not crowded:
            break
    for left, column, label in places:
        picture.put(below, left, label, AXIS)
        if area.top + area.rows < below:
            picture.put(below - 1, column, "┬", RULE)


def _draw(picture: Picture, area: _Area, raster: Raster, lines: Sequence[Line]) -> None:
    rows = slice(area.top, area.top + area.rows)
    columns = slice(area.left, area.left + area.columns)
    lit = raster.dots > 0
    picture.characters[rows, columns][lit] = raster.dots[lit].astype(np.uint32) + _BRAILLE
    codes = FIRST_SERIES + 3 * raster.owner.astype(np.int32) + np.where(raster.dim, DIM, BRIGHT)
    picture.codes[rows, columns][lit] = codes[lit]
    for mark in raster.marks:
        character = mark.character
        if cell_len(character) != 1 or printable(character) != character:
            character = BROKEN
        code = FIRST_SERIES + 3 * mark.line + BOLD
        picture.put(area.top + mark.row, area.left + mark.column, character, code)


def _legend(
    picture: Picture, area: _Area, raster: Raster, lines: Sequence[Line], corner: str | None
) -> None:
    """Write the legend into a free corner of the plot, else into the lower border."""
    entries = _entries(lines, max(8, area.columns // 2), ends=True)
    border_width = picture.characters.shape[1] - 6
    border = _in_line(entries, border_width)
    if len(border) < len(entries):
        border = _in_line(_entries(lines, max(8, area.columns // 2), ends=False), border_width)
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
    entries = []
    for index, line in enumerate(lines):
        label, end = printable(line.label), ""
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
