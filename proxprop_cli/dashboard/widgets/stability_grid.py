"""Methods against step sizes: which ones learn, and which ones break."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

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
    reads_on,
    value_of,
    viridis,
)
from proxprop_cli.dashboard.widgets.stability_layout import (
    DETAIL_LINES,
    TALL,
    Layout,
    arrange,
    name_lines,
)
from proxprop_cli.output import printable

_CURSOR = "◂"
_FRAME = ("┏━┓", "┃ ┃", "┗━┛")
_STYLES: dict[Kind, str] = {
    "final": "text",
    "partial": "text",
    "live": "live",
    "diverged": "diverged",
    "waiting": "quiet",
}


class StabilityGrid(Widget, can_focus=True):
    """A heat map with a cursor; each cell is the mean over seeds of a method at a step size."""

    class CellChosen(Message):
        """A person wants to see the runs of a cell."""

        def __init__(self, runs: tuple[str, ...]) -> None:
            self.runs = runs
            super().__init__()

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Open", key_display="enter", tooltip="The curves of its seeds"),
        Binding("left,h", "move(0, -1)", "Left", show=False),
        Binding("right,l", "move(0, 1)", "Right", show=False),
        Binding("up,k", "move(-1, 0)", "Up", show=False),
        Binding("down,j", "move(1, 0)", "Down", show=False),
        Binding("home", "move(0, -10000)", "Largest step size", show=False),
        Binding("end", "move(0, 10000)", "Smallest step size", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "grid--text",
        "grid--quiet",
        "grid--head",
        "grid--here",
        "grid--live",
        "grid--diverged",
        "grid--cursor",
    }
    DEFAULT_CSS = """
    StabilityGrid {
        height: 1fr;
        .grid--text { color: $foreground; }
        .grid--quiet { color: $text-muted; }
        .grid--head { color: $text-muted; text-style: bold; }
        .grid--here { color: $text-accent; text-style: bold; }
        .grid--live { color: $foreground; text-style: italic; }
        .grid--diverged { color: $text-error; text-style: bold; }
        .grid--cursor { text-style: bold reverse; }
        &:ansi {
            .grid--quiet { color: ansi_default; text-style: dim; }
            .grid--head { color: ansi_default; text-style: bold; }
            .grid--here { color: ansi_cyan; text-style: bold; }
            .grid--diverged { color: ansi_red; text-style: bold; }
        }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._table = Stability((), ())
        self._shown: Shown = "loss"
        self._scale: Scale | None = None
        self._row = self._column = 0
        self._first = 0, 0

    @property
    def table(self) -> Stability:
        """What is drawn."""
        return self._table

    @table.setter
    def table(self, table: Stability) -> None:
        self._table = table
        self._changed()

    @property
    def shown(self) -> Shown:
        """Which number is in the cells."""
        return self._shown

    @shown.setter
    def shown(self, shown: Shown) -> None:
        self._shown = shown
        self._changed()

    @property
    def scale(self) -> Scale | None:
        """The colours' scale; None where there is no number yet."""
        return self._scale

    @property
    def cursor(self) -> tuple[str, float] | None:
        """Method and tau of the cell under the cursor; None in an empty grid."""
        if not self._table.rows or not self._table.taus:
            return None
        return self._table.rows[self._row].label, self._table.taus[self._column]

    def action_move(self, rows: int, columns: int) -> None:
        """Move the cursor by so many cells, as far as there are any."""
        self._row += rows
        self._column += columns
        self._changed()

    def action_choose(self) -> None:
        """Tell which runs of the cell under the cursor were made already."""
        cell = self._table.cells.get(self.cursor) if self.cursor else None
        if cell is not None:
            self.post_message(self.CellChosen(cell.runs))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor there; a click on the cursor chooses its cell."""
        layout = self._layout()
        row = layout.rows.start + (event.y - 1) // layout.height
        column = layout.taus.start + (event.x - layout.name) // layout.cell
        if event.y < 1 or row not in layout.rows or column not in layout.taus:
            return
        if (row, column) == (self._row, self._column):
            self.action_choose()
        self._row, self._column = row, column
        self._changed()

    def _changed(self) -> None:
        self._row = min(max(self._row, 0), max(len(self._table.rows) - 1, 0))
        self._column = min(max(self._column, 0), max(len(self._table.taus) - 1, 0))
        values = (
            value_of(cell, self._shown) for cell in self._table.cells.values() if not cell.diverged
        )
        self._scale = Scale.of(self._shown, (value for value in values if value is not None))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line, at any size."""
        if not self.size.width:
            return Strip.blank(0)
        layout = self._layout()
        line = y - 1
        if not self._table.rows or not self._table.taus:
            parts = [self._part("no runs in this sweep", "quiet")] if y == 0 else []
        elif y == 0:
            parts = self._head(layout)
        elif line < len(layout.rows) * layout.height:
            row = layout.rows[line // layout.height]
            parts = self._cells(layout, row, line % layout.height)
        else:
            parts = self._detail(y - layout.detail)
        strip = Strip(parts)
        return strip.adjust_cell_length(self.size.width, self._style("text"))

    def _layout(self) -> Layout:
        layout = arrange(
            self._table,
            self.size.width,
            self.size.height,
            cursor=(self._row, self._column),
            first=self._first,
        )
        self._first = layout.rows.start, layout.taus.start
        return layout

    def _head(self, layout: Layout) -> list[Segment]:
        more_left, more_right = layout.taus.start > 0, layout.taus.stop < len(self._table.taus)
        left = "tau" if layout.name >= 5 else ""
        parts = [self._part(left.ljust(layout.name - 1)[: max(layout.name - 1, 0)], "quiet")]
        if layout.name:
            parts.append(self._part("‹" if more_left else " ", "here"))
        for column in layout.taus:
            label = short_number(self._table.taus[column])
            name = "here" if column == self._column else "head"
            # above the last digit of the numbers, which have one column after them
            text = label.rjust(layout.cell - 1)[-max(layout.cell - 1, 0) :]
            parts.append(self._part(set_cell_size(text + " ", layout.cell), name))
        if layout.best:
            parts.append(self._part("›" if more_right else " ", "here"))
            parts.append(self._part("best".rjust(layout.best - 1), "head"))
        if layout.width:
            parts.append(self._part("width".rjust(layout.width), "head"))
        return parts

    def _cells(self, layout: Layout, row: int, line: int) -> list[Segment]:
        """A line of a row; the one in its middle has the numbers."""
        written = line == layout.height // 2
        summary = self._table.rows[row]
        names = name_lines(printable(summary.label), max(layout.name - 1, 0), layout.height)
        place = line - layout.height // 2
        name = names[place] if 0 <= place < len(names) else ""
        style = "here" if row == self._row else "text"
        text = set_cell_size(name, layout.name)
        parts = [self._part(text, style)]
        for column in layout.taus:
            tau = self._table.taus[column]
            cell = self._table.cells.get((summary.label, tau))
            here = (row, column) == (self._row, self._column)
            parts += self._cell(layout, cell, summary, line, here=here)
        # what may still change stands back
        style = "text" if summary.complete else "quiet"
        if layout.best:
            best = "-" if summary.best_tau is None else short_number(summary.best_tau)
            parts.append(self._part((best if written else "").rjust(layout.best), style))
        if layout.width:
            width = "-" if summary.width is None else f"{summary.width:.1f}"
            width = f"≥{width}" if summary.at_edge else width
            parts.append(self._part((width if written else "").rjust(layout.width), style))
        return parts

    def _cell(
        self, layout: Layout, cell: CellSummary | None, row: RowSummary, line: int, *, here: bool
    ) -> list[Segment]:
        room = max(layout.cell - 2, 1)
        said = CellText("waiting", "", "", "")
        if cell is not None:
            best = cell.tau == row.best_tau
            said = cell_text(cell, self._shown, self._scale, room, best=best)
        style, quiet = self._cell_styles(cell, said)
        if line == layout.height // 2:
            edge = style if said.glyph == BEST else quiet
            parts = [
                (said.glyph or " ", edge),
                (set_cell_size(said.text.rjust(room), room), style),
                (said.tail or " ", style),
            ]
        else:
            parts = [(" " * layout.cell, style)]
        if here and layout.height == TALL and layout.cell > 2:
            # a frame leaves the colour to be seen, and is seen without any
            frame = (style if said.kind == "final" else self._style("here")) + Style(bold=True)
            left, middle, right = tuple(_FRAME[line])
            within = [parts[1]] if len(parts) == 3 else [(middle * room, frame)]
            parts = [(left, frame), *within, (right, frame)]
        elif here:
            cursor = self._style("cursor")
            parts = [(text, cursor) for text, _ in parts[:2]] + [(_CURSOR, cursor)]
        return [Segment(text, found) for text, found in parts[: layout.cell]]

    def _cell_styles(self, cell: CellSummary | None, said: CellText) -> tuple[Style, Style]:
        """Of the number, and of the bar that stands back beside it."""
        style = self._style(_STYLES[said.kind])
        value = None if cell is None else value_of(cell, self._shown)
        if said.kind == "final" and self._scale and value is not None and self._colorful():
            ground = viridis(self._scale.goodness(value))
            color = reads_on(ground)
            style = Style(color=_color(color), bgcolor=_color(ground))
            return style, Style(color=_color(halfway(ground, color)), bgcolor=_color(ground))
        return style, self._style("quiet") if said.kind == "final" else style

    def _detail(self, line: int) -> list[Segment]:
        if line < 0 or self.cursor is None:
            return []
        found = detail(self._table, *self.cursor)
        lines = [text for pieces in found for text in _wrap(pieces, self.size.width)]
        lines = lines[:DETAIL_LINES]
        return [self._part(lines[line], "text" if line else "here")] if line < len(lines) else []

    def _colorful(self) -> bool:
        """Whether the terminal is to be given colours that are not its own."""
        return not (self.app.no_color or self.app.native_ansi_color)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"grid--{name}")

    def _part(self, text: str, name: str) -> Segment:
        return Segment(text, self._style(name))


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
