"""What each screen looks like, at two sizes or more."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from functools import partial

import pytest

from engine.control import Desired
from engine.diagnosis.kept import keep
from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from engine.sweeps import load_sweep, save_sweep
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.sweep_status import SweepFollower
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.diagnosis_helper import DIAGNOSIS, opened
from tests.dashboard.looks.pictures import ALL, LARGE, SMALL, a_run, compare
from tests.dashboard.runs_helper import in_app, live_screen, make_run, until
from tests.dashboard.sweep_helper import NOON, make_comparison

SWEEP = "sweep-abcdefghij"


def test_live_and_its_help(tmp_path):
    run = a_run(tmp_path)

    async def script(pilot):
        await live_screen(pilot)
        await compare(pilot, "live", ALL)
        await pilot.press("question_mark")
        await compare(pilot, "help", LARGE)

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, ALL[0])


def test_diverged(tmp_path):
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
        await live_screen(pilot)
        await compare(pilot, "diverged", LARGE)

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, LARGE[0])


@pytest.mark.parametrize(("name", "no_color"), [("overlay", ""), ("overlay-plain", "1")])
def test_overlay_with_and_without_colour(tmp_path, name, no_color, monkeypatch):
    monkeypatch.setenv("NO_COLOR", no_color)
    runs = [
        a_run(tmp_path, method, id=f"run-{method}", steps=steps, traces=(), scale=scale)
        for method, steps, scale in (
            ("backprop", 20, (0.985, 1.1)),
            ("exact", 30, (0.98, 1.0)),
            ("cg3", 50, (0.977, 0.97)),
        )
    ]

    async def script(pilot):
        await live_screen(pilot)
        await compare(pilot, name, LARGE)

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script, LARGE[0])


@pytest.fixture
def root(tmp_path, large_sweep):
    """A copy to be changed."""
    return shutil.copytree(large_sweep, tmp_path / "runs")


def test_run_list(root, monkeypatch):
    save_sweep(root, replace(load_sweep(root, SWEEP), created=NOON - 4000))
    for number, status in enumerate(("finished", "stopped", "diverged", "paused")):
        a_run(root, id=f"run{number}", status=status, name=f"trial {number}")
    monkeypatch.setattr("proxprop_cli.dashboard.list_rows.time.time", lambda: NOON + 300)

    async def script(pilot):
        await until(pilot, lambda: pilot.app.screen.query("#runs"))
        table = pilot.app.screen.query_one("#runs", Table)
        await until(pilot, lambda: table.key is not None)
        await pilot.press("space")
        await compare(pilot, "runs", LARGE)

    in_app(Dashboard(Runs(root)), script, LARGE[0])


@pytest.fixture
def _five_past(monkeypatch):
    follower = partial(SweepFollower, clock=lambda: NOON + 300)
    monkeypatch.setattr("proxprop_cli.dashboard.screens.sweep_base.SweepFollower", follower)


@pytest.mark.usefixtures("_five_past")
def test_grid(root):
    Run(root / SWEEP).set_desired(Desired.RUNNING)
    os.utime(root / SWEEP / "desired.json", (NOON, NOON))

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "status", None))
        await pilot.press("down", "down", "right", "right")
        await compare(pilot, "grid", [(80, 24), (200, 60)])

    with RunLock(root / SWEEP / "lock"):
        in_app(Dashboard(Runs(root), sweep=SWEEP), script, (80, 24))


@pytest.mark.usefixtures("_five_past")
def test_grid_that_nobody_trains(root):
    Run(root / SWEEP).set_desired(Desired.STOPPED)

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "status", None))
        await compare(pilot, "grid-stopped", SMALL)

    in_app(Dashboard(Runs(root), sweep=SWEEP), script, SMALL[0])


@pytest.mark.usefixtures("_five_past")
def test_comparison_of_means_and_of_single_runs(tmp_path):
    sweep = make_comparison(tmp_path, ("backprop", "exact", "cg3 tau_theta=0.05"), made=2)
    for file in tmp_path.glob("*/run.db"):
        os.utime(file, (NOON, NOON + 60))
    for file in tmp_path.glob("*/desired.json"):
        os.utime(file, (NOON, NOON))

    async def script(pilot):
        await until(pilot, lambda: len(getattr(pilot.app.screen, "views", ())) == 6)
        await live_screen(pilot)
        await compare(pilot, "comparison", LARGE)
        await pilot.press("b")
        await compare(pilot, "comparison-single", LARGE[::-1])

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script, LARGE[0])


def test_diagnosis(tmp_path):
    run = make_run(tmp_path, id="abcd2345")
    keep(run, DIAGNOSIS)

    async def script(pilot, screen):
        await compare(pilot, "diagnosis", [(60, 14), (80, 24)])

    opened(run, script, (60, 14))
