"""Text in less room."""

from __future__ import annotations

from rich.cells import cell_len


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
