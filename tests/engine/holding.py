"""A clock that goes on by itself, and scripts as processes, one of which holds a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.run import Run
from tests.cli import terminal


class Clock:
    """A clock that moves on by a second per call."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


HOLD = """
import sys
from pathlib import Path
from engine.run import Run
with Run(Path(sys.argv[1])).lock():
    print("ready", flush=True)
    sys.stdin.readline()
"""


def start(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run a script in a process of its own; tests that do so are ``system`` tests."""
    return terminal.start(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_and_wait(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run a script in a process of its own and wait until it prints ``ready``."""
    process = start(script, *arguments)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def hold(run: Run) -> subprocess.Popen[str]:
    """Have a process take the lock of a run, until it reads a line or is killed."""
    return start_and_wait(HOLD, run.path)
