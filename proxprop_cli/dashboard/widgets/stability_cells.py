"""What a cell of the stability grid says, apart from how it is drawn: number, glyph, colour."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.cells import cell_len

from engine.numbers import format_number, short_number
from engine.run import WAITING_FOR_ROOM
from engine.stability import CellSummary, Stability
from proxprop_cli.output import printable

Shown = Literal["loss", "accuracy", "val_loss"]
"""Training loss, validation accuracy, or where there are no classes validation loss."""
Kind = Literal["final", "partial", "live", "diverged", "waiting"]

LEVELS = "▁▂▃▄▅▆▇█"
"""Least to greatest value, so that colour is never alone."""
BEST = "★"
DIVERGED = "✖"
GLYPHS = {
    "unreadable": "?",
    WAITING_FOR_ROOM: "◐",
    "running": "▸",
    "interrupted": "!",
    "failed": "!",
    "paused": "‖",
    "stopped": "■",
    "waiting": "·",
}
"""What keeps a cell from being final; the first that one of its seeds has is shown."""

_VIRIDIS = (
    (0x44, 0x01, 0x54),
    (0x47, 0x2D, 0x7B),
    (0x3B, 0x52, 0x8B),
    (0x2C, 0x72, 0x8E),
    (0x21, 0x91, 0x8C),
    (0x28, 0xAE, 0x80),
    (0x5E, 0xC9, 0x62),
    (0xAD, 0xDC, 0x30),
    (0xFD, 0xE7, 0x25),
)
"""Grows in lightness evenly, also to people who see fewer colours."""
_QUANTILES = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values onto [0, 1], by the logarithm for losses; what lies outside is put at the end.

    The ends are quantiles (5 and 95 %), so that one cell does not take the colours from the rest.
    """

    shown: Shown
    low: float
    """In the units of the values."""
    high: float

    @classmethod
    def of(cls, shown: Shown, values: Iterable[float]) -> Scale | None:
        """The scale that fits; None where there is no finite value above 0."""
        usable = [value for value in values if math.isfinite(value) and value > 0]
        if not usable:
            return None
        array = np.array(usable)
        if shown == "accuracy":
            low, high = np.quantile(array, _QUANTILES)
        else:
            low, high = np.exp(np.quantile(np.log(array), _QUANTILES))
        return cls(shown, float(low), float(high))

    def level(self, value: float) -> float:
        """Where a value lies: 0 the least, 1 the greatest."""
        if not value > self.low:
            return 0.0
        if value >= self.high:
            return 1.0
        if self.shown == "accuracy":
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low)

    def goodness(self, value: float) -> float:
        """Where a value lies: 1 is a low loss or a high accuracy."""
        level = self.level(value)
        return level if self.shown == "accuracy" else 1 - level

    def glyph(self, value: float) -> str:
        """A bar as high as the value."""
        return LEVELS[min(int(self.level(value) * len(LEVELS)), len(LEVELS) - 1)]


@dataclass(frozen=True, slots=True)
class CellText:
    """A cell in letters. Together they take ``1 + width + 1`` columns or fewer."""

    kind: Kind
    glyph: str
    text: str
    tail: str
    """``…`` where the number is not the last."""


def value_of(cell: CellSummary, shown: Shown) -> float | None:
    """The number of a cell."""
    values = {"loss": cell.loss, "accuracy": cell.accuracy, "val_loss": cell.val_loss}
    return values[shown]


def other_than(shown: Shown, cells: Iterable[CellSummary]) -> Shown:
    """What cells can show beside the one: the training loss, or what validation came to."""
    if shown != "loss":
        return "loss"
    no_classes = False
    for cell in cells:
        if cell.accuracy is not None:
            return "accuracy"
        no_classes |= cell.val_loss is not None
    return "val_loss" if no_classes else "accuracy"


def cell_text(
    cell: CellSummary, shown: Shown, scale: Scale | None, width: int, *, best: bool
) -> CellText:
    """What a cell says.

    :param width: columns for the number.
    :param best: whether it is the best of its row.
    """
    tail = "…" if cell.running else ""
    if cell.diverged:
        text = f"{DIVERGED} {cell.diverged}/{cell.seeds}"
        text = text if cell_len(text) <= width else f"{DIVERGED} {cell.diverged}"
        return CellText("diverged", "", text if cell_len(text) <= width else DIVERGED, tail)
    value = value_of(cell, shown)
    number = "" if value is None else format_value(value, shown, width)
    if cell.final:
        level = scale.glyph(value) if scale and value is not None else ""
        return CellText("final", BEST if best else level, number or "-", tail)
    glyph = next((GLYPHS[status] for status in GLYPHS if status in cell.words), "")
    if not number:
        return CellText("live" if cell.running else "waiting", "", glyph, tail)
    kind: Kind = "live" if cell.running else "partial"
    if best:  # so far, which the row says too
        text = f"{glyph}{number}"
        return CellText(kind, BEST, text if cell_len(text) <= width else number, "…")
    for text in (f"{glyph} {number}", f"{glyph}{number}"):
        if cell_len(text) <= width:
            return CellText(kind, "", text, tail)
    return CellText(kind, glyph, number, tail)


def more_lines(cell: CellSummary, shown: Shown, width: int) -> list[str]:
    """What a high cell says below its number: where it broke, or the other number, and how far
    its seeds are apart; without what does not fit.

    :param width: columns for each.
    """
    if cell.diverged:
        found = [] if cell.first_bad_step is None else [f"step {cell.first_bad_step:,}"]
    else:
        found = []
        other = other_than(shown, [cell])
        value = value_of(cell, other)
        if value is not None:
            text = format_value(value, other)
            named = f"{'loss' if other == 'loss' else 'val'} {text}"
            found.append(named if cell_len(named) <= width else text)
        if not cell.final and cell.losses:
            found.append(f"{cell.statuses.count('finished')}/{cell.seeds} done")
        elif len(cell.losses) > 1:
            low, high = min(cell.losses), max(cell.losses)
            found.append(f"{format_number(low, 6)}-{format_number(high, 6)}")
    return [text for text in found if cell_len(text) <= width]


def format_value(value: float, shown: Shown, width: int = 7) -> str:
    """A loss with three significant digits, or as many as fit; an accuracy in percent."""
    if shown == "accuracy":
        return f"{100 * value:.1f}%"
    return format_number(value, width)


def viridis(position: float) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) at a position in [0, 1]."""
    place = min(max(position, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    first = min(int(place), len(_VIRIDIS) - 2)
    part = place - first
    red, green, blue = (
        round(a + part * (b - a)) for a, b in zip(_VIRIDIS[first], _VIRIDIS[first + 1], strict=True)
    )
    return red, green, blue


def reads_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has more contrast (WCAG 2) on a colour."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in color)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # equal contrast to black and white: (1 + 0.05) / (L + 0.05) = (L + 0.05) / 0.05
    return (0, 0, 0) if luminance > math.sqrt(1.05 * 0.05) - 0.05 else (255, 255, 255)


def halfway(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    """The colour between two."""
    red, green, blue = ((a + b) // 2 for a, b in zip(one, other, strict=True))
    return red, green, blue


def detail(table: Stability, row: str, tau: float) -> list[list[str]]:
    """What there is to say of a cell, the first first: lines of pieces, escaped."""
    cell = table.cells.get((row, tau))
    place = [printable(row), f"tau {short_number(tau)}"]
    if cell is None:
        return [[*place, "not part of the sweep"]]
    if cell.tau_theta is not None:
        place.append(f"tau_theta {short_number(cell.tau_theta)}")
    lines = [place + _progress(cell), _failure(cell), _numbers(cell)]
    return [line for line in lines if line]


def _progress(cell: CellSummary) -> list[str]:
    counts = Counter(cell.words)
    (common, number), *others = counts.most_common()
    listed = [f"{number} {common}", *(f"{count} {status}" for status, count in others)]
    pieces = [", ".join(listed) if others else common]
    if cell.losses:
        pieces.append(f"{cell.epochs:.4g}/{cell.limit} epochs")
    return pieces


def _failure(cell: CellSummary) -> list[str]:
    pieces = []
    if cell.diverged:
        seeds = "seed" if cell.seeds == 1 else "seeds"
        pieces.append(f"{DIVERGED} {cell.diverged} of {cell.seeds} {seeds}")
        if cell.first_bad_step is not None:
            pieces.append(f"first bad step {cell.first_bad_step:,}")
    return [*pieces, printable(cell.cause)] if cell.cause else pieces


def _numbers(cell: CellSummary) -> list[str]:
    pieces = []
    if cell.loss is not None:
        spread = ""
        if len(cell.losses) > 1:
            low, high = format_number(min(cell.losses)), format_number(max(cell.losses))
            spread = f" ({len(cell.losses)} seeds: {low} to {high})"
        pieces.append(f"train loss {format_number(cell.loss)}{spread}")
    if cell.accuracy is not None:
        pieces.append(f"val {100 * cell.accuracy:.1f} %")
    elif cell.val_loss is not None:
        pieces.append(f"val loss {format_number(cell.val_loss)}")
    return pieces
