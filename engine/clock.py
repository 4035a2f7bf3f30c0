"""Time of day and durations, on machines whose clock is wrong or is set while the program runs."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since the epoch; 0 where the clock stands before it."""
    return max(0.0, time.time())


def age(moment: float) -> float:
    """Seconds since a moment of :func:`now`, on this machine or another; never negative."""
    return max(0.0, time.time() - moment)


class Elapsed:
    """Seconds since a beginning, by a clock that nobody sets.

    :param before: seconds that had gone by already.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._began = time.monotonic() - before

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.monotonic() - self._began
