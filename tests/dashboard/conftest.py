"""Short periods of the looks at the disk, and a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from contextlib import suppress

import pytest

from engine.control import Desired
from engine.runs import Runs
from tests.dashboard.sweep_helper import NOON, a_grid, make_sweep, set_created

SECONDS = 60.0
PERIODS = (
    "feed._PROBE_SECONDS",
    "feed._RETRY_SECONDS",
    "poller.POLL_SECONDS",
    "screens.reconstructions._POLL_SECONDS",
    "screens.run_list._POLL_SECONDS",
    "screens.sweep_base.POLL_SECONDS",
)


@pytest.fixture(autouse=True)
def short_periods(monkeypatch):
    """Look at the disk often, so that no test waits for the next look."""
    for name in PERIODS:
        monkeypatch.setattr(f"proxprop_cli.dashboard.{name}", 0.05)


@pytest.fixture(scope="session")
def large_sweep(tmp_path_factory):
    """A folder with a sweep of 108 runs that has trained for five minutes; to be read only."""
    root = tmp_path_factory.mktemp("large")
    longer = {"cg1": "cg1 tau_theta=0.05", "cg3": "cg3 tau_theta=0.05"}
    cells = [(longer.get(row, row), *rest) for row, *rest in a_grid()]
    make_sweep(root, cells, id="sweep-abcdefghij", created=NOON)
    for run in Runs(root).all():
        set_created(run, NOON + 1)
        os.utime(run.database, (NOON, NOON + 201))
    return root


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
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(seconds)

    def until(self, condition):
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, self.text()[-3000:]
            self.read()

    def text(self):
        """What was shown since the last key, for people."""
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", self.shown.decode(errors="replace"))
        return " ".join(plain.split())

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
