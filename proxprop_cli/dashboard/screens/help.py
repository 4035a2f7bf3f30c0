"""What the keys do, made from the bindings themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from proxprop_cli.dashboard.keys import key_groups
from proxprop_cli.dashboard.words import words_of

_WIDEST = 90
_AROUND = 8
"""Columns of border, padding and scroll bar."""
_WIDEST_KEYS = 18
_LEAST_TEXT = 12


class HelpScreen(ModalScreen[None]):
    """The keys of a screen, and those that hold everywhere."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: auto; max-width: 100%; height: auto; max-height: 100%;
        border: round $accent; padding: 0 2; background: $surface;
    }
    HelpScreen Static { width: auto; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,f1,q,enter,ctrl+c,ctrl+q", "app.pop_screen", "Close")
    ]

    def __init__(self, of: Screen[object]) -> None:
        super().__init__()
        self._of = of

    def compose(self) -> ComposeResult:
        """The table of keys."""
        with VerticalScroll() as scroll:
            scroll.border_title = "Keys"
            scroll.border_subtitle = "↑ ↓ scroll · esc close"
            yield Static(id="keys")

    def on_mount(self) -> None:
        """Write it."""
        self._write()

    def on_resize(self) -> None:
        """Break the lines anew."""
        self._write()

    def _write(self) -> None:
        width = min(_WIDEST, self.app.size.width - _AROUND)
        self.query_one("#keys", Static).update(key_table(self._of, width))


def keys_of(screen: Screen[object]) -> list[tuple[str, str]]:
    """Keys and what they do, in the order of the help."""
    return [(row.shown, row.text) for _, rows in key_groups(screen) for row in rows]


def key_table(screen: Screen[object], width: int) -> Text:
    """The same in groups, aligned, and what the words in the panes mean.

    :param width: columns; what is longer is broken.
    """
    groups: list[tuple[str, Sequence[tuple[str, str]]]] = [
        (heading, [(row.shown, row.text) for row in rows]) for heading, rows in key_groups(screen)
    ]
    if words := words_of(screen):
        groups.append(("Words", words))
    widest = max(len(keys) for _, rows in groups for keys, _ in rows)
    left = max(min(widest, _WIDEST_KEYS, width - 2 - _LEAST_TEXT), 1)
    right = max(width - left - 2, 1)
    text = Text()
    for number, (heading, rows) in enumerate(groups):
        text.append("\n\n" if number else "")
        text.append(heading, style="bold underline")
        for keys, description in rows:
            names, said = textwrap.wrap(keys, left), textwrap.wrap(description, right)
            for line in range(max(len(names), len(said))):
                text.append("\n")
                name = names[line] if line < len(names) else ""
                text.append(name.rjust(left), style="bold")
                text.append(f"  {said[line]}" if line < len(said) else "")
    return text
