"""Lists as they are written on the command line."""

from __future__ import annotations

import math
import re

from engine.errors import ConfigError
from engine.sweeps import MAX_CELLS

_LOGSPACE = re.compile(r"logspace\(([^,()]+),([^,()]+),([^,()]+)\)")
_PIECES = re.compile(r"logspace\([^()]*\)|[^,]+")


def parse_names(text: str, option: str) -> tuple[str, ...]:
    """``a,b`` as names.

    :raises ConfigError: there is none, or one is empty.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"{option}: expected names with commas between them, found {text!r}")
    return names


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """``50,10,5`` or ``logspace(1e-4,50,9)``, or both with commas between them.

    ``logspace(A,B,N)`` stands for N numbers from A to B whose logarithms are evenly spaced.

    :raises ConfigError: a piece is no finite number greater than 0.
    """
    if text.count(",") > MAX_CELLS:
        raise ConfigError(f"{option}: expected at most {MAX_CELLS:,} numbers")
    pieces = _PIECES.findall(text.replace(" ", ""))
    if ",".join(pieces) != text.replace(" ", "") or not pieces:
        raise ConfigError(
            f"{option}: expected numbers with commas between them or logspace(A,B,N), "
            f"found {text!r}"
        )
    found: list[float] = []
    for piece in pieces:
        spaced = _LOGSPACE.fullmatch(piece)
        if spaced:
            found += _logspace(spaced[1], spaced[2], spaced[3], option)
        else:
            found.append(_positive(piece, option))
    return tuple(found)


def _logspace(first: str, last: str, count: str, option: str) -> list[float]:
    low, high = _positive(first, option), _positive(last, option)
    if not re.fullmatch(r"\d{1,9}", count) or int(count) < 2:
        raise ConfigError(f"{option}: expected a number of step sizes of at least 2, found {count}")
    if int(count) > MAX_CELLS:
        raise ConfigError(f"{option}: expected at most {MAX_CELLS:,} numbers, found {int(count):,}")
    steps = int(count) - 1
    logs = math.log10(low), math.log10(high)
    between = [
        # rounded: nobody wants to read 0.09999999999999998, and the name of a run depends on it
        float(f"{10 ** (logs[0] + (logs[1] - logs[0]) * i / steps):.4g}")
        for i in range(1, steps)
    ]
    return [low, *between, high]


def _positive(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{option}: expected a number greater than 0, found {text!r}")
    return value
