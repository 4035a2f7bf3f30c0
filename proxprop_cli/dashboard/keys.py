"""What the keys of a screen do, from its bindings themselves, in groups by what they are for."""

from __future__ import annotations

from dataclasses import dataclass, field

from textual.binding import Binding
from textual.screen import Screen
from textual.widget import Widget

from proxprop_cli.dashboard.screens.live_base import RunsScreen

NAMES = {
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
"""Of keys that are not called what is written on them."""
_OURS = "proxprop_cli"
_BETWEEN = " · "
_PANE = "pane"
_TOGETHER = 2
_MOVES = ("zoom", "pan", "shift", "reset")
_GROUPS = (
    ("Training", ("pause", "go_on", "stop")),
    ("Runs", ("open", "select", "filter", "unfold", "export", "delete", "choose")),
    ("Diagnosis", ("diagnose", "measure", "measure_start")),
    ("Curves", ("x_axis", "log_y", "log_x", "smooth", "band", "metric", "switch", *_MOVES)),
    ("Pictures", ("images", "epoch", "rows", "samples")),
    ("Panes", (_PANE, "next_pane", "focus_next", "enlarge")),
    ("Everywhere", ("runs", "back", "leave", "quit", "show_help", "command_palette")),
)
_OTHERS = "More"
_PLACES = {"StabilityGrid": "In the grid", "Table": "In the list"}


@dataclass
class KeyRow:
    """Keys that are told of in one line: those of one action with two arguments (one direction and
    the other), or of two actions that one key has by turns.

    :ivar keys: by the whole action, what does the same.
    :ivar texts: likewise, what that is.
    """

    action: str
    keys: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, binding: Binding) -> None:
        """One more; what the first one of an action says holds for the others too."""
        keys = self.keys.setdefault(binding.action, [])
        keys += [NAMES.get(key, key) for key in binding.key.split(",")]
        self.texts.setdefault(binding.action, binding.tooltip or binding.description)

    def takes(self, binding: Binding) -> bool:
        """Whether it belongs in here."""
        if base_of(binding.action) != self.action:
            return [NAMES.get(binding.key, binding.key)] in self.keys.values()
        return binding.action in self.keys or self.action == _PANE or len(self.keys) < _TOGETHER

    @property
    def shown(self) -> str:
        """The keys as they are written in front of the text."""
        if self.action == _PANE:
            first, *_, last = (key for keys in self.keys.values() for key in keys)
            return f"{first}-{last}"
        return _BETWEEN.join(dict.fromkeys(" ".join(keys) for keys in self.keys.values()))

    @property
    def text(self) -> str:
        """What they do."""
        if self.action == _PANE:
            return "Go to a pane; again: enlarge it"
        return _BETWEEN.join(self.texts.values())


def base_of(action: str) -> str:
    """``zoom`` of ``zoom(2.0)``, ``quit`` of ``app.quit``."""
    return action.partition("(")[0].rpartition(".")[2]


def key_groups(screen: Screen[object]) -> list[tuple[str, list[KeyRow]]]:
    """Headings, and the keys below each: those of the screen, then those of its panes.

    What Textual's own widgets do with keys, such as its field for text, is left out, and so is what
    the runs of the screen have nothing for.
    """
    own = [
        binding
        for source in type(screen).__mro__
        if source.__module__.startswith(_OURS)
        for binding in vars(source).get("BINDINGS", [])
        if isinstance(binding, Binding) and not _is_of_no_use(screen, binding)
    ]
    rows = _rows([*own, Binding("ctrl+p", "command_palette", "Everything by name")])
    heading_of = {action: heading for heading, actions in _GROUPS for action in actions}
    found: dict[str, list[KeyRow]] = {heading: [] for heading, _ in _GROUPS}
    for row in rows:
        found.setdefault(heading_of.get(row.action, _OTHERS), []).append(row)
    panes = [pane for pane in screen.query("*") if _is_pane(pane)]
    for kind in dict.fromkeys(map(type, panes)):
        of_kind = [one for one in vars(kind)["BINDINGS"] if isinstance(one, Binding)]
        alike = [pane for pane in panes if type(pane) is kind]
        found.setdefault(_place(alike), []).extend(_rows(of_kind))
    return [(heading, listed) for heading, listed in found.items() if listed]


def _is_of_no_use(screen: Screen[object], binding: Binding) -> bool:
    return isinstance(screen, RunsScreen) and bool(screen.why_not(base_of(binding.action)))


def _is_pane(widget: Widget) -> bool:
    ours = type(widget).__module__.startswith(_OURS)
    return ours and widget.can_focus and bool(vars(type(widget)).get("BINDINGS"))


def _place(panes: list[Widget]) -> str:
    """What panes of one kind are called: one by its title."""
    title = str(panes[0].border_title or "").partition(_BETWEEN)[0]
    if title and len(panes) == 1:
        return f"In {title}"
    return _PLACES.get(type(panes[0]).__name__, _OTHERS)


def _rows(bindings: list[Binding]) -> list[KeyRow]:
    rows: list[KeyRow] = []
    for binding in bindings:
        row = next((row for row in rows if row.takes(binding)), None)
        if row is None:
            row = KeyRow(base_of(binding.action))
            rows.append(row)
        row.add(binding)
    return rows
