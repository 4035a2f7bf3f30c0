"""The screen that measures a run on demand: its child process, and what it shows."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.diagnosis.kept import keep
from engine.diagnosis.results import Angle, BlockSpectrum, Diagnosis, Figures
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.diagnosis import DiagnosisScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.widgets.notice import Notice
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, make_run, notices, until
from tests.dashboard.test_looks import compare, ids, look

FIGURES = Figures(
    order=8320,
    rank=2005,
    largest=378.0,
    smallest=0.0,
    smallest_nonzero=0.0648,
    condition=5833.0,
    damped=19.9,
    beta=20.0,
    parts=128,
    part_conditions=(2.0, 600.0, 5833.0),
    quantiles=(0.0648, 0.1, 1.0, 3.0, 9.0, 60.0, 378.0),
    method="gram",
    error=1e-14,
    samples=32,
)
BOUNDS = replace(FIGURES, rank=None, method="lanczos", part_conditions=None, quantiles=())
ONE = replace(FIGURES, largest=1.0, smallest_nonzero=1.0, condition=1.0, damped=2.0)
DIAGNOSIS = Diagnosis(
    {"at": "latest", "step": 640, "method": "exact", "samples": 32, "data": "digits"},
    (
        BlockSpectrum("plain", 0, "1", "64 → 128, relu", "W", FIGURES),
        BlockSpectrum("plain", 0, "1", "64 → 128, relu", "z", BOUNDS),
        BlockSpectrum("plain", 0, "3", "128 → 10", "W", replace(FIGURES, condition=None)),
        BlockSpectrum("plain", 0, "3", "128 → 10", "z", ONE),
    ),
    (
        Angle("plain", 0, "1", 0.5, 0.0503, 20.0),
        Angle("plain", 0, "3", float("nan"), None, None),
    ),
)
SIZES = [(60, 14), (80, 24), (200, 60)]


def measurable(root, **options):
    """A run with something to measure."""
    run = make_run(root, **options)
    with StoreWriter(run.database) as writer:
        row = {"reason": "end", "epoch": 4, "best": True}
        writer.add_checkpoint(40, tensors_sha256="0" * 64, json_sha256="0" * 64, **row)
    return run


def opened(root, script, size=(100, 30), run=None, data_dir=None):
    """The screen on a run, opened by its key."""
    run = run or measurable(root)

    async def go(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await pilot.press("c")
        await until(pilot, lambda: isinstance(pilot.app.screen, DiagnosisScreen))
        await script(pilot, pilot.app.screen)

    in_app(Dashboard(Runs(root), [run.id], data_dir=data_dir), go, size)


def said(screen):
    return str(screen.query_one("#notice", Notice).render())


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Another program in the place of the measurement."""

    def put(code):
        script = tmp_path / "child.py"
        script.write_text(f"import sys, time, json, pathlib\n{code}\n")
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr("proxprop_cli.dashboard.screens.diagnosis.sys.executable", str(program))
        return tmp_path

    return put


@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_what_it_looks_like(tmp_path, size):
    run = make_run(tmp_path, id="abcd2345")
    keep(run, DIAGNOSIS)

    async def script(pilot, screen):
        await pilot.pause()
        compare(look(pilot.app), f"diagnosis-{ids(size)}")

    opened(tmp_path, script, size, run)


def test_measures_where_nothing_was_kept(tmp_path, child):
    root = tmp_path / "runs"
    child(
        f"pathlib.Path({str(tmp_path)!r}, 'arguments').write_text(json.dumps(sys.argv[1:]))\n"
        f"time.sleep(0.3)\nprint({json.dumps(DIAGNOSIS.document())!r})"
    )

    async def script(pilot, screen):
        assert said(screen).startswith("measuring …")
        table = screen.query_one("#spectra", Table)
        await until(pilot, lambda: len(table.keys) == 4)
        assert said(screen) == ""
        assert screen._begun is None

    run = measurable(root)
    opened(root, script, run=run)
    arguments = json.loads((tmp_path / "arguments").read_text())
    assert arguments[:4] == ["-m", "proxprop_cli", "diagnose", run.id]
    assert arguments[4:] == ["--checkpoint", "latest", "--json", "--dir", str(root.resolve())]


def test_the_folder_of_data_sets_is_handed_on(tmp_path, child, monkeypatch):
    monkeypatch.chdir(tmp_path)
    child(
        f"pathlib.Path({str(tmp_path)!r}, 'arguments').write_text(json.dumps(sys.argv[1:]))\n"
        f"print({json.dumps(DIAGNOSIS.document())!r})"
    )

    async def script(pilot, screen):
        await until(pilot, lambda: screen._begun is None)

    opened(tmp_path / "runs", script, data_dir=Path("sets"))
    arguments = json.loads((tmp_path / "arguments").read_text())
    assert arguments[-2:] == ["--data-dir", str(tmp_path / "sets")]


@pytest.mark.parametrize("size", [(60, 20), (80, 24)])
def test_without_a_checkpoint_the_start_can_be_measured(tmp_path, child, size):
    child(f"print({json.dumps(DIAGNOSIS.document())!r}) if 'initial' in sys.argv else sys.exit(4)")
    root = tmp_path / "runs"
    run = make_run(root, status="diverged", diverged=(30, "the loss is not finite"))

    async def script(pilot, screen):
        await until(pilot, lambda: said(screen) == "no checkpoint: i measures the initial weights")
        await pilot.pause()
        assert "i At start" in look(pilot.app).splitlines()[-1]
        await pilot.press("i")
        await until(pilot, lambda: len(screen.query_one("#spectra", Table).keys) == 4)
        assert said(screen) == ""

    opened(root, script, size, run)


def test_a_store_that_can_not_be_read_is_said(tmp_path, child):
    child(f"print({json.dumps(DIAGNOSIS.document())!r})")
    root = tmp_path / "runs"
    run = measurable(root)

    async def script(pilot, screen):
        await until(pilot, lambda: screen._begun is None)
        run.database.write_bytes(b"nonsense" * 2000)
        await pilot.press("r")
        await until(pilot, lambda: "can not be measured" in said(screen))

    opened(root, script, run=run)


@pytest.mark.parametrize("size", [(60, 20), (30, 12)])
def test_a_long_error_is_not_cut(tmp_path, child, size):
    words = [f"word{n}" for n in range(20)]
    child(f"sys.stderr.write({' '.join(words)!r}); sys.exit(3)")

    async def script(pilot, screen):
        await until(pilot, lambda: "word19" in said(screen))
        await pilot.pause()
        shown = look(pilot.app)
        assert all(word in shown for word in words)
        assert "Help" in shown.splitlines()[-1]

    opened(tmp_path / "runs", script, size)


def test_again_and_of_the_start(tmp_path, child):
    root = tmp_path / "runs"
    log = tmp_path / "log"
    child(
        f"open({str(log)!r}, 'a').write(sys.argv[6] + chr(10))\n"
        f"print({json.dumps(DIAGNOSIS.document())!r})"
    )
    run = measurable(root)
    keep(run, DIAGNOSIS)

    async def script(pilot, screen):
        await pilot.pause(0.2)
        assert not log.exists()  # what was kept is shown as it is
        for key in "ri":
            await pilot.press(key)
            await until(pilot, lambda: screen._begun is None)

    opened(root, script, run=run)
    assert log.read_text().split() == ["latest", "initial"]


def test_leaving_ends_the_child(tmp_path, child):
    pid = tmp_path / "pid"
    child(
        f"import os\npathlib.Path({str(pid)!r} + '-').write_text(str(os.getpid()))\n"
        f"os.rename({str(pid)!r} + '-', {str(pid)!r})\ntime.sleep(600)"
    )

    async def script(pilot, screen):
        await until(pilot, pid.exists)
        await pilot.press("r")  # does not begin another
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await until(pilot, lambda: not is_alive(int(pid.read_text())))

    opened(tmp_path / "runs", script)


def test_ending_the_dashboard_ends_a_child_that_will_not(tmp_path, child, monkeypatch):
    monkeypatch.setattr("proxprop_cli.dashboard.screens.diagnosis._GRACE_SECONDS", 0.2)
    pid = tmp_path / "pid"
    child(
        "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(pid)!r} + '-').write_text(str(os.getpid()))\n"
        f"os.rename({str(pid)!r} + '-', {str(pid)!r})\ntime.sleep(600)"
    )

    async def script(pilot, screen):
        await until(pilot, pid.exists)
        pilot.app.exit()
        await asyncio.sleep(0)

    opened(tmp_path / "runs", script)
    assert not is_alive(int(pid.read_text()))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sys.stderr.write('x\\nproxprop: no data \\x1b[31m\\n\\n'); sys.exit(3)", "no data"),
        ("sys.exit(9)", "ended with code 9"),
        ("print('nonsense')", "Expecting value"),
        ("print('{}')", "not a diagnosis"),
    ],
)
def test_what_goes_wrong_is_said(tmp_path, child, code, words):
    child(code)

    async def script(pilot, screen):
        await until(pilot, lambda: words in said(screen))
        assert "\x1b" not in said(screen)

    opened(tmp_path / "runs", script)


def test_a_program_that_can_not_be_started(tmp_path, monkeypatch):
    monkeypatch.setattr("proxprop_cli.dashboard.screens.diagnosis.sys.executable", "/no/such")

    async def script(pilot, screen):
        await until(pilot, lambda: "can not be measured" in said(screen))
        assert screen._begun is None

    opened(tmp_path, script)


def test_a_damaged_file_is_said_and_measured_anew(tmp_path, child):
    child(f"print({json.dumps(DIAGNOSIS.document())!r})")
    root = tmp_path / "runs"
    run = measurable(root)
    (run.path / "diagnosis.json").write_text("{")

    async def script(pilot, screen):
        await until(pilot, lambda: len(screen.query_one("#spectra", Table).keys) == 4)

    opened(root, script, run=run)


def test_several_runs_are_not_measured(tmp_path):
    runs = [make_run(tmp_path) for _ in range(2)]

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await until(pilot, lambda: pilot.app.screen.are_known)
        await pilot.press("c")
        await until(pilot, lambda: notices(pilot.app) == ["conditioning: one run at a time"])
        assert isinstance(pilot.app.screen, LiveScreen)

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script)


@pytest.mark.slow
def test_a_real_measurement(cli, tmp_path):
    settings = ["--set", "model.hidden=[8]", "--set", "data.train_samples=100", "--epochs", "1"]
    assert cli("train", "--plain", *settings).code == 0
    root = tmp_path / "runs"
    run = Runs(root).find("latest")

    async def script(pilot, screen):
        table = screen.query_one("#spectra", Table)
        await until(pilot, lambda: len(table.keys) == 4, 120)

    opened(root, script, run=run)
    assert stat.S_IMODE((run.path / "diagnosis.json").stat().st_mode) == 0o600
