"""How a trainer in its own process hears what a person wants."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.control import Desired
from engine.run import Request, Run

POLL_SECONDS = 0.05
"""Least time between two looks at the disk."""


class FileControl:
    """A :class:`engine.control.Control` that reads the word left in the run's folder.

    A word that can not be read changes nothing: the last one that could be still holds.
    """

    def __init__(self, run: Run, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Listen to a run.

        :param clock: seconds from any start.
        """
        self._run = run
        self._clock = clock
        self._next_look = -float("inf")
        self._signature: tuple[int, int, int] | None = None
        self._heard = Request(Desired.RUNNING)
        self._stop: Request | None = None

    def desired(self) -> Desired:
        """What the run should do now; costs a look at the clock, rarely one at the disk."""
        return self._request().desired

    def stop_reason(self) -> str:
        """Why the run should stop; ``""`` when nobody said."""
        request = self._request()
        return request.reason if request.desired is Desired.STOPPED else ""

    def request_stop(self, reason: str) -> None:
        """Stop, whatever the file says now or later; may be called by a signal handler."""
        if self._stop is None:
            self._stop = Request(Desired.STOPPED, reason)

    def _request(self) -> Request:
        if self._stop is not None:
            return self._stop
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + POLL_SECONDS
            signature = self._run.request_signature()
            if signature != self._signature:
                heard = self._run.request()
                if heard is not None:
                    self._signature, self._heard = signature, heard
        return self._heard
