"""The dashboard in a real pseudo-terminal, with a real training."""

from __future__ import annotations

import signal
import termios

import pytest

from engine.runs import Runs
from tests.cli.terminal import SMALL
from tests.dashboard.runs_helper import make_run
from tests.dashboard.sweep_helper import make_comparison


def test_train_pause_resume_detach_watch_and_stop(terminal, window):
    first = window("train", *SMALL, "--epochs", "100000", "--method", "cg3")
    first.until_shown("running")
    (run,) = Runs(terminal.runs).all()
    first.until_shown("4 CG")
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
    for key, texts in (
        ("", ("finished",)),
        ("\x1b", ("Delete", "now")),  # its age, which only the list has
        ("\r", ("Loss",)),
        ("?", ("scroll",)),
    ):
        shown.press(key)
        for text in texts:
            shown.until_shown(text)
        check_control_bytes(shown.shown)
    shown.process.send_signal(signal.SIGTERM)
    assert shown.leave() == 143
    check_control_bytes(shown.shown)


def check_control_bytes(shown):
    assert b"]0;owned" not in shown.replace(b"\\x1b]0;owned", b"")
    # Textual's own, for the shape of the mouse
    assert b"\x07" not in shown.replace(b"\x1b]22;default\x07", b"")
    assert "\u202e".encode() not in shown


def test_the_beginning_of_an_id_opens_a_comparison(terminal, window):
    make_comparison(terminal.runs, ("exact", "cg3"))
    shown = window("watch", "comparison")
    shown.until_shown("exact (n=3)")
    shown.until_shown("6/6 runs")
    shown.press("q")
    assert shown.leave() == 0
