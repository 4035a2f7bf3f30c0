"""Lists as they are written on the command line."""

from __future__ import annotations

import itertools
import math
import re

from engine.config_base import MAX_STEP_SIZE
from engine.errors import ConfigError
from engine.sweeps import MAX_CELLS

_LOGSPACE = re.compile(r"logspace\(([^,()]*),([^,()]*),([^,()]*)\)")
_NUMBERS = re.compile(r"((?:\([^()]*\)|[^,])*)(,|\Z)")
# float() takes more: 1_0, inf, digits of other scripts
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_FEWEST_DIGITS = 4
_ALL_DIGITS = 17

# quoted text or a list; what is open at its end is left to the YAML parser to complain about
_CLOSED = r"""'(?:[^']|'')*'|"(?:\\.|[^"\\])*"|\[[^\[\]]*\]"""
_VALUES = re.compile(rf"(\s*(?:{_CLOSED})\s*|[^,]*)(,|\Z)", re.DOTALL)
_ASSIGNMENT = re.compile(rf"[^\s=]*=(?:{_CLOSED})(?!\S)|\S+", re.DOTALL)


def parse_names(text: str, option: str) -> tuple[str, ...]:
    """``a,b`` as names.

    :raises ConfigError: there is none, or one is empty.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"{option}: expected names with commas between them, found {text!r}")
    return names


def split_values(text: str, option: str) -> list[str]:
    """``[8],[8,8]`` as ``[8]`` and ``[8,8]``: at commas outside of lists and quotes.

    :raises ConfigError: there is none, or one is empty.
    """
    found = _split(_VALUES, text)
    if not all(found):
        raise ConfigError(f"{option}: expected values with commas between them, found {text!r}")
    return found


def split_assignments(text: str) -> list[str]:
    """``a=[8, 8] b='c d'`` as its two parts: at white space outside of lists and quotes."""
    return _ASSIGNMENT.findall(text)


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """``50,10,5`` or ``logspace(1e-4,50,9)``, or both with commas between them.

    ``logspace(A,B,N)`` stands for N numbers from A to B whose logarithms are evenly spaced.

    :raises ConfigError: a piece is no number greater than 0, or too large for a step size.
    """
    if text.count(",") > MAX_CELLS:
        raise ConfigError(f"{option}: expected at most {MAX_CELLS:,} numbers")
    pieces = _split(_NUMBERS, text)
    if not all(pieces):
        raise ConfigError(
            f"{option}: expected numbers with commas between them or logspace(A,B,N), "
            f"found {text!r}"
        )
    found: list[float] = []
    for piece in pieces:
        spaced = _LOGSPACE.fullmatch(piece)
        if spaced:
            first, last, count = (part.strip() for part in spaced.groups())
            found += _logspace(first, last, count, option)
        elif piece.startswith("logspace"):
            raise ConfigError(f"{option}: expected logspace(A,B,N), found {piece!r}")
        else:
            found.append(_positive(piece, option))
    return tuple(found)


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    """Pieces that the pattern finds one after the other, each with the comma that ends it."""
    found: list[str] = []
    position, comma = 0, ","
    while comma and (match := pattern.match(text, position)):
        position, comma = match.end(), match[2]
        found.append(match[1].strip())
    return found


def _logspace(first: str, last: str, count: str, option: str) -> list[float]:
    low, high = _positive(first, option), _positive(last, option)
    if not re.fullmatch(r"[0-9]{1,9}", count) or int(count) < 2:
        raise ConfigError(
            f"{option}: expected a number of step sizes of at least 2, found {count!r}"
        )
    if int(count) > MAX_CELLS:
        raise ConfigError(f"{option}: expected at most {MAX_CELLS:,} numbers, found {int(count):,}")
    steps = int(count) - 1
    logs = math.log10(low), math.log10(high)
    exact = [10 ** (logs[0] + (logs[1] - logs[0]) * i / steps) for i in range(1, steps)]
    # rounded: nobody wants to read 0.09999999999999998, and the name of a run depends on it
    for digits in range(_FEWEST_DIGITS, _ALL_DIGITS):
        found = [low, *(float(f"{value:.{digits}g}") for value in exact), high]
        if _is_monotonic(found):
            return found
    return [low, *exact, high]


def _is_monotonic(values: list[float]) -> bool:
    rising = values[0] < values[-1]
    pairs = itertools.pairwise(values)
    return all((one < other) if rising else (one > other) for one, other in pairs)


def _positive(text: str, option: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < value <= MAX_STEP_SIZE:
        most = f", at most {MAX_STEP_SIZE:g}" if value > MAX_STEP_SIZE else ""
        raise ConfigError(f"{option}: expected a number greater than 0{most}, found {text!r}")
    return value
