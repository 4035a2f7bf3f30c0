"""The keys at the lower edge."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.binding import ActiveBinding
from textual.events import Click, MouseMove
from textual.widget import Widget

from proxprop_cli.dashboard.keys import base_of

_ORDER = {
    "open": "",
    "choose": "",
    "pause": "",
    "go_on": "",
    "stop": "",
    "leave": "",
    "quit": "",
    "show_help": "",
    "runs": "",
    "back": "",
    "images": "",
    "epoch": "Epoch",
    "rows": "Runs",
    "samples": "Samples",
    "x_axis": "",
    "log_y": "",
    "enlarge": "Full",
    "filter": "Filter",
    "band": "",
    "select": "",
    "switch": "",
    "export": "",
    "smooth": "",
    "zoom": "Zoom",
    "pane": "Pane",
    "delete": "",
    "measure": "",
    "measure_start": "",
    "unfold": "",
    "metric": "Metric",
    "reset": "Reset",
    "next_pane": "Next",
    "pan": "Pan",
    "shift": "Shift",
    "log_x": "Log-x",
}
"""Actions in the order in which they are needed, with a short name where their own is long."""
_SHOWN = {"zoom": "+/-", "pane": "1-5", "pan": "h/l", "shift": "j/k", "enlarge": "enter"}
_SHOWN |= {"epoch": "b/f", "rows": "j/k", "samples": "h/l"}
"""Keys of actions that several keys do, each with another argument, and one that is called so
elsewhere."""


_PLACES = {action: place for place, action in enumerate(_ORDER)}


class KeyLine(Widget):
    """As many keys, the most important first, as fit without being cut; a click is the key."""

    DEFAULT_CSS = """
    KeyLine { dock: bottom; height: 1; background: $footer-background; color: $footer-foreground; }
    KeyLine .key-line--key { color: $footer-key-foreground; text-style: bold; }
    KeyLine .key-line--name { color: $footer-foreground; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-line--key", "key-line--name"}

    def on_mount(self) -> None:
        """Follow what can be done now."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Text:
        """One line of text: widgets for single keys would make the first frame late."""
        key_style = self.get_component_rich_style("key-line--key", partial=True)
        name_style = self.get_component_rich_style("key-line--name", partial=True)
        line = Text(no_wrap=True)
        left = self.size.width
        for action, active in self._offered():
            binding = active.binding
            display = _SHOWN.get(action) or self.app.get_key_display(binding)
            name = _ORDER[action] or binding.description
            gap = " " if line else ""
            left -= cell_len(f"{gap}{display} {name}")
            if left < 0:
                break
            tip = active.tooltip or binding.description
            meta = Style(meta={"key": binding.key, "tip": tip})
            line.append(gap).append(display, key_style + meta)
            line.append(f" {name}", name_style + meta)
        return line

    async def on_click(self, event: Click) -> None:
        """Do what the key does."""
        key = event.style.meta.get("key")
        if key:
            self.app.simulate_key(key)

    def on_mouse_move(self, event: MouseMove) -> None:
        """Say what the key under the mouse does."""
        self.tooltip = event.style.meta.get("tip")

    def _offered(self) -> list[tuple[str, ActiveBinding]]:
        found: dict[str, ActiveBinding] = {}
        for active in self.screen.active_bindings.values():
            action = base_of(active.binding.action)
            known = action in _ORDER and (active.binding.show or _ORDER[action])
            if active.enabled and known:
                found.setdefault(action, active)
        return sorted(found.items(), key=lambda item: _PLACES[item[0]])
