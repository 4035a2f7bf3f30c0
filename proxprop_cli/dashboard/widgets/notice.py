"""What is there only while there is something to say: one line, or as many as it takes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widget import Widget

from proxprop_cli.dashboard.shorten import first_fitting
from proxprop_cli.output import printable


class Notice(Widget):
    """A line below the header.

    :param whole: wrap what is too long for a line instead of cutting it.
    """

    DEFAULT_CSS = """
    Notice { height: 1; width: 1fr; padding: 0 1; background: $panel; display: none; }
    Notice.-told { display: block; }
    Notice.-whole { height: auto; max-height: 50%; }
    """

    def __init__(self, *, whole: bool = False, id: str | None = None) -> None:
        super().__init__(id=id, classes="-whole" if whole else None)
        self._whole = whole
        self._told: tuple[tuple[str, ...], bool] = ((), False)

    def show(self, texts: Sequence[str], *, grave: bool) -> None:
        """Say something else.

        :param texts: the same in less and less room; none: nothing is said.
        """
        told = (tuple(map(printable, texts)), grave)
        if told != self._told:
            self._told = told
            self.set_class(bool(texts), "-told")
            self.refresh(layout=self._whole)

    def render(self) -> Text:
        """As much as fits."""
        texts, grave = self._told
        whole = self._whole and bool(texts)
        text = texts[0] if whole else first_fitting(texts, self.size.width)
        return Text().append(text, style="bold red" if grave else "yellow")
