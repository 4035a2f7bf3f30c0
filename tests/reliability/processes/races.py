"""Processes that give ``proxprop resume`` on the same run at the same moment.

As ``python -m tests.reliability.processes.races`` a racer: for every id on standard input it gives
the command, waits just before it would take the run's lock until it is told to go, and answers with
a line of JSON once the command is over.
"""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from engine.control import Desired
from engine.locks import RunLock
from engine.run import Run
from tests.cli.terminal import Terminal, start

SECONDS = 120.0
"""How long a racer may take, on a busy machine."""


@dataclass(frozen=True)
class Answer:
    """How the command ended."""

    code: int
    seconds: float
    """From when it began to take the lock."""
    said: str


class Racers:
    """So many processes, started once for many races.

    They end with the block.
    """

    def __init__(self, terminal: Terminal, count: int) -> None:
        self._processes = [
            start(
                [sys.executable, "-m", "tests.reliability.processes.races"],
                env=terminal.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Racers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def race(self, run: Run) -> tuple[list[Answer], Answer]:
        """Have all of them resume a run, while a reader looks whether it is live; gives how the
        losers ended, then, told to stop, the winner."""
        self._tell(run.id)
        for _ in self._processes:
            assert self._heard(1) == ["ready"]
        self._tell("go")
        losers = self._heard(len(self._processes) - 1, run)
        run.set_desired(Desired.STOPPED)
        (winner,) = self._heard(1)
        return [Answer(*loser) for loser in losers], Answer(*winner)

    def _tell(self, word: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    def _heard(self, count: int, run: Run | None = None) -> list[Any]:
        """So many lines of any of them."""
        streams = [process.stdout for process in self._processes]
        heard: list[Any] = []
        end = time.monotonic() + SECONDS
        while len(heard) < count:
            assert time.monotonic() < end, f"{len(heard)} of {count} answered: {heard}"
            if run is not None:
                run.is_live()
            for stream in select.select(streams, [], [], 0.001)[0][: count - len(heard)]:
                heard.append(json.loads(stream.readline()))
        return heard


def main() -> None:
    """Be a racer."""
    import engine.session  # noqa: F401 - what takes long to load is loaded before the race
    from proxprop_cli.__main__ import run as command

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    lock = Run.lock
    began = 0.0

    def lock_together(run: Run, *arguments: float) -> RunLock:
        nonlocal began
        print(json.dumps("ready"), file=answers)
        assert sys.stdin.readline() == "go\n"
        began = time.monotonic()
        return lock(run, *arguments)

    Run.lock = lock_together  # type: ignore[method-assign]
    while id := sys.stdin.readline().strip():
        said = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            code = command(["resume", id, "--plain"])
        print(json.dumps([code, time.monotonic() - began, said.getvalue()]), file=answers)


if __name__ == "__main__":
    main()
