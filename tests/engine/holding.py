"""A clock that goes on by itself, and another process that holds a run."""

from __future__ import annotations

import subprocess
import sys

from engine.run import Run


class Clock:
    """A second later every time."""

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
    print("held", flush=True)
    sys.stdin.readline()
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def hold(run: Run) -> subprocess.Popen[str]:
    """Have a process take the lock of a run, until it is told a line or ended."""
    holder = start(HOLD, str(run.path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder
