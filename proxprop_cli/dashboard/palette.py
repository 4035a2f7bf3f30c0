"""Marks and colours of series, on whatever ground they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.color import Color as Ground
from textual.filter import LineFilter

GLYPHS = "●◆▲■▼◉◇△□▽"
"""So that colour is never alone."""
PALETTE = (
    "#3a8fd0",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#e0651a",
    "#7cc8f5",
    "#b8a000",
    "#a184c8",
)
"""Colours that people with any colour vision tell apart (after Okabe and Ito), on dark ground."""
ON_LIGHT = (
    "#005a94",
    "#9a6000",
    "#00704f",
    "#a8447c",
    "#b34000",
    "#22839f",
    "#6b6000",
    "#5f3f94",
)
"""The same on light ground."""
OF_TERMINAL = (
    "bright_blue",
    "yellow",
    "green",
    "bright_magenta",
    "red",
    "cyan",
    "bright_yellow",
    "magenta",
)
"""The same where a terminal has 16 colours only, or is to use its own."""
FEW_COLORS = ("standard", "windows")
"""Kinds of terminals with 16 colours, as Rich calls them."""
LIGHT_TERMINAL = TerminalTheme(
    (247, 247, 247),
    (20, 20, 20),
    [
        (0, 0, 0),
        (170, 40, 35),
        (40, 105, 20),
        (125, 85, 0),
        (40, 80, 180),
        (122, 62, 157),
        (0, 100, 140),
        (120, 120, 120),
    ],
)
"""What named colours, such as those of the states of runs, are on light ground: Textual's own green
and yellow can hardly be read there."""


def color_of(series: int) -> str:
    """As a CSS colour, for dark ground; see :class:`SeriesColors` for others."""
    return PALETTE[series % len(PALETTE)]


def glyph_of(series: int) -> str:
    """One character; series of one colour have different ones."""
    return GLYPHS[(series // len(PALETTE) + series) % len(GLYPHS)]


class SeriesColors(LineFilter):
    """Puts other colours in the place of those of :data:`PALETTE` when a line goes to the terminal.

    :param colors: the others, in the same order.
    """

    def __init__(self, colors: tuple[str, ...]) -> None:
        super().__init__()
        self._colors: Mapping[Color, Color] = {
            _plain(Color.parse(ours)): Color.parse(other)
            for ours, other in zip(PALETTE, colors, strict=True)
        }
        self._replaced = lru_cache(1024)(self._replace)

    def apply(self, segments: list[Segment], background: Ground) -> list[Segment]:
        """Replace the colours of a line."""
        replaced = self._replaced
        return [
            segment
            if segment.style is None or segment.style.color is None
            else Segment(segment.text, replaced(segment.style), segment.control)
            for segment in segments
        ]

    def _replace(self, style: Style) -> Style:
        other = None if style.color is None else self._colors.get(_plain(style.color))
        return style if other is None else style + Style(color=other)


def _plain(color: Color) -> Color:
    """Without the name it was parsed from, so that equal colours are equal."""
    return color if color.triplet is None else Color.from_triplet(color.triplet)
