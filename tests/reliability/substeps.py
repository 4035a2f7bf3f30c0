"""Deaths at the sub-steps of an action: the calls of it that could leave a trace on the disk.

``python -m tests.reliability.substeps FOLDER CACHE``, with a run of two epochs in FOLDER, trains it
and dies at the n-th sub-step of writing its second checkpoint, for all n. Every death is that of a
process of its own, forked after the imports, on a copy of the run; another one then looks at what
is left and trains to the end. Prints a line of JSON per death.

:func:`copies_at_sub_steps` does the same without processes: it copies the files that a death would
leave.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from engine.checkpoint import paths
from engine.control import AlwaysRun
from engine.recorder import Recorder
from engine.restoring import newest_state
from engine.run import Run
from engine.session import Sitting, sit
from engine.store_reader import StoreReader
from tests.reliability.trainings import outcome

DIED = 9
"""How a process ends at its sub-step."""
_FILES = {"open", "write", "flush", "fsync", "replace", "rename", "unlink", "remove", "close"}
_STORE = {"execute", "executemany", "commit", "backup"}


def say(text: str) -> None:
    """Print a line now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class SubSteps:
    """A profile function that is told the name of a call that could leave a trace on the disk,
    before the call."""

    def __init__(self, before: Callable[[str], None]) -> None:
        self._before = before

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and _leaves_a_trace(called):
            self._before(called.__name__)


def _leaves_a_trace(called: Any) -> bool:
    owner = called.__self__ if hasattr(called, "__self__") else None
    if isinstance(owner, (sqlite3.Connection, sqlite3.Cursor)):
        return called.__name__ in _STORE
    is_file = hasattr(owner, "fileno") or getattr(called, "__module__", "") in ("posix", "io")
    return is_file and called.__name__ in _FILES


class Death(SubSteps):
    """Ends the process before the n-th sub-step.

    Exceptions would not do: a program that dies does not clean up.
    """

    def __init__(self, at: int) -> None:
        super().__init__(self._die)
        self._left = at

    def _die(self, call: str) -> None:
        if self._left == 0:
            say(call)
            os._exit(DIED)
        self._left -= 1


def copies_at_sub_steps(
    folder: Path, target: Path, action: Callable[[SubSteps], None]
) -> list[tuple[str, Path]]:
    """Copy a folder before every sub-step; return what each would have done, and the copies.

    What a process has written outlives it, but for the memory that it shares with others.

    :param target: where the copies are made.
    :param action: sets the profile function that it is given.
    """
    copies: list[tuple[str, Path]] = []

    def copy(call: str) -> None:
        path = target / f"copy{len(copies)}"
        shutil.copytree(folder, path, ignore=shutil.ignore_patterns("*-shm"))
        copies.append((call, path))

    action(SubSteps(copy))
    return copies


def train(run: Run, cache: Path, profile: SubSteps | None = None) -> None:
    """Train to the end.

    :param profile: used while the second checkpoint is written.
    """
    keep_state = Recorder._keep_state
    written = count()

    def keep_with_profile(self: Recorder, event: Any) -> None:
        if next(written) == 1:
            sys.setprofile(profile)
        keep_state(self, event)
        sys.setprofile(None)

    with patch.object(Recorder, "_keep_state", keep_with_profile):
        sit(run, Sitting(AlwaysRun(), lambda event: None, cache))


def look(run: Run) -> dict[str, Any]:
    """The step of the newest state, whether a damaged one was passed over, and which files of
    checkpoints that count are not there."""
    damaged: list[str] = []
    state = newest_state(run, damaged.append)
    assert state.snapshot is not None
    with StoreReader(run.database) as reader:
        kept = [row.step for row in reader.checkpoints()]
    files = [path for step in kept for path in paths(run.checkpoints, step)]
    missing = [path.name for path in files if not path.exists()]
    return {"step": state.step, "damaged": damaged, "missing": missing}


def apart(action: Callable[[], dict[str, Any] | None]) -> tuple[int, str]:
    """Do something in a forked process; gives its exit code and what it printed."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(theirs, 1)
        try:
            result = action()
            if result is not None:
                say(json.dumps(result))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent is told
            traceback.print_exc()
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        text = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text.strip()


def main(folder: Path, cache: Path) -> None:
    (made,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    for number in count():
        copy = Run(folder.parent / f"copy{number}")
        shutil.copytree(made, copy.path)
        code, call = apart(lambda: train(copy, cache, Death(number)))  # noqa: B023
        if code == 0:
            return
        assert code == DIED, call
        _, left = apart(lambda: look(copy))  # noqa: B023
        finished, _ = apart(lambda: train(copy, cache))  # noqa: B023
        assert finished == 0
        _, result = apart(lambda: outcome(copy))  # noqa: B023
        document = {"before": call, "left": json.loads(left), "outcome": json.loads(result)}
        say(json.dumps(document))
        shutil.rmtree(copy.path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
