"""Rows of aligned columns with a cursor; what does not fit is left out by rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.markup import escape
from textual.message import Message
from textual.widget import Widget

from proxprop_cli.dashboard.shorten import first_fitting, without_middle
from proxprop_cli.output import printable

_GAP = "  "
_LEAST_TEXT = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    :ivar title: above it.
    :ivar rank: columns of the highest rank go first where there is no room; 0 always stays.
    :ivar left: whether its cells are aligned left (numbers: right).
    """

    title: str
    rank: int = 0
    left: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its key, and a cell a column; styles are Rich's, by column index."""

    key: str
    cells: tuple[str, ...]
    styles: tuple[tuple[int, str], ...] = ()


class Table(Widget, can_focus=True):
    """A table that is drawn anew only when it is given other rows."""

    DEFAULT_CSS = "Table { width: 1fr; height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-1000000000)", "First", show=False),
        Binding("end", "move(1000000000)", "Last", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, table: Table, key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

    def __init__(self, empty: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.empty = empty
        self._columns: tuple[Column, ...] = ()
        self._rows: tuple[Row, ...] = ()
        self._cursor = 0
        self._frame: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def frame(self, titles: Sequence[str], captions: Sequence[str] = ()) -> None:
        """Texts of the upper and the lower border, each in less and less room."""
        found = (tuple(titles), tuple(captions))
        if found != self._frame:
            self._frame = found
            self._draw_frame()

    def on_resize(self) -> None:
        """Choose the texts of the borders that fit now."""
        self._draw_frame()

    def _draw_frame(self) -> None:
        titles, captions = self._frame
        width = self.outer_size.width - 6
        if titles:  # else its owner sets them
            self.border_title = escape(printable(first_fitting(titles, width)))
            self.border_subtitle = escape(printable(first_fitting(captions, width)))

    @property
    def key(self) -> str | None:
        """Key of the row under the cursor."""
        return self._rows[self._cursor].key if self._rows else None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all rows."""
        return tuple(row.key for row in self._rows)

    def show(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Show other rows; the cursor stays on its key where that is still there."""
        if (tuple(columns), tuple(rows)) == (self._columns, self._rows):
            return
        key = self.key
        self._columns, self._rows = tuple(columns), tuple(rows)
        keys = [row.key for row in self._rows]
        self._cursor = keys.index(key) if key in keys else min(self._cursor, max(len(keys) - 1, 0))
        if self.key is not None and self.key != key:
            self.post_message(self.Moved(self, self.key))
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        to = min(max(self._cursor + by, 0), max(len(self._rows) - 1, 0))
        if to != self._cursor:
            self._cursor = to
            self.post_message(self.Moved(self, self._rows[to].key))
            self.refresh()

    def render(self) -> Text:
        """Title and as many rows around the cursor as fit."""
        width, height = self.size
        if not self._rows:
            return Text(self.empty, style="dim", no_wrap=True, overflow="ellipsis")
        widths = [
            max(cell_len(column.title), *(cell_len(printable(row.cells[i])) for row in self._rows))
            for i, column in enumerate(self._columns)
        ]
        shown = self._fitting(widths, width)
        self._narrow(widths, shown, width)
        first = max(0, min(self._cursor - (height - 1) // 2, len(self._rows) - (height - 1)))
        lines = [self._line([column.title for column in self._columns], shown, widths)]
        lines[0].stylize("dim")
        for index, row in enumerate(self._rows[first : first + max(height - 1, 0)], first):
            line = self._line(row.cells, shown, widths, dict(row.styles))
            if index == self._cursor and self.has_focus:
                line.stylize("reverse")
            elif index == self._cursor:
                line.stylize("bold")
            lines.append(line)
        for line in lines:
            line.truncate(width)
        text = Text("\n", no_wrap=True, overflow="crop").join(lines)
        text.truncate(width * max(height, 1) + height)
        return text

    def _fitting(self, widths: list[int], width: int) -> list[int]:
        shown = list(range(len(widths)))
        while sum(widths[i] + len(_GAP) for i in shown) - len(_GAP) > width and len(shown) > 1:
            worst = max(shown, key=lambda i: (self._columns[i].rank, i))
            if self._columns[worst].rank == 0:
                break
            shown.remove(worst)
        return shown

    def _narrow(self, widths: list[int], shown: Sequence[int], width: int) -> None:
        """Where even those that stay are too wide, take from the widest text."""
        over = sum(widths[i] + len(_GAP) for i in shown) - len(_GAP) - width
        texts = [i for i in shown if self._columns[i].left]
        if over > 0 and texts:
            widest = max(texts, key=lambda i: widths[i])
            widths[widest] = max(widths[widest] - over, min(widths[widest], _LEAST_TEXT))

    def _line(
        self,
        cells: Sequence[str],
        shown: Sequence[int],
        widths: Sequence[int],
        styles: dict[int, str] | None = None,
    ) -> Text:
        line = Text(no_wrap=True, overflow="crop")
        for i in shown:
            size = widths[i]
            cell = without_middle(printable(cells[i]), size)
            pad = " " * (size - cell_len(cell))
            text = cell + pad if self._columns[i].left else pad + cell
            line.append(set_cell_size(text, size), style=(styles or {}).get(i, ""))
            line.append(_GAP)
        line.right_crop(len(_GAP))
        return line
