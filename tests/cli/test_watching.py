"""What opens the dashboard: what it is given, and where there is none."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from engine.runs import Runs
from proxprop_cli import sitting, watching
from proxprop_cli.output import Output
from tests.cli.terminal import SMALL
from tests.dashboard.runs_helper import make_run
from tests.dashboard.sweep_helper import make_comparison

POSIX = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class Ended:
    """A trainer that is at its end."""

    returncode = 0

    def poll(self):
        return self.returncode


@pytest.fixture
def opened(monkeypatch):
    """Folders of data sets that dashboards were opened with."""
    found = []
    monkeypatch.setattr(Output, "terminal", lambda self: True)
    monkeypatch.setattr(Output, "has_keyboard", lambda self: True)
    monkeypatch.setattr("proxprop_cli.output.encoding", lambda: "utf-8")
    monkeypatch.setattr(sitting, "spawn", lambda *_: (Ended(), Path("train.log")))

    def open_dashboard(runs, shown, data_dir, *, sweep=None):
        found.append(data_dir)
        return 0

    monkeypatch.setattr(watching, "open_dashboard", open_dashboard)
    return found


def test_the_folder_of_data_sets_reaches_the_dashboard(cli, tmp_path, opened):
    sets = tmp_path / "sets"
    make_run(tmp_path / "runs", id="abcd2345")
    make_run(tmp_path / "runs", id="efgh2345", status="stopped", epochs=9)
    sweep = make_comparison(tmp_path / "runs", ("exact",), 1)
    for command in (
        ["watch", "abcd2345"],
        ["watch", sweep.id],
        ["watch", "--list"],
        ["resume", "efgh2345"],
        ["resume", sweep.id],
        ["train", *SMALL],
    ):
        answer = cli(*command, "--data-dir", str(sets))
        assert answer.code == 0, answer
    assert opened == [sets] * 6


def in_posix_locale(terminal, *arguments):
    """Exit code of a command and what it said, on a terminal without UTF-8."""
    control, device = pty.openpty()
    environment = {**terminal.environment, **POSIX, "TERM": "xterm-256color"}
    process = terminal.start(
        *arguments,
        env=environment,
        stdin=device,
        stdout=device,
        stderr=device,
        start_new_session=True,
    )
    os.close(device)
    said = b""
    try:
        while part := os.read(control, 65536):
            said += part
    except OSError:  # the other side has closed
        pass
    finally:
        os.close(control)
    return process.wait(60), said.decode()


def test_no_dashboard_without_utf8(cold_terminal):
    make_run(cold_terminal.runs)
    code, said = in_posix_locale(cold_terminal, "watch")
    assert code == 2
    assert "set LANG to a UTF-8 locale, such as C.UTF-8" in said
    assert "\x1b" not in said
    code, said = in_posix_locale(cold_terminal, "train", *SMALL, "--epochs", "1")
    assert code == 0
    assert "\\u28" not in said  # no Braille
    assert "finished after 6 steps" in said
    assert Runs(cold_terminal.runs).find("latest").status() == "finished"
