"""The process that measures a run."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from engine.runs import Runs
from tests.dashboard.diagnosis_helper import is_measured, measurable, opened
from tests.dashboard.runs_helper import until

pytestmark = pytest.mark.system


def test_ending_the_dashboard_ends_a_process_that_will_not(tmp_path, monkeypatch):
    pid = tmp_path / "pid"
    code = tmp_path / "child.py"
    code.write_text(
        "import os, pathlib, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(pid)!r} + '-').write_text(str(os.getpid()))\n"
        f"os.rename({str(pid)!r} + '-', {str(pid)!r})\ntime.sleep(600)"
    )
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {code} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr("proxprop_cli.dashboard.screens.diagnosis._GRACE_SECONDS", 0.2)

    async def script(pilot, screen):
        await until(pilot, pid.exists)
        pilot.app.exit()
        await asyncio.sleep(0)

    opened(measurable(tmp_path / "runs"), script)
    assert not is_alive(int(pid.read_text()))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]


def test_a_real_measurement(cli, tmp_path):
    settings = ["--set", "model.hidden=[8]", "--set", "data.train_samples=100", "--epochs", "1"]
    assert cli("train", "--plain", *settings).code == 0
    run = Runs(tmp_path / "runs").find("latest")

    async def script(pilot, screen):
        await until(pilot, lambda: is_measured(screen), 120)

    opened(run, script)
    assert stat.S_IMODE((run.path / "diagnosis.json").stat().st_mode) == 0o600
