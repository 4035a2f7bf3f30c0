"""The keys at the lower edge."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.events import Resize
from textual.widgets import Footer
from textual.widgets._footer import FooterKey


class KeyLine(Footer):
    """As many keys, in their order, as fit without being cut."""

    DEFAULT_CSS = """
    KeyLine FooterKey {
        padding: 0 1 0 0; margin: 0;
        .footer-key--key { padding: 0 0 0 1; }
        .footer-key--description { padding: 0 0 0 1; }
    }
    KeyLine.-compact FooterKey { margin: 0; }
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)
        self._room = 0

    def compose(self) -> ComposeResult:
        """Those there is room for."""
        left = self.app.size.width + 1  # no space is needed behind the last
        for key in super().compose():
            if isinstance(key, FooterKey):
                left -= cell_len(key.key_display) + cell_len(key.description) + 3
                if left < 0:
                    return
            yield key

    async def on_resize(self, event: Resize) -> None:
        """Choose anew."""
        if event.size.width != self._room:
            self._room = event.size.width
            await self.recompose()
