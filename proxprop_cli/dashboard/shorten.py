"""Text in less room."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len

_UNIT = re.compile(r"(?:tau|seed) \S+|\S+")
"""What is left out of a label as a whole."""


def first_fitting(texts: Sequence[str], width: int) -> str:
    """The first that has at most ``width`` columns, else the last with an ellipsis.

    :param texts: the same in less and less room; none: nothing.
    """
    for text in texts:
        if cell_len(text) <= width:
            return text
    return fitted(texts[-1], width) if texts else ""


def fitted(text: str, width: int) -> str:
    """The text with an ellipsis in place of what does not fit into so many cells."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[:-1]
    return text.rstrip() + "…" if width > 0 else ""


def distinct(labels: Sequence[str]) -> list[str]:
    """The labels without what all of them have; one that would be empty stays as it is."""
    split = [_UNIT.findall(label) for label in labels]
    common = set.intersection(*map(set, split)) if len(labels) > 1 else set()
    kept = [" ".join(unit for unit in units if unit not in common) for units in split]
    return [short or label for short, label in zip(kept, labels, strict=True)]


def without_middle(text: str, width: int) -> str:
    """At most ``width`` columns of it: some of its first word, and its end."""
    if cell_len(text) <= width:
        return text
    if width < 2:
        return "…"[:width]
    head, tail = "", ""
    for character in text.partition(" ")[0] + " ":
        if cell_len(head + character) > width // 3:
            break
        head += character
    for character in reversed(text):
        if cell_len(f"{head}…{character}{tail}") > width:
            break
        tail = character + tail
    return f"{head}…{tail}"
