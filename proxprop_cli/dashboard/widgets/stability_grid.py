"""Methods against step sizes: which ones learn, and which ones break."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engine.stability import Stability
from proxprop_cli.dashboard.palette import FEW_COLORS
from proxprop_cli.dashboard.widgets.stability_cells import Scale, Shown, value_of
from proxprop_cli.dashboard.widgets.stability_drawing import GridDrawing
from proxprop_cli.dashboard.widgets.stability_layout import Layout, arrange


class StabilityGrid(Widget, can_focus=True):
    """A heat map with a cursor; each cell is the median over seeds of a method at a step
    size."""

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
        drawing = GridDrawing(
            self._table,
            self._shown,
            self._scale,
            self._layout(),
            (self._row, self._column),
            self.colorful,
            self._style,
        )
        strip = Strip(drawing.line(y, self.size.width))
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

    @property
    def colorful(self) -> bool:
        """Whether the terminal is to be given colours that are not its own, and has them."""
        own = self.app.no_color or self.app.native_ansi_color
        return not own and self.app.console.color_system not in FEW_COLORS

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"grid--{name}")
