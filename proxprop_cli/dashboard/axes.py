"""Axes: where a value lies, and which values to write beside them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
import numpy.typing as npt

from proxprop_cli.dashboard.tick_labels import DAY, Format, labels

Floats = npt.NDArray[np.float64]

FAR = 1e12
"""Places are cut off at this many axis lengths, beyond what any screen tells apart."""
_LARGEST = sys.float_info.max
_LEAST = sys.float_info.min
_DURATIONS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_ROUND_DURATIONS = (1, 10, 60, 600, 3600, 36000)


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled value of an axis.

    :ivar position: in the data's units.
    :ivar label: at most 7 characters, no two alike on an axis.
    """

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to [0, 1] and back, for every finite range.

    A range without width is widened, one that has no place on a logarithmic axis replaced; ``low``
    and ``high`` are the range that came of it.

    :param low: the value at 0.
    :param high: the value at 1.
    :param log: whether equal ratios are equally far apart.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        low, high = (_log_range if self.log else _linear_range)(float(self.low), float(self.high))
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def place(self, values: npt.ArrayLike) -> Floats:
        """Fractions of the axis, outside [0, 1] for values outside of it, cut off at ``FAR``.

        NaN for what is not finite and, on a logarithmic axis, for what is not positive.
        """
        given = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.log:
            low, high = math.log10(low), math.log10(high)
            given = np.log10(given, out=np.full(given.shape, np.nan), where=given > 0)
            factor = 1.0
        else:
            # Halves keep the widest range finite; subnormal numbers need to grow instead.
            factor = 2.0**60 if max(abs(low), abs(high)) < 1e-200 else 0.5
        with np.errstate(all="ignore"):
            found = (given * factor - low * factor) / (high * factor - low * factor)
        return np.where(np.isfinite(given), np.clip(found, -FAR, FAR), np.nan)

    def value(self, fraction: float) -> float:
        """The value at a fraction of the axis; never infinite."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            exponent = low + fraction * (high - low)
            if exponent >= math.log10(_LARGEST):
                return _LARGEST
            return max(10.0**exponent, _LEAST) if exponent > -330 else _LEAST
        found = self.low * (1 - fraction) + self.high * fraction
        return min(max(found, -_LARGEST), _LARGEST) if not math.isnan(found) else self.low

    def part(self, start: float, stop: float) -> Scale:
        """The scale of a part of this axis, given by fractions."""
        return Scale(self.value(start), self.value(stop), self.log)

    def ticks(self, count: int, form: Format = "number") -> list[Tick]:
        """About ``count`` round values of the axis."""
        return ticks(self.low, self.high, count, self.log, form)


def ticks(low: float, high: float, count: int, log: bool, form: Format = "number") -> list[Tick]:
    """Round values in a range, at least two and about ``count``, with labels.

    :param low: start of the range, treated as by ``Scale``.
    :param high: its end.
    :param count: how many are wanted; at least 2 are tried.
    :param log: decades; in short ranges also 2 and 5 times these, or equal steps.
    :param form: how labels are written.
    """
    scale = Scale(low, high, log)
    count = max(2, count)
    if log:
        positions = _log_positions(scale.low, scale.high, count, form)
    else:
        positions = _linear_positions(scale.low, scale.high, count, form)
    written = labels(positions, form, alone=log)
    return [
        Tick(float(position), label)
        for position, label in zip(positions, written, strict=True)
        if label is not None
    ]


def _linear_range(low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    low, high = min(low, high), max(low, high)
    size = max(abs(low), abs(high))
    # Below this the digits of the values themselves run out.
    if high / 2 - low / 2 > size * 1e-12 and high - low > 1e-320:
        return low, high
    margin = max(0.05 * size, 1e-300) if size else 1.0
    return max(low - margin, -_LARGEST), min(high + margin, _LARGEST)


def _log_range(low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high)) or max(low, high) <= 0:
        return 0.1, 1.0
    low, high = min(low, high), max(low, high, _LEAST)
    low = max(low if low > 0 else high / 1000, _LEAST)
    if math.log10(high) - math.log10(low) > 1e-9:
        return low, high
    return max(low / 2, _LEAST), min(high, _LARGEST / 2) * 2


def _linear_positions(low: float, high: float, count: int, form: Format) -> list[Decimal]:
    # Decimal, because sums of rounded steps would give labels like 0.30000000000000004.
    first, last = Decimal(repr(low)), Decimal(repr(high))
    raw = (last - first) / count
    two = last.to_integral_value(ROUND_FLOOR) > first.to_integral_value(ROUND_CEILING)
    if form == "count" and two:
        raw = max(raw, Decimal(1))
    steps = _steps(raw, form)
    found: list[Decimal] = []
    for step in reversed(steps):
        start = (first / step).to_integral_value(ROUND_CEILING)
        stop = (last / step).to_integral_value(ROUND_FLOOR)
        found = [(start + index) * step for index in range(int(stop - start) + 1)]
        if len(found) >= 2:
            break
    return found


def _steps(raw: Decimal, form: Format) -> list[Decimal]:
    """Round steps below and up to the first that is not less than ``raw``, ascending."""
    if form == "duration" and raw > 43200:
        return [step * DAY for step in [Decimal("0.5"), *_steps(raw / DAY, "count")]]
    if form == "duration" and raw > Decimal("0.5"):
        usable = [Decimal(step) for step in (*_DURATIONS, DAY)]
    else:
        exponent = raw.adjusted()
        usable = [
            Decimal(digit).scaleb(power)
            for power in range(exponent - 1, exponent + 2)
            for digit in (1, 2, 5)
        ]
        if form == "count" and raw > Decimal("0.5"):
            usable = [step for step in usable if step >= 1]
    # A few ticks more are better than half of them.
    above = next(i for i, step in enumerate(usable) if step * Decimal("1.3") >= raw)
    finer = [usable[0] / 2, usable[0] / 5] if above == 0 else []
    return sorted(finer) + usable[: above + 1]


def _log_positions(low: float, high: float, count: int, form: Format) -> list[Decimal]:
    first, last = math.log10(low), math.log10(high)
    span = last - first
    exponents = range(math.floor(first) - 1, math.ceil(last) + 2)
    decades = _inside(_decades(exponents, form), low, high)
    if span >= 1.5 and len(decades) >= 2:
        return _thinned(decades, count)
    fine = _inside(_fifths(exponents, form), low, high)
    if len(fine) >= 2 and span >= 0.5:
        return _thinned(fine, max(count, 3))
    even = _linear_positions(low, high, count, form)
    return [position for position in even if position > 0]


def _decades(exponents: range, form: Format) -> list[Decimal]:
    if form != "duration":
        return [Decimal(1).scaleb(power) for power in exponents]
    # Powers of ten up to 10 s, then what is round in minutes, hours and days.
    below = [Decimal(1).scaleb(power) for power in exponents if power < 0]
    days = [Decimal(DAY).scaleb(power) for power in range(max(exponents.stop - 4, 1))]
    return below + [Decimal(step) for step in _ROUND_DURATIONS] + days


def _fifths(exponents: range, form: Format) -> list[Decimal]:
    if form == "duration":
        fine = [Decimal(step) for step in (*_DURATIONS, DAY)]
        below = _fifths(range(exponents.start, 0), "number")
        above = _fifths(range(max(exponents.stop - 4, 1)), "number")
        return below + fine + [step * DAY for step in above[1:]]
    return [Decimal(digit).scaleb(power) for power in exponents for digit in (1, 2, 5)]


def _inside(positions: list[Decimal], low: float, high: float) -> list[Decimal]:
    first, last = Decimal(repr(low)), Decimal(repr(high))
    return [position for position in positions if first <= position <= last]


def _thinned(positions: list[Decimal], count: int) -> list[Decimal]:
    """Every k-th position, counted such that 1 stays where it is in the range."""
    stride = 1
    while len(positions) > count * stride:
        stride += 1
    stride = min(stride, len(positions) - 1)
    anchor = positions.index(Decimal(1)) if Decimal(1) in positions else 0
    kept = positions[anchor % stride :: stride]
    return kept if len(kept) >= 2 else [positions[0], positions[-1]]
