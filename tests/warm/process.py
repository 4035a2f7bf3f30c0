"""Client of the warm server: processes that look like ``subprocess.Popen``."""

from __future__ import annotations

import functools
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
ENVIRONMENT_OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "LD_")
"""Prefixes of the variables that are read when Python or torch starts."""


_BEGUN_WITH = dict(os.environ)
"""What this process began with, whatever a test has changed since; the server begins with it."""


@functools.cache
def server() -> Server:
    """The server of this process, started on first use."""
    return Server()


def is_supported(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork of the server behaves like a new interpreter with this command."""
    if sys.platform == "darwin" or command[0] != sys.executable or command[1] not in ("-m", "-c"):
        return False  # Apple's libraries do not survive a fork
    return interpreter_settings(environment) == interpreter_settings(_BEGUN_WITH)


def interpreter_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a running interpreter cannot change any more."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_OF_THE_INTERPRETER) and name != "PYTHONUNBUFFERED"
    }


class Server:
    """The server process, which ends with this one."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-", dir="/tmp"))  # a short path
        self.address = str(self._folder / "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm.server", self.address],
            cwd=ROOT,
            env=_BEGUN_WITH,
            stdin=subprocess.PIPE,  # its end of file tells the server that we are gone
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """End the server, and with it what it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class WarmProcess:
    """A command that a fork of the server runs.

    :param command: the interpreter, then ``-m`` and a module or ``-c`` and code, then arguments.
    :param address: socket of the server.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        address: str,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = False,
        start_new_session: bool = False,
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._text = text
        ours: list[int | None] = []
        theirs: list[int] = []
        opened: list[int] = []
        for number, stream in enumerate((stdin, stdout, stderr)):
            mine, its = None, number
            if stream == subprocess.PIPE:
                read, write = os.pipe()
                mine, its = (write, read) if number == 0 else (read, write)
                opened.append(its)
            elif stream == subprocess.STDOUT:
                its = theirs[1]
            elif stream == subprocess.DEVNULL:
                its = os.open(os.devnull, os.O_RDWR)
                opened.append(its)
            elif stream is not None:
                its = stream if isinstance(stream, int) else stream.fileno()
            ours.append(mine)
            theirs.append(its)
        request = {
            "arguments": self.args[1:],
            "environment": dict(os.environ if env is None else env),
            "folder": str(Path.cwd() if cwd is None else cwd),
            "session": start_new_session,
        }
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        socket.send_fds(self._connection, [b"\n"], theirs)
        self._connection.sendall(json.dumps(request).encode())
        self._connection.shutdown(socket.SHUT_WR)
        for descriptor in opened:
            os.close(descriptor)
        self._answers = self._connection.makefile("r")
        self.pid = int(self._answers.readline())
        self.stdin = self._stream(ours[0], "w")
        self.stdout = self._stream(ours[1], "r")
        self.stderr = self._stream(ours[2], "r")

    def _stream(self, descriptor: int | None, mode: str) -> Any:
        if descriptor is None:
            return None
        raw = open(descriptor, f"{mode}b", buffering=-1)  # noqa: PTH123, SIM115 - a descriptor
        return io.TextIOWrapper(raw, write_through=mode == "w") if self._text else raw

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        :raises subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            line = self._answers.readline()
            self.returncode = int(line) if line else -signal.SIGKILL  # the server is gone
            self._answers.close()
            self._connection.close()
        return self.returncode

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Send input, read both streams to their end, and wait.

        :raises subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        results: dict[int, Any] = {}

        def read(number: int, stream: IO[Any]) -> None:
            results[number] = stream.read()
            stream.close()

        readers = [
            threading.Thread(target=read, args=(number, stream), daemon=True)
            for number, stream in ((1, self.stdout), (2, self.stderr))
            if stream is not None and not stream.closed
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            with suppress(BrokenPipeError):
                if input is not None:
                    self.stdin.write(input)
                self.stdin.close()
        for reader in readers:
            reader.join(None if end is None else max(0.0, end - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(None if end is None else max(0.0, end - time.monotonic()))
        return results.get(1), results.get(2)

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)
