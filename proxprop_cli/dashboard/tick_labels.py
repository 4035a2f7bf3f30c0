"""Short labels that never say something else than the value they stand at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Literal

Format = Literal["number", "percent", "duration", "count"]

LONGEST = 7
DAY = 86400
_UNITS = ((9, "G"), (6, "M"), (3, "k"))

Writer = Callable[[Decimal], str | None]


def labels(positions: Sequence[Decimal], form: Format, *, alone: bool) -> list[str | None]:
    """A label of at most 7 characters for every position, all different.

    The first way of writing that gives each exactly is taken. Where none has room for all digits,
    the first label is rounded and says so, and the others are what is added to it: ``≈0.6931``,
    ``+2e-7``.

    :param positions: ascending.
    :param form: what the values are.
    :param alone: whether each is written as short as it gets, as on a logarithmic axis, instead of
        with the digits of all.
    :returns: None where there is no honest label.
    """
    found = _exact(positions, form, LONGEST, alone=alone)
    if found is not None or not positions:
        return list(found or [])
    base = positions[0]
    added = _exact([position - base for position in positions[1:]], form, LONGEST - 1, alone=alone)
    first = _rounded(base, form)
    if added is not None:
        return [first, *(f"+{label}" for label in added)]
    return [first, *(None for _ in positions[1:])]


def _exact(
    positions: Sequence[Decimal], form: Format, room: int, *, alone: bool
) -> list[str] | None:
    for write in _writers(positions, form, alone=alone):
        found = [write(position) for position in positions]
        kept = [label for label in found if label is not None and len(label) <= room]
        if len(set(kept)) == len(positions):
            return kept
    return None


def _writers(positions: Sequence[Decimal], form: Format, *, alone: bool) -> Iterator[Writer]:
    largest = max((abs(position) for position in positions), default=Decimal(0))
    if form == "percent":
        percents = [position * 100 for position in positions]
        for write in _writers(percents, "number", alone=alone):
            yield _percent(write)
        return
    if form == "duration":
        yield _clock
        if largest < 100:
            yield _seconds(None if alone else _decimals(positions))
        yield _hours
        yield _days
        yield _nearest_unit
        for size, unit in ((DAY, "d"), (1, "s")):
            exponent = _common_exponent([position / size for position in positions])
            for write in (_scientific, _whole(exponent)):
                yield _in_unit(write, size, unit)
        return
    if form == "count":
        if largest < 10_000:
            yield _grouped
        yield _united
        yield _grouped
    decimals = _decimals(positions)
    if alone:
        yield lambda v: _plain(v) if not v or -2 <= v.adjusted() <= 3 else _scientific(v)
    elif largest < 100_000 and decimals <= 4:
        yield lambda value: f"{value:.{decimals}f}"
    yield _scientific
    yield lambda value: _scientific(value).replace("+", "")
    yield _whole(_common_exponent(positions))
    yield lambda value: f"{value:.{decimals}f}" if value.adjusted() < LONGEST else None


def _percent(write: Writer) -> Writer:
    return lambda value: _suffixed(write(value * 100), "%")


def _in_unit(write: Writer, size: int, unit: str) -> Writer:
    return lambda value: _suffixed(write(value / size), unit)


def _common_exponent(positions: Sequence[Decimal]) -> int:
    return min((_exponent(position) for position in positions if position), default=0)


def _suffixed(label: str | None, unit: str) -> str | None:
    return None if label is None else label if label == "0" and unit == "d" else label + unit


def _decimals(positions: Sequence[Decimal]) -> int:
    """Digits after the point that all of them need."""
    return max((max(0, -_exponent(position)) for position in positions), default=0)


def _exponent(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def _plain(value: Decimal) -> str:
    return f"{value:.{max(0, -_exponent(value))}f}"


def _scientific(value: Decimal) -> str:
    if not value:
        return "0"
    mantissa = value.scaleb(-value.adjusted()).normalize()
    return f"{mantissa:f}e{value.adjusted():+d}"


def _whole(exponent: int) -> Writer:
    """A whole mantissa and one exponent: shorter than a point where exponents are long."""
    return lambda value: f"{value.scaleb(-exponent).normalize():f}e{exponent}" if value else "0"


def _grouped(value: Decimal) -> str | None:
    return f"{int(value):,}" if value.adjusted() < LONGEST and not value % 1 else None


def _united(value: Decimal) -> str | None:
    for power, unit in _UNITS:
        if abs(value) >= Decimal(1).scaleb(power):
            return f"{value.scaleb(-power).normalize():f}{unit}"
    return _grouped(value)


def _clock(value: Decimal) -> str | None:
    if abs(value) >= 10 * 3600 or value % 1:
        return None
    minutes, seconds = divmod(abs(int(value)), 60)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if value < 0 else ""
    return (
        f"{sign}{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{sign}{minutes}:{seconds:02d}"
    )


def _seconds(decimals: int | None) -> Writer:
    return lambda value: (_plain(value) if decimals is None else f"{value:.{decimals}f}") + "s"


def _hours(value: Decimal) -> str | None:
    if abs(value) >= 100 * 3600 or value % 60:
        return None
    hours, minutes = divmod(abs(int(value)) // 60, 60)
    sign = "-" if value < 0 else ""
    return f"{sign}{hours}h{minutes:02d}" if minutes else f"{sign}{hours}h" if hours else "0"


def _days(value: Decimal) -> str | None:
    if abs(value) >= 100_000 * DAY or value % 3600:
        return None
    days, hours = divmod(abs(int(value)) // 3600, 24)
    sign = "-" if value < 0 else ""
    return f"{sign}{days}d{hours:02d}h" if hours else f"{sign}{days}d" if days else "0"


def _nearest_unit(value: Decimal) -> str | None:
    """Each in its own unit, for ranges from seconds to days."""
    if abs(value) < 3600 and value % 1:
        return _plain(value) + "s"
    return _clock(value) or (_hours(value) if abs(value) < DAY else _days(value))


def _rounded(value: Decimal, form: Format) -> str:
    unit = ""
    if form == "percent":
        value, unit = value * 100, "%"
    elif form == "duration":
        size = next(
            ((n, u) for n, u in ((DAY, "d"), (3600, "h"), (60, "m")) if value >= n), (1, "s")
        )
        value, unit = value / size[0], size[1]
    for digits in range(6, 0, -1):
        label = f"{float(value):.{digits}g}".replace("e+0", "e").replace("e-0", "e-")
        label = label.replace("e+", "e")
        if len(label) + len(unit) < LONGEST:
            exact = Decimal(label) == value
            return ("" if exact else "≈") + label + unit
    return f"≈0{unit}" if abs(value) < 1 else "≈"
