"""The grid of characters that a chart is put into."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.cells import cell_len

TEXT, BORDER, TITLE, AXIS, RULE, GRID, EMPTY = range(7)
FIRST_SERIES = 7
BRIGHT, DIM, BOLD = range(3)
"""Kinds of ink of a line; ``FIRST_SERIES + 3 * index + kind`` is its code."""
_CONTINUED = 0  # the second cell of a wide character
_BLANK = ord(" ")


class Picture:
    """A grid of characters and of codes for the ink they are drawn in.

    :ivar corner: where the legend is in the plot, if it is there.
    """

    def __init__(self, width: int, height: int) -> None:
        self.characters = np.full((height, width), _BLANK, np.uint32)
        self.codes = np.zeros((height, width), np.int32)
        self.corner: str | None = None

    def put(self, row: int, column: int, text: str, code: int) -> int:
        """Write a text, cut off at the edges, and return the column behind it."""
        width = self.characters.shape[1]
        for character in text:
            size = cell_len(character)
            if size and 0 <= column <= width - size:
                self.characters[row, column] = ord(character)
                self.characters[row, column + 1 : column + size] = _CONTINUED
                self.codes[row, column : column + size] = code
            column += size
        return column

    def row(self, row: int) -> list[tuple[str, int]]:
        """Texts with the codes of their ink, from left to right."""
        codes = self.codes[row]
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        text = self.characters[row].astype("<u4").tobytes().decode("utf-32-le")
        return [
            (text[start:stop].replace("\0", ""), int(codes[start]))
            for start, stop in pairwise(bounds)
        ]


@dataclass(frozen=True, slots=True)
class Area:
    """Cells of the picture."""

    top: int
    left: int
    rows: int
    columns: int
