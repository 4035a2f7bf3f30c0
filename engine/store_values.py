"""What the values of a store may be: SQLite would keep anything in any column."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from engine.errors import shortened

_T = TypeVar("_T")

_MAX_NAME = 1000
"""Characters of a name: of a metric, a layer, a kind of event."""
_MAX_TEXT = 10_000
"""Characters of any other text in the state."""
_MAX_ENTRIES = 1000
_EARLIEST, _LATEST = -6e10, 1e11
"""Moments in seconds since the epoch between which there are calendars."""


def of_type(value: Any, kind: type[_T]) -> _T:
    """Return the value.

    :raises TypeError: it is of another type.
    """
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {_short(value)}")
    return value


def name_of(value: Any) -> str:
    """Return a text that is no longer than names are.

    :raises TypeError: it is no text.
    :raises ValueError: it is longer.
    """
    if len(of_type(value, str)) > _MAX_NAME:
        raise ValueError(f"expected at most {_MAX_NAME} characters, found {len(value)}")
    return str(value)


def moment_of(value: Any) -> float:
    """Return a number of seconds since the epoch that is a date.

    :raises ValueError: it is none.
    """
    if not _is_moment(value):
        raise ValueError(f"expected a moment, found {_short(value)}")
    return float(value)


def check_state(state: Mapping[str, Any]) -> None:
    """Refuse values of known keys that the writer does not put there.

    :raises ValueError: with the key and the value.
    """
    for key, is_right in _STATE.items():
        if key in state and not is_right(state[key]):
            raise ValueError(f"state {key!r} is {_short(state[key])}")
    brief = state.get("config", {})
    for keys, is_right in ((_BRIEF_NUMBERS, _is_finite), (_BRIEF_TEXTS, _is_text(_MAX_NAME))):
        for key in keys:
            if not (brief.get(key) is None or is_right(brief[key])):
                raise ValueError(f"state 'config': {key} is {_short(brief[key])}")


def _is_text(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) <= most


def _is_number(value: object) -> bool:
    """NaN and infinities too; no integer that is too large for a float."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64
    return whole or isinstance(value, float)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and math.isfinite(value)


def _is_within(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and least <= value <= most


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_within(0, 2**63)(value)


def _holds(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and len(value) <= _MAX_ENTRIES
            and all(map(_is_text(_MAX_NAME), value))
            and all(map(is_right, value.values()))
        )

    return holds


def _is_plain(value: object) -> bool:
    is_text = _is_text(_MAX_TEXT)(value)
    return value is None or is_text or isinstance(value, bool) or _is_number(value)


def _short(value: object) -> str:
    return shortened(repr(value))


_is_moment = _is_within(_EARLIEST, _LATEST)
_STATE: dict[str, Callable[[Any], bool]] = {
    "status": _is_text(_MAX_NAME),
    "reason": _is_text(_MAX_TEXT),
    "created": _is_moment,
    "updated": _is_moment,
    "step": _is_count,
    "epoch": _is_within(0, 1e9),
    "side_by_side": _is_count,
    "metrics": _holds(_is_number),
    "config": _holds(_is_plain),
    "environment": _holds(_is_plain),
}
_BRIEF_NUMBERS = ("tau", "tau_theta", "seed", "epochs", "max_seconds", "batch_size")
_BRIEF_TEXTS = ("preset", "name", "method", "model", "data")
