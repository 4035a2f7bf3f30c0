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


class LogPane(Widget, can_focus=True):
    """The newest lines, oldest of them first; it can be moved back."""

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
        """Show other lines."""
        if tuple(lines) != self._lines:
            self._lines = tuple(lines)
            self.refresh()

    def action_back(self, by: int) -> None:
        """Move back by so many lines."""
        most = max(0, len(self._lines) - self.size.height)
        self._back = min(max(self._back + by, 0), most)
        self.refresh()

    def render(self) -> Text:
        """Time, step and text of each line."""
        text = Text(no_wrap=True, overflow="ellipsis")
        end = len(self._lines) - min(self._back, len(self._lines))
        start = max(0, end - max(self.size.height, 1))
        for number, line in enumerate(self._lines[start:end]):
            text.append("\n" if number else "")
            clock = time.strftime("%H:%M:%S", time.localtime(line.time))
            text.append(f"{clock}  step {line.step:>7,}  ", style="dim")
            text.append(printable(line.text), style="bold red" if line.grave else "")
        return text
