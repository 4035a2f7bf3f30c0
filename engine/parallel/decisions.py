"""Rank 0's decisions, for all processes: those that part ways over one wait for each other."""

from __future__ import annotations

import time

import torch

from engine.control import Desired
from engine.decisions import Decisions
from engine.parallel.team import Team
from engine.step_log import StepLog

_EVERY = 0.05  # seconds between two words, as often as a person's is looked for on the disk
_MOST = 1000  # steps

_STATES = tuple(Desired)


class Shared:
    """:class:`~engine.decisions.Decisions` of rank 0.

    Its word comes with :meth:`desired`, and says how many times that is to be asked until the next
    one: so that short steps share one. Long ones have one each. Any process may be told to stop, on
    a machine that is about to be taken away, and all do then.

    :param own: this process's decisions; those of others than rank 0 count where it is to stop.
    :param log: of this process; all have as many steps in theirs.
    """

    def __init__(self, team: Team, own: Decisions, log: StepLog) -> None:
        self._team = team
        self._own = own
        self._log = log
        self._asked = self._until = 0
        self._heard = time.monotonic()
        self._desired = Desired.RUNNING
        self._seconds = own.seconds()
        self._log_is_due = False
        self._stopped_elsewhere = False

    def desired(self) -> Desired:
        """What the run should do, as of rank 0's latest word."""
        self._asked += 1
        if self._asked >= self._until:
            self._hear()
        return self._desired

    def stop_reason(self) -> str:
        """Known to rank 0 alone, but for a signal that another one got."""
        return "SIGTERM" if self._stopped_elsewhere else self._own.stop_reason()

    def seconds(self) -> float:
        """Seconds of training, as of rank 0's latest word."""
        return self._seconds

    def log_is_due(self) -> bool:
        """Whether rank 0's was at its latest word, or all are full."""
        due, self._log_is_due = self._log_is_due or self._log.full, False
        return due

    def _hear(self) -> None:
        desired = self._own.desired()
        own = [0.0] * 5
        if self._team.rank == 0:
            own[0] = float(_STATES.index(desired))
            own[1] = self._own.seconds()
            own[2] = float(self._own.log_is_due())
            own[3] = float(self._next() if desired is Desired.RUNNING else 1)
        else:
            own[4] = float(desired is Desired.STOPPED)
        (told,) = self._team.sum([torch.tensor(own, dtype=torch.float64)])
        state, self._seconds, due, until, stopped = told.tolist()
        self._desired = _STATES[int(state)]
        if stopped and self._desired is not Desired.STOPPED:
            self._desired, self._stopped_elsewhere = Desired.STOPPED, True
        self._log_is_due = bool(due)
        self._asked, self._until = 0, int(until)

    def _next(self) -> int:
        """Steps until the next word, from how long those since the last one took."""
        now = time.monotonic()
        elapsed, self._heard = now - self._heard, now
        if elapsed <= 0:
            return _MOST
        steps = int(self._asked * _EVERY / elapsed)
        return max(1, min(steps, 2 * self._until, _MOST))
