"""Real processes: paused, stopped, interrupted and detached. tests/reliability kills them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from contextlib import suppress
from types import SimpleNamespace

import pytest

from engine import filesystems
from engine.runs import Runs
from engine.store_reader import StoreReader
from proxprop_cli.sitting import signals
from tests.cli.terminal import SMALL, end
from tests.dashboard.runs_helper import make_run
from tests.reliability.trainings import until

LONG = [*SMALL, "--epochs", "100000", "--set", "log.checkpoint_epochs=1"]


def test_pause_resume_and_stop_from_another_process(terminal):
    process = terminal.start("train", *LONG, "--plain")
    run = terminal.wait_for_steps()
    paused = terminal("pause", run, "--json")
    assert paused.json == {"run": run, "status": "paused"}
    with StoreReader(Runs(terminal.runs).find(run).database) as reader:
        step = reader.state()["step"]
        assert terminal("runs", "list", "--json").json["runs"][0]["status"] == "paused"
        assert terminal("runs", "delete", run, "--yes").code == 5
        assert reader.state()["step"] == step
        assert terminal("resume", run).code == 0
        terminal.wait_for_steps(step + 5)
        held = {event.kind: event.step for event in reader.events() if "aused" in event.kind}
        assert held == {"Paused": step, "Unpaused": step}
    assert terminal("stop", run, "--json").json["status"] == "stopped"
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"paused after step {step:,}\n" in out
    assert "stopped (asked to stop)" in out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_hangup_is_ignored_and_an_interrupt_keeps_the_state(terminal, number, code):
    process = terminal.start("train", *LONG, "--plain")
    run = terminal.wait_for_steps()
    process.send_signal(signal.SIGHUP)
    step = terminal("runs", "show", run, "--json").json["steps"]
    terminal.wait_for_steps(step + 20)
    answer = end(process, number)
    assert answer.code == code
    summary = terminal("runs", "show", run, "--json").json
    assert summary["status"] == "stopped"
    assert summary["reason"] == number.name
    assert summary["checkpoints"][0] == summary["steps"]
    assert "Traceback" not in answer.err


def test_a_deleted_lock_lets_nobody_else_in(terminal):
    process = terminal.start("train", *LONG, "--plain")
    run = Runs(terminal.runs).find(terminal.wait_for_steps())
    run.lock_file.unlink()
    refused = terminal("runs", "delete", run.id, "--yes")
    assert refused.code == 5, refused.err
    assert run.is_live()
    assert terminal("resume", run.id).out.startswith(f"run {run.id} is running already")
    assert terminal("stop", run.id, "--json").json["status"] == "stopped"
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_run_on_a_network_file_system_is_not_trained(cli, monkeypatch, tmp_path):
    run = make_run(tmp_path / "runs")
    monkeypatch.setattr(filesystems, "filesystem", lambda path: "nfs4")
    before = run.database.read_bytes()
    answer = cli("resume", run.id, "--epochs", "20")
    assert answer.code == 6
    assert "network file system (nfs4)" in answer.err
    assert run.database.read_bytes() == before
    assert cli("runs", "show", run.id).code == 0


def test_a_paused_run_without_a_process_is_stopped(cli, tmp_path):
    run = make_run(tmp_path / "runs", status="paused")
    assert cli("runs", "list", "--json").json["runs"][0]["status"] == "paused"
    assert cli("stop", run.id, "--json").json["status"] == "stopped"
    assert run.status() == "stopped"


def test_detached_training_continues_by_itself(terminal):
    def until_finished(run, steps):
        log = terminal.runs / run / "train.log"
        until(lambda: f"finished after {steps} steps" in log.read_text())
        until(lambda: not Runs(terminal.runs).find(run).is_live())

    started = terminal("train", *SMALL, "--epochs", "3", "--detach", "--json")
    assert started.code == 0
    run = started.json["run"]
    until_finished(run, 18)
    resumed = terminal("resume", run, "--epochs", "4", "--detach", "--json")
    assert (resumed.code, resumed.json["run"]) == (0, run)
    until_finished(run, 24)


def test_a_second_interrupt_leaves_without_waiting(monkeypatch):
    codes, reasons = [], []
    monkeypatch.setattr(os, "_exit", codes.append)
    with signals(SimpleNamespace(request_stop=reasons.append)):
        signal.raise_signal(signal.SIGINT)
        assert (reasons, codes) == (["SIGINT"], [])
        signal.raise_signal(signal.SIGINT)
    assert (reasons, codes) == (["SIGINT", "SIGINT"], [130])


def test_an_impatient_person_leaves_in_the_middle_of_a_step(terminal):
    slow = ["--set", "model.hidden=[2000,2000,2000]", "--batch-size", "1000", "--device", "cpu"]
    process = terminal.start("train", *slow, "--epochs", "1000", "--plain")
    run = terminal.wait_for_steps(1)
    # one that comes while another waits for the interpreter is lost, so more than two; a step and
    # the checkpoint of this network take far longer than all of them
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    assert process.returncode == 130
    process.communicate()
    assert terminal("runs", "show", run, "--json").json["status"] == "interrupted"


@pytest.fixture
def device():
    """A pseudo-terminal of 80 columns: its two sides."""
    control, device = pty.openpty()
    fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield control, device
    os.close(control)


def read_to_end(control):
    shown = b""
    with suppress(OSError):  # the other side has closed
        while chunk := os.read(control, 65536):
            shown += chunk
    return shown


def test_plain_in_a_terminal_is_lines_that_fit(terminal, device):
    control, other = device
    process = terminal.start(
        *("train", *SMALL, "--epochs", "4", "--name", "x\x1b[31m", "--plain"),
        env={**terminal.environment, "TERM": "xterm-256color"},
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    text = read_to_end(control).decode()
    assert process.wait(timeout=60) == 0
    assert "\x1b" not in text
    lines = [line for line in re.split(r"[\r\n]+", text) if line.startswith("epoch ")]
    assert len(lines) == 5
    assert all("%" in line and len(line) < 80 for line in lines)


def test_output_to_a_file_is_lines_although_errors_go_to_a_terminal(terminal, device, tmp_path):
    _, other = device
    target = tmp_path / "log"
    with target.open("wb") as stream:
        process = terminal.start(
            *("train", *SMALL, "--epochs", "2"),
            env={**terminal.environment, "TERM": "xterm-256color"},
            stdout=stream,
            stderr=other,
        )
        assert process.wait(timeout=60) == 0
    os.close(other)
    lines = target.read_text().splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 3
    assert "\x1b" not in target.read_text()
