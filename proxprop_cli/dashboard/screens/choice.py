"""A question with a few answers, each a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Static

from proxprop_cli.output import printable

_AROUND = 6
"""Columns of border and padding."""


class Choice(ModalScreen[str | None]):
    """Gives the key that was pressed; ``None`` when it was called off by ``c`` or escape.

    :param question: what is asked.
    :param answers: keys and what they do.
    """

    DEFAULT_CSS = """
    Choice { align: center middle; }
    Choice > Vertical {
        width: 90%; height: auto; max-height: 100%;
        border: round $accent; padding: 0 2; background: $surface;
    }
    Choice Static { width: 1fr; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,c,ctrl+c,ctrl+q", "cancel", "Cancel")]

    def __init__(self, question: str, answers: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._question = question
        self._answers = dict(answers)

    def compose(self) -> ComposeResult:
        """The question, in as many lines as it needs, and its answers."""
        text = Text(printable(self._question), style="bold")
        for key, label in (*self._answers.items(), ("c", "cancel")):
            text.append("\n")
            text.append(f" {key} ", style="reverse bold")
            text.append(f" {label}", style="not bold")
        with Vertical() as box:
            # with a width of its own it would be cut instead of wrapped
            box.styles.max_width = max(line.cell_len for line in text.split()) + _AROUND
            yield Static(text)

    def on_key(self, event: Key) -> None:
        """Take an answer."""
        if event.key in self._answers:
            event.stop()
            # one that came before the first was taken would take the screen below along
            if self.is_current:
                self.dismiss(event.key)

    def action_cancel(self) -> None:
        """Call it off."""
        self.dismiss(None)
