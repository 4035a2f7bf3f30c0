"""How a run is, in one word: the same in lists as where it is shown alone."""

from __future__ import annotations

import time

from engine.control import Desired
from engine.run import Run
from proxprop_cli.dashboard.run_log import last_words
from proxprop_cli.dashboard.views import LIVE

START_SECONDS = 60.0
"""What a process may take from the wish that it trains to the lock."""
_WORDS_SECONDS = 2.0
"""From then on what a trainer has said before it had the run is why it can not train."""


def status_of(run: Run, stored: str, *, locked: bool) -> tuple[str, str]:
    """The status of a run, and the last words of its trainer where that is gone.

    :param stored: the status that its store has.
    :param locked: whether a process has the run.
    """
    words = "" if locked else _words_since_asked(run)
    if stored == "diverged" or (locked and stored in LIVE):
        return stored, words
    wanted = stored == "created" or _is_told_to_go_on(run)
    if wanted and (locked or not gave_up(run)):
        return "starting", words
    return ("interrupted" if stored in ("created", "running") else stored), words


def gave_up(run: Run) -> bool:
    """Whether nobody is about to train a run that was made, or told to go on, a while ago."""
    # a clock that was set back makes moments of the future
    seconds = abs(time.time() - max(run.created, _asked_ns(run) / 1e9))
    return seconds > START_SECONDS or (seconds > _WORDS_SECONDS and bool(_words_since_asked(run)))


def _words_since_asked(run: Run) -> str:
    """Of a trainer that was to go on, not of the one before it."""
    return last_words(run.path, _asked_ns(run) / 1e9 if _is_told_to_go_on(run) else 0.0)


def _is_told_to_go_on(run: Run) -> bool:
    """Whether that was said after all that was written by whoever trained it."""
    is_newer = _asked_ns(run) > run.written_ns()
    return is_newer and run.desired() is Desired.RUNNING


def _asked_ns(run: Run) -> int:
    """When somebody said what the run should do, in nanoseconds since the epoch."""
    request = run.request_signature()
    return 0 if request is None else request[1]
