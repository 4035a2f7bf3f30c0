"""What the screens look like, character by character, at four sizes.

After a change that is meant, write the pictures anew and look at the difference:
``UPDATE_SCREENS=1 pytest tests/dashboard/test_looks.py``.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from engine.control import Desired
from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.comparison import ComparisonScreen
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.sweep_status import SweepFollower
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, make_run, trace, until
from tests.dashboard.sweep_helper import NOON, a_grid, make_comparison, make_sweep

SCREENS = Path(__file__).parent / "screens"
SIZES = [(60, 20), (80, 24), (120, 40), (200, 60)]


@pytest.fixture(autouse=True)
def _fixed_clock(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def look(app):
    """All characters on the screen."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    text = "\n".join(strip.text.rstrip() for strip in lines)
    assert len(lines) == height
    assert all(strip.cell_length <= width for strip in lines)
    return text + "\n"


def compare(text, name):
    path = SCREENS / f"{name}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def clock():
    return NOON


def ids(size):
    return f"{size[0]}x{size[1]}"


def a_run(root, method="cg3", id="abcd2345", **options):
    traces = [
        trace(30, "1", size=500, form="dual"),
        trace(30, "3", size=500, form="dual", true_residual=3.4e-5, descent_cosine=0.31),
        trace(30, "5", iterations=2, size=1001, form="primal", stop_reason="converged"),
    ]
    given = {"traces": traces, "steps": 30, "epochs": 3} | options
    return make_run(root, method, id=id, clock=clock, preset="cifar-mlp", **given)


@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_live(tmp_path, size):
    run = a_run(tmp_path)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await until(pilot, lambda: pilot.app.screen.views and pilot.app.screen.views[0].series)
        await pilot.pause()
        compare(look(pilot.app), f"live-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_diverged(tmp_path, size):
    values = {"batch_loss": [2.3, 2.9, 14.0, 8e3, 4e9, float("nan")]}
    run = a_run(
        tmp_path,
        "backprop",
        steps=6,
        traces=(),
        values=values,
        status="diverged",
        diverged=(6, "loss is NaN"),
    )

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await until(pilot, lambda: pilot.app.screen.views and pilot.app.screen.views[0].series)
        await pilot.pause()
        compare(look(pilot.app), f"diverged-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_overlay(tmp_path, size):
    runs = [
        a_run(tmp_path, method, id=f"run-{method}", steps=20 + 10 * n, traces=())
        for n, method in enumerate(("backprop", "exact", "cg3"))
    ]

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        screen = pilot.app.screen
        await until(pilot, lambda: screen.views and all(v.series for v in screen.views))
        await pilot.pause()
        compare(look(pilot.app), f"overlay-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script, size)


@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_run_list(tmp_path, size, monkeypatch):
    for number, status in enumerate(("finished", "stopped", "diverged", "paused")):
        a_run(tmp_path, id=f"run{number}", status=status, name=f"trial {number}")
    make_sweep(tmp_path, a_grid(), id="sweep-abcdefghij", created=NOON - 4000)
    monkeypatch.setattr("proxprop_cli.dashboard.list_rows.time.time", lambda: NOON + 300)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))
        table = pilot.app.screen.query_one("#runs", Table)
        await until(pilot, lambda: table.key is not None)
        await pilot.press("space")
        await pilot.pause()
        compare(look(pilot.app), f"runs-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path)), script, size)


@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_help(tmp_path, size):
    run = a_run(tmp_path)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await until(pilot, lambda: pilot.app.screen.views and pilot.app.screen.views[0].series)
        await pilot.press("question_mark")
        await pilot.pause()
        compare(look(pilot.app), f"help-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


def a_sweep(root):
    """A live one that has trained for five minutes."""
    longer = {"cg1": "cg1 tau_theta=0.05", "cg3": "cg3 tau_theta=0.05"}
    cells = [(longer.get(row, row), *rest) for row, *rest in a_grid()]
    sweep = make_sweep(root, cells, id="sweep-abcdefghij", created=NOON)
    for file in root.glob("*/*"):
        if file.name in ("lock", "run.db"):
            os.utime(file, (NOON, NOON + 1 + 200 * (file.name == "run.db")))
    Run(root / sweep.id).set_desired(Desired.RUNNING)
    os.utime(root / sweep.id / "desired.json", (NOON, NOON))
    return sweep


@pytest.fixture
def _five_past(monkeypatch):
    follower = partial(SweepFollower, clock=lambda: NOON + 300)
    monkeypatch.setattr("proxprop_cli.dashboard.screens.sweep_base.SweepFollower", follower)


@pytest.mark.usefixtures("_five_past")
@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_grid(tmp_path, size):
    sweep = a_sweep(tmp_path)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, GridScreen))
        await until(pilot, lambda: pilot.app.screen.status is not None)
        await pilot.press("down", "down", "right", "right")
        await pilot.pause(0.3)
        compare(look(pilot.app), f"grid-{ids(size)}")

    with RunLock(tmp_path / sweep.id / "lock"):
        in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script, size)


@pytest.mark.usefixtures("_five_past")
@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_grid_that_nobody_trains(tmp_path, size):
    sweep = a_sweep(tmp_path)
    Run(tmp_path / sweep.id).set_desired(Desired.STOPPED)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, GridScreen))
        await until(pilot, lambda: pilot.app.screen.status is not None)
        await pilot.pause(0.3)
        compare(look(pilot.app), f"grid-stopped-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script, size)


@pytest.mark.usefixtures("_five_past")
@pytest.mark.parametrize("size", SIZES, ids=ids)
@pytest.mark.parametrize("key", ["", "b"])
def test_comparison(tmp_path, size, key):
    sweep = make_comparison(tmp_path, ("backprop", "exact", "cg3 tau_theta=0.05"), made=2)
    for file in tmp_path.glob("*/run.db"):
        os.utime(file, (NOON, NOON + 60))
    for file in tmp_path.glob("*/desired.json"):
        os.utime(file, (NOON, NOON))

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, ComparisonScreen))
        screen = pilot.app.screen
        await until(pilot, lambda: len(screen.views) == 6 and all(v.series for v in screen.views))
        await pilot.press(*key)
        await pilot.pause(0.3)
        compare(look(pilot.app), f"comparison-{'single-' if key else ''}{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script, size)


@pytest.mark.parametrize("size", SIZES, ids=ids)
def test_overlay_without_colour(tmp_path, size, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    runs = [
        a_run(tmp_path, method, id=f"run-{method}", steps=20 + 10 * n, traces=())
        for n, method in enumerate(("backprop", "exact", "cg3"))
    ]

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        screen = pilot.app.screen
        await until(pilot, lambda: screen.views and all(v.series for v in screen.views))
        await pilot.pause()
        compare(look(pilot.app), f"overlay-plain-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script, size)
