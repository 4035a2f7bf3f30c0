"""What happened: the last lines, or earlier ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widget import Widget

from proxprop_cli.dashboard.views import LogLine
from proxprop_cli.output import printable

_TIMED = 70
"""The least width that has room for the time of day."""


class LogPane(Widget, can_focus=True):
    """The newest lines, oldest of them first; it can be moved back, and stays there then."""

    DEFAULT_CSS = "LogPane { width: 1fr; height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "back(1)", "Log: earlier", show=False),
        Binding("down,j", "back(-1)", "Log: later", show=False),
        Binding("pageup", "back(10)", "Log: ten lines earlier", show=False),
        Binding("pagedown", "back(-10)", "Log: ten lines later", show=False),
        Binding("home", "back(1000000)", "Log: the first lines", show=False),
        Binding("end", "back(-1000000)", "Log: the last lines", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[LogLine, ...] = ()
        self._back = 0

    def show(self, lines: Sequence[LogLine]) -> None:
        """Show other lines; who has moved back keeps those that are seen."""
        after = tuple(lines)
        if after == self._lines:
            return
        if self._back:
            lowest = self._lines[self._end - 1]
            later = (len(after) - n for n in range(len(after), 0, -1) if after[n - 1] == lowest)
            # what is seen may have been dropped: then the earliest there is
            self._back = next(later, len(after))
        self._lines = after
        self.refresh()

    @property
    def _end(self) -> int:
        """Behind the lowest line that is seen; a screenful is seen as long as there is one."""
        most = max(0, len(self._lines) - max(self.size.height, 1))
        return len(self._lines) - min(self._back, most)

    def action_back(self, by: int) -> None:
        """Move back by so many lines."""
        self._back = len(self._lines) - self._end  # of before, or of another height
        self._back = max(self._back + by, 0)
        self._back = len(self._lines) - self._end
        self.refresh()

    def render(self) -> Text:
        """Time, step and text of each line, cut to the width: none takes the room of another."""
        width, height = self.size
        start = max(0, self._end - max(height, 1))
        shown = self._lines[start : self._end]
        digits = max((len(f"{line.step:,}") for line in shown), default=0)
        rows = []
        for line in shown:
            row = Text()
            if width >= _TIMED:
                clock = time.strftime("%H:%M:%S", time.localtime(line.time))
                row.append(f"{clock}  ", style="dim")
            row.append(f"step {line.step:>{digits},}  ", style="dim")
            row.append(printable(line.text), style="bold red" if line.grave else "")
            row.truncate(max(width, 1), overflow="ellipsis")
            rows.append(row)
        return Text("\n", no_wrap=True).join(rows)
