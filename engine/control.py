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
