"""Runs and sweeps that wait for room on the disk are shown as that, as long as they do."""

from __future__ import annotations

import json

from engine.control import Desired
from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.catalog import Catalog
from proxprop_cli.dashboard.list_rows import list_row
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.sweep_status import SweepFollower
from tests.dashboard.runs_helper import in_app, make_run, resize, screen_text, until
from tests.dashboard.sweep_helper import Made, make_sweep
from tests.reliability.report import MORE, promise

SIZES = [(60, 20), (200, 60)]

shows = promise(
    MORE, "a run or a sweep waits for room", "the dashboard and the lists say so until it goes on"
)


def shown(pilot):
    return screen_text(pilot.app)


@shows
def test_the_live_screen_of_a_run(tmp_path):
    run = make_run(tmp_path, status="running", epochs=50)

    async def script(pilot):
        await until(pilot, lambda: "● running" in shown(pilot))
        run.set_waiting(True)
        for size in SIZES:
            await resize(pilot, *size)
            await until(pilot, lambda: "◐ waiting for room" in shown(pilot))
            assert "● running" not in shown(pilot)
            await until(pilot, lambda: "goes on by itself when there is" in shown(pilot))
        run.set_desired(Desired.STOPPED)
        await until(pilot, lambda: pilot.app.screen.views[0].wanted == "stopping")
        run.set_desired(Desired.RUNNING)
        run.set_waiting(False)
        await until(pilot, lambda: "● running" in shown(pilot))
        await until(pilot, lambda: "room" not in shown(pilot))

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script, SIZES[0])


@shows
def test_several_runs(tmp_path):
    runs = [make_run(tmp_path, status="running", epochs=50) for _ in range(2)]

    async def script(pilot):
        await until(pilot, lambda: "2 running" in shown(pilot))
        runs[0].set_waiting(True)
        await until(pilot, lambda: "1 running, 1 waiting for room" in shown(pilot))

    with RunLock(runs[0].lock_file), RunLock(runs[1].lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script)


@shows
def test_the_list(tmp_path):
    run = make_run(tmp_path, status="running")
    catalog = Catalog(Runs(tmp_path))

    def entry():
        (found,) = catalog.entries()
        return found

    with RunLock(run.lock_file):
        run.set_waiting(True)
        assert "◐ waiting for room" in list_row(entry(), selected=False).cells
        assert "waiting for room" in entry().text
        run.set_waiting(False)
        assert "● running" in list_row(entry(), selected=False).cells
        run.set_waiting(True)
    assert "! interrupted" in list_row(entry(), selected=False).cells


@shows
def test_the_grid(tmp_path):
    states = [Made(), Made(), Made("running", epoch=10), Made(None)]
    grid = [
        ("exact", tau, 0, made) for tau, made in zip((1, 0.1, 0.01, 0.001), states, strict=True)
    ]
    sweep = make_sweep(tmp_path, grid)
    folder, run = Run(tmp_path / sweep.id), Run(tmp_path / "sweep-2")

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, GridScreen))
        await until(pilot, lambda: "● running" in shown(pilot))
        await pilot.press("right", "right")
        run.set_waiting(True)  # one of its runs does
        for size in SIZES:
            await resize(pilot, *size)
            await until(pilot, lambda: "◐ waiting for room  2/4 runs" in shown(pilot))
            assert "tau 0.01 · tau_theta 0.05 · waiting for room" in shown(pilot)
            assert shown(pilot).count("◐") >= 2  # in its cell and above it all
        run.set_waiting(False)
        await until(pilot, lambda: "● running  2/4 runs" in shown(pilot))
        folder.set_waiting(True)  # there is none for the next one
        await until(pilot, lambda: "◐ waiting for room  2/4 runs" in shown(pilot))
        folder.set_desired(Desired.PAUSED)
        await until(pilot, lambda: "(pausing …)" in shown(pilot))

    folder.set_desired(Desired.RUNNING)
    with RunLock(folder.lock_file), RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script, SIZES[0])


@shows
def test_a_sweep_in_words(tmp_path):
    sweep = make_sweep(tmp_path, [("exact", 1.0, 0, Made()), ("exact", 0.1, 0, Made(None))])
    folder, catalog = Run(tmp_path / sweep.id), Catalog(Runs(tmp_path))
    follower = SweepFollower(tmp_path, sweep.id)

    def words():
        listed = {entry.id: entry.word for entry in catalog.entries()}
        return {follower.look()[1].said, listed[sweep.id]}

    folder.set_waiting(True)
    assert words() == {"interrupted"}
    with RunLock(folder.lock_file):
        assert words() == {"waiting for room"}
        folder.set_desired(Desired.PAUSED)
        assert words() == {"paused"}
        folder.set_desired(Desired.RUNNING)
        folder.set_waiting(False)
        assert words() == {"running"}


@shows
def test_lists_of_the_command_line(cli, tmp_path):
    root = tmp_path / "runs"
    sweep = make_sweep(root, [("exact", 1.0, 0, Made("running", epoch=3))])
    folder, run = Run(root / sweep.id), Run(root / "sweep-0")

    def told(what):
        (found,) = json.loads(cli("runs", what, "--json").out)[
            {"list": "runs", "sweeps": "sweeps"}[what]
        ]
        assert found["status"] == "running"
        return found["waiting_for_room"], "waiting for room" in cli("runs", what).out

    with RunLock(folder.lock_file), RunLock(run.lock_file):
        assert told("list") == told("sweeps") == (False, False)
        run.set_waiting(True)
        assert told("list") == told("sweeps") == (True, True)
        run.set_waiting(False)
        folder.set_waiting(True)
        assert told("list") == (False, False)
        assert told("sweeps") == (True, True)
