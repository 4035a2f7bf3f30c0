"""The lines of the stability grid: head, cells, and what there is to say of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from engine.numbers import short_number
from engine.stability import CellSummary, RowSummary, Stability
from proxprop_cli.dashboard.widgets.stability_cells import (
    BEST,
    CellText,
    Kind,
    Scale,
    Shown,
    cell_text,
    detail,
    halfway,
    more_lines,
    reads_on,
    value_of,
    viridis,
)
from proxprop_cli.dashboard.widgets.stability_layout import (
    DETAIL_LINES,
    TALL,
    Layout,
    name_lines,
)
from proxprop_cli.output import printable
from proxprop_cli.sweep_tables import best_text, width_text

_CURSOR = "◂"
_FRAME = ("┏━┓", "┃ ┃", "┗━┛")
_STYLES: dict[Kind, str] = {
    "final": "text",
    "partial": "text",
    "live": "live",
    "diverged": "diverged",
    "waiting": "quiet",
}


@dataclass(frozen=True, slots=True)
class GridDrawing:
    """Makes the lines.

    :ivar scale: of the colours; None where there is no number yet.
    :ivar cursor: row and column of the cell under it.
    :ivar colorful: whether the terminal is to be given colours that are not its own.
    :ivar style: gives the style of a kind of text by name.
    """

    table: Stability
    shown: Shown
    scale: Scale | None
    layout: Layout
    cursor: tuple[int, int]
    colorful: bool
    style: Callable[[str], Style]

    def line(self, y: int, width: int) -> list[Segment]:
        """One of them, from the top; it may be shorter than ``width``, the columns there are."""
        layout, below = self.layout, y - 1
        if not self.table.rows or not self.table.taus:
            return [self._part("no runs in this sweep", "quiet")] if y == 0 else []
        if y == 0:
            return self._head()
        if below < len(layout.rows) * layout.height:
            return self._row(layout.rows[below // layout.height], below % layout.height)
        return self._detail(y - layout.detail, width)

    def _head(self) -> list[Segment]:
        layout, taus = self.layout, self.table.taus
        more_left, more_right = layout.taus.start > 0, layout.taus.stop < len(taus)
        left = "tau" if layout.name >= 5 else ""
        parts = [self._part(left.ljust(layout.name - 1)[: max(layout.name - 1, 0)], "quiet")]
        if layout.name:
            parts.append(self._part("‹" if more_left else " ", "here"))
        for column in layout.taus:
            label = short_number(taus[column])
            name = "here" if column == self.cursor[1] else "head"
            # above the last digit of the numbers, which have one column after them
            text = label.rjust(layout.cell - 1)[-max(layout.cell - 1, 0) :]
            parts.append(self._part(set_cell_size(text + " ", layout.cell), name))
        if layout.best:
            parts.append(self._part("›" if more_right else " ", "here"))
            parts.append(self._part("best".rjust(layout.best - 1), "head"))
        if layout.width:
            parts.append(self._part("width".rjust(layout.width), "head"))
        return parts

    def _row(self, row: int, line: int) -> list[Segment]:
        """A line of a row; the one in its middle has the numbers."""
        layout, place = self.layout, line - self.layout.height // 2
        summary = self.table.rows[row]
        names = name_lines(printable(summary.label), max(layout.name - 1, 0), layout.height)
        name = names[place] if 0 <= place < len(names) else ""
        style = "here" if row == self.cursor[0] else "text"
        parts = [self._part(set_cell_size(name, layout.name), style)]
        for column in layout.taus:
            cell = self.table.cells.get((summary.label, self.table.taus[column]))
            parts += self._cell(cell, summary, line, here=(row, column) == self.cursor)
        # what may still change stands back
        style = "text" if summary.complete else "quiet"
        for width, text in ((layout.best, best_text(summary)), (layout.width, width_text(summary))):
            if width:
                parts.append(self._part(("" if place else text).rjust(width), style))
        return parts

    def _cell(
        self, cell: CellSummary | None, row: RowSummary, line: int, *, here: bool
    ) -> list[Segment]:
        size, height = self.layout.cell, self.layout.height
        room, place = max(size - 2, 1), line - height // 2
        said, more = CellText("waiting", "", "", ""), []
        if cell is not None:
            best = cell.tau == row.best_tau
            said = cell_text(cell, self.shown, self.scale, room, best=best)
            more = more_lines(cell, self.shown, room)
        style, quiet = self._cell_styles(cell, said)
        if place == 0:
            edge = style if said.glyph == BEST and row.complete else quiet
            parts = [
                (said.glyph or " ", edge),
                (set_cell_size(said.text.rjust(room), room), style),
                (said.tail or " ", style),
            ]
        else:
            # the last line is free for the frame
            known = 0 < place <= len(more) and line < height - 1
            text = more[place - 1] if known else ""
            soft = self._soft(style, quiet)
            parts = [(" ", style), (set_cell_size(text.rjust(room), room), soft), (" ", style)]
        if here and height >= TALL and size > 2:
            # a frame leaves the colour to be seen, and is seen without any
            frame = (style if said.kind == "final" else self.style("here")) + Style(bold=True)
            frames = _FRAME[0 if line == 0 else 2 if line == height - 1 else 1]
            left, middle, right = tuple(frames)
            within = parts[1] if 0 < line < height - 1 else (middle * room, frame)
            parts = [(left, frame), within, (right, frame)]
        elif here:
            cursor = self.style("cursor")
            parts = [(text, cursor) for text, _ in parts[:2]] + [(_CURSOR, cursor)]
        return [Segment(text, found) for text, found in parts[:size]]

    def _cell_styles(self, cell: CellSummary | None, said: CellText) -> tuple[Style, Style]:
        """Of the number, and of what stands back beside it."""
        style = self.style(_STYLES[said.kind])
        value = None if cell is None else value_of(cell, self.shown)
        if said.kind == "final" and self.scale and value is not None and self.colorful:
            ground = viridis(self.scale.goodness(value))
            color = reads_on(ground)
            style = Style(color=_color(color), bgcolor=_color(ground))
            return style, Style(color=_color(halfway(ground, color)), bgcolor=_color(ground))
        return style, self.style("quiet")

    def _soft(self, style: Style, quiet: Style) -> Style:
        """Between the number and the bar, for text that stands back but is to be read."""
        if style.color is None or quiet.color is None or style.bgcolor is None:
            return quiet
        one, other = style.color.get_truecolor(), quiet.color.get_truecolor()
        return Style(color=_color(halfway(one, other)), bgcolor=style.bgcolor)

    def _detail(self, line: int, width: int) -> list[Segment]:
        row, column = self.cursor
        if line < 0:
            return []
        found = detail(self.table, self.table.rows[row].label, self.table.taus[column])
        lines = [text for pieces in found for text in _wrap(pieces, width)][:DETAIL_LINES]
        return [self._part(lines[line], "text" if line else "here")] if line < len(lines) else []

    def _part(self, text: str, name: str) -> Segment:
        return Segment(text, self.style(name))


def _wrap(pieces: list[str], width: int) -> list[str]:
    """The pieces on lines, none broken; one that is too long is cut."""
    lines: list[str] = []
    for piece in pieces:
        joined = f"{lines[-1]} · {piece}" if lines else piece
        if lines and cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(joined if not lines else piece)
    return [
        line if cell_len(line) <= width else set_cell_size(line, max(width - 1, 0)) + "…"
        for line in lines
    ]


def _color(rgb: tuple[int, int, int]) -> Color:
    return Color.from_rgb(*rgb)
