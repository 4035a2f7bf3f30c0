"""Running the program as a user does: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.engine.small import cache_dir
from tests.warm.process import WarmProcess, is_supported, server

SMALL = [
    "--set",
    "model.hidden=[16]",
    "--set",
    "data.train_samples=300",
    "--batch-size",
    "50",
    "--device",
    "cpu",
]
"""A digits run of 6 steps an epoch, milliseconds each."""


@contextmanager
def no_file(path: Path, kind: str) -> Iterator[None]:
    """A ``folder``, a ``socket`` or a ``pipe`` where a command is to write a file."""
    with socket.socket(socket.AF_UNIX) as made:
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            before = Path.cwd()
            os.chdir(path.parent)  # the path of a socket can not be long
            made.bind(path.name)
            os.chdir(before)
        yield


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])


class Terminal:
    """A shell with a folder for runs.

    :param is_cold: start a new interpreter per command, as a user does; else fork the warm server.
    """

    def __init__(self, runs: Path, *, is_cold: bool = False) -> None:
        self.runs = runs
        self.is_cold = is_cold
        self.environment = {
            **os.environ,
            "PROXPROP_DIR": str(runs),
            "PROXPROP_DATA_DIR": str(cache_dir()),
            "PYTHONUNBUFFERED": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "proxprop_cli", *arguments]

    def __call__(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> Answer:
        process = self.start(*arguments, stdin=subprocess.PIPE if stdin is not None else None)
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Answer(process.returncode, out, err)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command and leave it running; ``options`` as for ``subprocess.Popen``."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        options = {"env": self.environment, **streams, **options}
        return start(self.command(*arguments), is_cold=self.is_cold, **options)

    def only_run(self) -> str:
        (run,) = [path.name for path in self.runs.iterdir() if not path.name.startswith(".")]
        return run

    def wait_for_steps(self, steps: int = 1, seconds: float = 60.0) -> str:
        """Wait until the only run has logged so many steps; gives its id."""
        from engine.errors import StorageError
        from engine.store_reader import StoreReader

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [p for p in self.runs.glob("[!.]*") if (p / "run.db").exists()]
            if found:
                try:
                    with StoreReader(found[0] / "run.db") as reader:
                        if reader.state().get("step", 0) >= steps:
                            return found[0].name
                except StorageError:
                    pass
            time.sleep(0.02)
        raise AssertionError(f"no {steps} steps within {seconds} s")


def start(command: list[str], *, is_cold: bool = False, **options: Any) -> subprocess.Popen[Any]:
    """Start a process, from the warm server if that makes no difference to the command."""
    if is_cold or not is_supported(command, options.get("env") or os.environ):
        return subprocess.Popen(command, **options)
    return cast("subprocess.Popen[Any]", WarmProcess(command, address=server().address, **options))


def end(process: subprocess.Popen[str], number: signal.Signals) -> Answer:
    """Send a signal and wait."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out, err)
