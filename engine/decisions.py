"""What depends on a clock or on a person: the trainer asks for it here, between steps."""

from __future__ import annotations

from typing import Protocol

from engine.control import Control, Desired
from engine.devices import Stopwatch
from engine.step_log import StepLog


class Decisions(Protocol):
    """Asked between steps; what is not said by :meth:`desired` may be as old as its last word."""

    def desired(self) -> Desired:
        """What the run should do now."""
        ...

    def stop_reason(self) -> str:
        """Why it should stop, where :meth:`desired` says so."""
        ...

    def seconds(self) -> float:
        """Seconds of training so far."""
        ...

    def log_is_due(self) -> bool:
        """Whether the metrics of the last steps are to be brought over."""
        ...


class Own:
    """Those of this process."""

    def __init__(self, control: Control, watch: Stopwatch, log: StepLog) -> None:
        self._control = control
        self._watch = watch
        self._log = log

    def desired(self) -> Desired:
        """As a person wants it."""
        return self._control.desired()

    def stop_reason(self) -> str:
        """As a person has said."""
        return self._control.stop_reason()

    def seconds(self) -> float:
        """Seconds on the watch."""
        return self._watch.seconds

    def log_is_due(self) -> bool:
        """As the log says."""
        return self._log.due
