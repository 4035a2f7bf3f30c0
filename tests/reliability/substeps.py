"""Trains a run and dies at the n-th sub-step of writing its second checkpoint, for many n.

python -m tests.reliability.substeps FOLDER CACHE EVERY [again], with a run of two epochs in FOLDER;
of the sub-steps it takes every first, second or so; those of writing the second checkpoint again,
at the same step, where told to. Every death is that of a process of its own, forked after the
imports, on a copy of the run; another one then looks at what is left and trains to the end. Prints
a line of JSON for each.
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

from engine.checkpoint import Snapshot
from engine.file_control import FileControl
from engine.recorder import Recorder, newest_state
from engine.run import Run
from engine.session import Sitting, sit
from tests.reliability.trainings import outcome

DIED = 9
"""How a process ends at its sub-step."""
_FILES = {"open", "write", "flush", "fsync", "replace", "rename", "unlink", "remove", "close"}
_STORE = {"execute", "executemany", "commit", "backup"}


def say(text: str) -> None:
    """Print a line now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Death:
    """Ends the process before the n-th call that could leave a trace on the disk.

    Exceptions would not do: a program that dies does not clean up.
    """

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or not _leaves_a_trace(called):
            return
        if self._left == 0:
            say(called.__name__)
            os._exit(DIED)
        self._left -= 1


def _leaves_a_trace(called: Any) -> bool:
    owner = called.__self__ if hasattr(called, "__self__") else None
    if isinstance(owner, (sqlite3.Connection, sqlite3.Cursor)):
        return called.__name__ in _STORE
    is_file = hasattr(owner, "fileno") or getattr(called, "__module__", "") in ("posix", "io")
    return is_file and called.__name__ in _FILES


def train(run: Run, cache: Path, death: Death | None, again: bool = False) -> None:
    """Train to the end, or to the death in the second checkpoint, or over writing that again."""
    keep_state = Recorder._keep_state
    written = count()

    def keep_or_die(self: Recorder, event: Any) -> None:
        dies = death is not None and next(written) == 1
        if dies and again:
            keep_state(self, event)
            trained = self._snapshot()
            # after an evaluation the weights are the same, but not the rest
            later = Snapshot(trained.tensors, {**trained.meta, "metrics": {"evaluated": 1.0}})
            self._snapshot = lambda: later
        if dies:
            sys.setprofile(death)
        keep_state(self, event)
        sys.setprofile(None)

    Recorder._keep_state = keep_or_die  # type: ignore[method-assign]
    sit(run, Sitting(FileControl(run), lambda event: None, cache))


def look(run: Run) -> dict[str, Any]:
    """The step of the newest state, and whether a damaged one was passed over."""
    damaged: list[str] = []
    state = newest_state(run, damaged.append)
    steps = [path.stem for path in run.checkpoints.glob("*.safetensors")]
    assert state is not None
    return {"step": state.meta["step"], "damaged": damaged, "files": sorted(steps)}


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


def main(folder: Path, cache: Path, every: int, again: bool) -> None:
    (made,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    for number in count(step=every):
        copy = Run(folder.parent / f"copy{number}")
        shutil.copytree(made, copy.path)
        code, call = apart(lambda: train(copy, cache, Death(number), again))  # noqa: B023
        if code == 0:
            return
        assert code == DIED, call
        _, left = apart(lambda: look(copy))  # noqa: B023
        finished, _ = apart(lambda: train(copy, cache, None))  # noqa: B023
        assert finished == 0
        _, result = apart(lambda: outcome(copy))  # noqa: B023
        document = {"before": call, "left": json.loads(left), "outcome": json.loads(result)}
        say(json.dumps(document))
        shutil.rmtree(copy.path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "again" in sys.argv)
