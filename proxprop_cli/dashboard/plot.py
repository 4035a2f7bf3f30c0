"""A chart as characters: frame, axes, legend and dots laid out in a grid of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.cells import cell_len

from proxprop_cli.dashboard.axes import Tick
from proxprop_cli.dashboard.legend import draw_legend
from proxprop_cli.dashboard.lines import Line
from proxprop_cli.dashboard.marks import BROKEN
from proxprop_cli.dashboard.picture import (
    AXIS,
    BOLD,
    BORDER,
    BRIGHT,
    DIM,
    EMPTY,
    FIRST_SERIES,
    GRID,
    RULE,
    TITLE,
    Area,
    Picture,
)
from proxprop_cli.dashboard.raster import Raster, rasterize
from proxprop_cli.dashboard.shorten import first_fitting, fitted
from proxprop_cli.dashboard.view import Scales, View, scales
from proxprop_cli.output import printable

_BRAILLE = 0x2800


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
    area = Area(1, 1, height - 2, width - 2) if framed else Area(0, 0, height, width)
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
        draw_legend(picture, area, raster, lines, corner)
    return picture


def _frame(picture: Picture, view: View) -> None:
    height, width = picture.characters.shape
    picture.put(0, 0, "╭" + "─" * (width - 2) + "╮", BORDER)
    for row in range(1, height - 1):
        picture.put(row, 0, "│", BORDER)
        picture.put(row, width - 1, "│", BORDER)
    picture.put(height - 1, 0, "╰" + "─" * (width - 2) + "╯", BORDER)
    title, note = _border_texts(view, width - 6)
    if title:
        picture.put(0, 2, f" {title} ", TITLE)
    if note:
        picture.put(0, width - 4 - cell_len(note), f" {note} ", AXIS)


def _border_texts(view: View, width: int) -> tuple[str, str]:
    """Title and note for the upper border: what is shortened goes before what is left out.

    The note tells of the axes; of the quantity of x what is behind a comma goes first.
    """
    titles = [printable(title) for title in (view.title, *view.shorter)]
    logs = ["log x"] * view.log_x + ["log y"] * view.log_y
    label = printable(view.x_label)
    brief = label.partition(",")[0]
    quantities = [f"x: {label}", f"x: {brief}", brief] if label else []
    whole = [" · ".join([*logs, quantity]) for quantity in quantities] or [" · ".join(logs)]

    def room(title: str) -> int:
        return width - (cell_len(title) + 4 if title else 0)

    for title in titles:
        for note in whole:
            if cell_len(note) <= room(title):
                return title, note
    title = first_fitting(titles, width)
    fits = (note for note in (brief, *logs) if note and cell_len(note) <= room(title))
    return title, next(fits, "")


def _axes(picture: Picture, inside: Area, found: Scales, view: View) -> Area:
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
    area = Area(inside.top, axis + 1, rows, inside.columns - margin - 1)
    for row in range(rows):
        picture.put(area.top + row, axis, "┤" if row in labelled else "│", RULE)
    for row, tick in labelled.items():
        picture.put(area.top + row, axis - len(tick.label) - 1, tick.label, AXIS)
        picture.put(area.top + row, area.left, "┈" * area.columns, GRID)
    if ruled:
        picture.put(area.top + rows, axis, "└" + "─" * area.columns, RULE)
    _x_labels(picture, inside, area, found, view)
    return area


def _x_labels(picture: Picture, inside: Area, area: Area, found: Scales, view: View) -> None:
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


def _draw(picture: Picture, area: Area, raster: Raster, lines: Sequence[Line]) -> None:
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
