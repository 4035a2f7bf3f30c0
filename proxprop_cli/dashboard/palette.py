"""Marks and colours of series."""

GLYPHS = "●◆▲■▼◉◇△□▽"
"""So that colour is never alone."""
PALETTE = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#d55e00",
    "#56b4e9",
    "#b8a000",
    "#8c6bb1",
)
"""Colours that people with any colour vision tell apart (after Okabe and Ito), readable on dark and
on light ground."""


def color_of(series: int) -> str:
    """As a CSS colour."""
    return PALETTE[series % len(PALETTE)]


def glyph_of(series: int) -> str:
    """One character; series of one colour have different ones."""
    return GLYPHS[(series // len(PALETTE) + series) % len(GLYPHS)]
