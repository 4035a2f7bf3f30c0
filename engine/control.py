"""What a person wants a run to do, and how the trainer asks."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Desired(StrEnum):
    """The state a run should be in."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Control(Protocol):
    """Asked by the trainer between steps; implementations must be cheap to ask."""

    def desired(self) -> Desired:
        """What the run should do now."""
        ...

    def stop_reason(self) -> str:
        """Why it should stop, where :meth:`desired` says so (``""`` when nobody said)."""
        ...


class AlwaysRun:
    """A control that never interferes."""

    def desired(self) -> Desired:
        """Go on, always."""
        return Desired.RUNNING

    def stop_reason(self) -> str:
        """Nobody asked."""
        return ""


class Word:
    """A control that is told what to do, by a signal or from elsewhere; a stop is for good."""

    def __init__(self) -> None:
        self._desired = Desired.RUNNING
        self._reason = ""

    def hear(self, desired: Desired, reason: str) -> None:
        """Take what is wanted now."""
        if self._desired is not Desired.STOPPED:
            self._reason, self._desired = reason, desired

    def desired(self) -> Desired:
        """What the run should do now."""
        return self._desired

    def stop_reason(self) -> str:
        """Why it should stop."""
        return self._reason
