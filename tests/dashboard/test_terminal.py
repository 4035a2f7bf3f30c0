"""The dashboard in a real pseudo-terminal, with a real training."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from engine.control import Desired
from engine.runs import Runs
from tests.cli.terminal import SMALL
from tests.dashboard.runs_helper import make_run

SECONDS = 60.0


class Window:
    """A terminal window with a program in it."""

    def __init__(self, terminal, *arguments, columns=120, rows=40):
        self.control, device = pty.openpty()
        fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            terminal.command(*arguments),
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


def test_train_pause_resume_detach_watch_and_stop(terminal, window):
    first = window("train", *SMALL, "--epochs", "100000", "--method", "cg3")
    first.until_shown("running")
    (run,) = Runs(terminal.runs).all()
    first.until_shown("CG residual")
    first.press("p")
    first.until(lambda: run.status() == "paused")
    first.until_shown("paused")
    first.press("p")
    first.until(lambda: run.status() == "running")
    first.press("q")
    first.until_shown("detach")
    first.press("d")
    assert first.leave() == 0
    first.until_shown("trains on")
    assert run.is_live()
    again = window("watch")
    again.until_shown("running")
    again.press("s")
    again.until_shown("Stop run")
    again.press("s")
    again.until(lambda: run.status() == "stopped")
    again.until_shown("stopped")
    again.press("q")
    assert again.leave() == 0
    assert not run.is_live()


def test_a_finished_training_is_reported_after_the_dashboard(terminal, window):
    shown = window("train", *SMALL, "--epochs", "2")
    shown.until_shown("finished")
    shown.press("q")
    assert shown.leave() == 0
    shown.until_shown("is finished after 12 steps: loss")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_terminal_is_restored_when_told_to_end(terminal, window, number, code):
    make_run(terminal.runs)
    shown = window("watch")
    shown.until_shown("finished")
    before = termios.tcgetattr(shown.control)
    shown.process.send_signal(number)
    assert shown.leave() == code
    assert b"\x1b[?1049l" in shown.shown  # back from the alternate screen
    assert b"\x1b[?25h" in shown.shown  # with a cursor
    assert b"\x1b[?1000l" in shown.shown  # without reports of the mouse
    after = termios.tcgetattr(shown.control)
    assert after[3] & termios.ECHO
    assert not before[3] & termios.ECHO


def test_no_control_byte_of_a_name_reaches_the_terminal(terminal, window):
    make_run(terminal.runs, name="evil\x1b]0;owned\x07\x9b31m\u202e")
    shown = window("watch")
    shown.until_shown("finished")
    for key in ("\x1b", "\r", "?", "\x1b", "q"):
        shown.press(key)
        shown.read(0.5)
        assert b"]0;owned" not in shown.shown.replace(b"\\x1b]0;owned", b"")
        assert b"\x07" not in shown.shown
        assert "\u202e".encode() not in shown.shown
