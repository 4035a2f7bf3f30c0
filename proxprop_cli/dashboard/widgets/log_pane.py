"""The last things that happened, as many as fit."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text
from textual.widget import Widget

from proxprop_cli.dashboard.views import LogLine
from proxprop_cli.output import printable


class LogPane(Widget, can_focus=True):
    """The newest lines, oldest of them first."""

    DEFAULT_CSS = "LogPane { width: 1fr; height: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[LogLine, ...] = ()

    def show(self, lines: Sequence[LogLine]) -> None:
        """Show other lines."""
        if tuple(lines) != self._lines:
            self._lines = tuple(lines)
            self.refresh()

    def render(self) -> Text:
        """Time, step and text of each."""
        text = Text(no_wrap=True, overflow="ellipsis")
        height = max(self.size.height, 1)
        for number, line in enumerate(self._lines[-height:]):
            text.append("\n" if number else "")
            clock = time.strftime("%H:%M:%S", time.localtime(line.time))
            text.append(f"{clock}  step {line.step:>7,}  ", style="dim")
            text.append(printable(line.text), style="bold red" if line.grave else "")
        return text
