"""What the keys do, made from the bindings themselves."""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from proxprop_cli.dashboard.screens.live_base import RunsScreen

_WORDS = """
system     order of the linear system, and its form
residual   |(A'A + beta I)V - A'G| / |A'G| of the step taken
recurrence what CG believes it to be, iteration by iteration
angle      between step and gradient; below 90 degrees descends
fallbacks  solver failures that another method answered
x work     multiplications of a step, in steps of BackProp"""
_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "escape": "esc",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "ctrl+c": "^c",
    "ctrl+p": "^p",
}


class HelpScreen(ModalScreen[None]):
    """The keys of a screen, and those that hold everywhere."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: auto; min-width: 40; max-width: 95%; height: auto; max-height: 95%;
        border: round $accent; padding: 0 2; background: $surface;
    }
    HelpScreen Static { width: auto; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,f1,q,enter,ctrl+c", "app.pop_screen", "Close")
    ]

    def __init__(self, of: Screen[object]) -> None:
        super().__init__()
        self._of = of

    def compose(self) -> ComposeResult:
        """The table of keys."""
        with VerticalScroll() as scroll:
            scroll.border_title = "Keys"
            yield Static(key_table(self._of))
            if isinstance(self._of, RunsScreen):
                yield Static(_WORDS)


def keys_of(screen: Screen[object]) -> list[tuple[str, str]]:
    """Keys and what they do, in the order of the bindings, those of one action together: the
    screen's, then those of its panes."""
    screens = [found for found in type(screen).__mro__ if found.__module__.startswith(__package__)]
    sources = [*screens, *dict.fromkeys(type(w) for w in screen.query("*") if w.can_focus)]
    own = [vars(source).get("BINDINGS", []) for source in sources]
    found: dict[str, tuple[list[str], str]] = {}
    for binding in [*chain(*own), Binding("ctrl+p", "palette", "Command palette")]:
        if not isinstance(binding, Binding):
            continue
        group = "pane" if binding.action.startswith("pane(") else binding.action
        keys, _ = found.setdefault(group, ([], binding.tooltip or binding.description))
        keys += [_NAMES.get(key, key) for key in binding.key.split(",")]
    return [(_joined(keys), _described(action, text)) for action, (keys, text) in found.items()]


def key_table(screen: Screen[object]) -> Text:
    """The same as aligned text."""
    rows = keys_of(screen)
    width = max(len(keys) for keys, _ in rows)
    text = Text()
    for number, (keys, description) in enumerate(rows):
        text.append("\n" if number else "")
        text.append(keys.rjust(width), style="bold")
        text.append(f"  {description}")
    return text


def _joined(keys: list[str]) -> str:
    if len(keys) > 3 and all(key.isdigit() for key in keys):
        return f"{keys[0]}-{keys[-1]}"
    return " ".join(keys)


def _described(action: str, text: str) -> str:
    return "Go to a pane; again: enlarge it" if action == "pane" else text
