"""A real pseudo-terminal for the tests of the dashboard."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time

import pytest

from engine.control import Desired
from engine.runs import Runs

SECONDS = 60.0


class Window:
    """A terminal window with a program in it."""

    def __init__(self, terminal, *arguments, columns=120, rows=40):
        self.control, device = pty.openpty()
        fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = terminal.start(
            *arguments,
            env={**terminal.environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            stdin=device,
            stdout=device,
            stderr=device,
            start_new_session=True,
        )
        os.close(device)
        self.shown = b""

    def read(self, seconds=0.1):
        if select.select([self.control], [], [], seconds)[0]:
            try:
                self.shown += os.read(self.control, 65536)
            except OSError:  # the other side has closed
                time.sleep(seconds)

    def until(self, condition):
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, self.shown[-2000:]
            self.read()

    def until_shown(self, text):
        self.until(lambda: text.encode() in self.shown)

    def press(self, keys):
        self.shown = b""
        os.write(self.control, keys.encode())

    def leave(self):
        """Wait for the end; gives the exit code."""
        self.until(lambda: self.process.poll() is not None)
        self.read()
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.control)


@pytest.fixture
def window(terminal):
    opened = []

    def start(*arguments, **size):
        opened.append(Window(terminal, *arguments, **size))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
    for run in Runs(terminal.runs).all():
        run.set_desired(Desired.STOPPED)  # a trainer of its own session outlives a failed test
