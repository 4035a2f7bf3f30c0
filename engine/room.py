"""Waiting for room on the disk that a sweep's runs are on, before they are there to wait by
themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.atomic_files import is_full
from engine.run import Run


class Room:
    """Whether there is room, as far as it is known; to be asked again and again.

    :param folder: of the sweep; word is left there while there is none.
    :param look_seconds: time between two looks at the disk.
    :param clock: seconds from any start.
    """

    def __init__(
        self, folder: Run, *, look_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._look_seconds = look_seconds
        self._clock = clock
        self._next_look: float | None = None
        """None: nobody has found it lacking."""
        folder.set_waiting(False)  # of a process that was killed

    def is_lacking(self) -> bool:
        """Whether there was none when last looked for, and it is not yet time to try again."""
        if self._next_look is None:
            return False
        now = self._clock()
        if now < self._next_look:
            return True
        if is_full(self._folder.path):
            self._next_look = now + self._look_seconds
            return True
        return False

    def lacked(self) -> bool:
        """Note that something found none; gives whether that is new."""
        is_new = self._next_look is None
        self._next_look = self._clock() + self._look_seconds
        if is_new:
            self._folder.set_waiting(True)
        return is_new

    def found(self) -> None:
        """Note that there was room, or that nobody waits for it any more."""
        if self._next_look is not None:
            self._next_look = None
            self._folder.set_waiting(False)
