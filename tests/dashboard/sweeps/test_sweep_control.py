"""What a person sees of a sweep as a whole, and what the keys say to its trainer."""

from __future__ import annotations

import os
import time

import pytest

from engine.control import Desired
from engine.locks import RunLock
from engine.run import Run
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.comparison import ComparisonScreen
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.sweep_status import SweepFollower, covered
from tests.dashboard.runs_helper import has_left, in_app, screen_text, until
from tests.dashboard.sweep_helper import NOON, Made, make_comparison, make_sweep, set_created


def half_a_sweep(root, **options):
    """Four runs of one cell each: two at their end, one begun, one to be made."""
    states = [Made(), Made(), Made("running", epoch=10), Made(None)]
    cells = [("exact", 10.0 / 10**number, 0, made) for number, made in enumerate(states)]
    return make_sweep(root, cells, **options)


def sweeps(kind, root):
    """A sweep or a comparison that is not at its end, and the screen it opens."""
    if kind == "comparison":
        return make_comparison(root, ("exact", "cg3"), made=1), ComparisonScreen
    return half_a_sweep(root), GridScreen


async def opened(pilot, screen):
    await until(pilot, lambda: isinstance(pilot.app.screen, screen))
    await until(pilot, lambda: pilot.app.screen.status is not None)
    return pilot.app.screen


@pytest.mark.parametrize("kind", ["sweep", "comparison"])
def test_pause_resume_and_stop_are_said_to_the_sweep(tmp_path, kind):
    sweep, screen = sweeps(kind, tmp_path)
    folder = Run(tmp_path / sweep.id)

    async def script(pilot):
        shown = await opened(pilot, screen)
        assert shown.status.live
        await pilot.press("p")
        await until(pilot, lambda: folder.desired() is Desired.PAUSED)
        await until(pilot, lambda: not shown.status.runs_on)
        await pilot.press("p")
        await until(pilot, lambda: folder.desired() is Desired.RUNNING)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.press("escape")
        assert folder.desired() is Desired.RUNNING
        await pilot.press("s", "s")
        assert folder.request().desired is Desired.STOPPED
        assert folder.request().reason == "asked to stop"

    with RunLock(folder.lock_file):
        in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


@pytest.mark.parametrize("kind", ["sweep", "comparison"])
@pytest.mark.parametrize(("answer", "desired"), [("d", Desired.RUNNING), ("s", Desired.STOPPED)])
def test_quit_asks_what_becomes_of_a_live_sweep(tmp_path, kind, answer, desired):
    sweep, screen = sweeps(kind, tmp_path)
    folder = Run(tmp_path / sweep.id)

    async def script(pilot):
        shown = await opened(pilot, screen)
        await pilot.press("q", "c")
        assert not has_left(pilot.app)
        assert pilot.app.screen is shown
        await pilot.press("q")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        assert folder.desired() is Desired.RUNNING
        await pilot.press(answer)
        await until(pilot, lambda: has_left(pilot.app))
        assert folder.desired() is desired

    with RunLock(folder.lock_file):
        in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


@pytest.mark.parametrize("kind", ["sweep", "comparison"])
def test_what_nobody_trains_says_how_to_go_on_and_is_left_at_once(tmp_path, kind):
    sweep, screen = sweeps(kind, tmp_path)

    async def script(pilot):
        shown = await opened(pilot, screen)
        await pilot.press("p", "s")  # nothing to pause or stop
        assert pilot.app.screen is shown
        assert Run(tmp_path / sweep.id).request() is None
        told = f"'proxprop resume {sweep.id}' goes on"
        await until(pilot, lambda: told in screen_text(pilot.app))
        assert "! interrupted" in screen_text(pilot.app)
        await pilot.press("q")
        await until(pilot, lambda: has_left(pilot.app))

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


def test_one_that_is_about_to_start_is_not_left_without_a_question(tmp_path):
    sweep = half_a_sweep(tmp_path)
    Run(tmp_path / sweep.id).set_desired(Desired.RUNNING)

    async def script(pilot):
        shown = await opened(pilot, GridScreen)
        assert shown.status.word == "starting"
        await pilot.press("q")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


def look(root, sweep, now):
    return SweepFollower(root, sweep.id, clock=lambda: now).look()[1]


def test_words_for_every_state_of_a_sweep(tmp_path):
    sweep = half_a_sweep(tmp_path)
    folder = Run(tmp_path / sweep.id)
    now = time.time()
    assert look(tmp_path, sweep, now).word == "interrupted"
    folder.set_desired(Desired.RUNNING)
    assert look(tmp_path, sweep, now).word == "starting"
    assert not look(tmp_path, sweep, now).waits
    assert look(tmp_path, sweep, now + 100).word == "interrupted"
    with RunLock(folder.lock_file):
        status = look(tmp_path, sweep, now)
        assert (status.word, status.runs, status.cells) == ("running", (2, 4), (2, 4))
        folder.set_desired(Desired.PAUSED)
        assert look(tmp_path, sweep, now).word == "paused"
        with RunLock(tmp_path / "sweep-2" / "lock"):
            status = look(tmp_path, sweep, now)
            assert (status.word, status.wanted, status.runs_on) == ("running", "pausing", False)
        folder.set_desired(Desired.STOPPED)
        assert look(tmp_path, sweep, now).wanted == "stopping"
    assert look(tmp_path, sweep, now).word == "stopped"
    assert look(tmp_path, sweep, now).waits
    done = make_sweep(tmp_path, [("exact", 1.0, 0, Made())], id="done")
    assert look(tmp_path, done, now).word == "finished"
    assert not look(tmp_path, done, now).waits


def test_one_that_died_is_not_starting(tmp_path):
    sweep = half_a_sweep(tmp_path)
    folder = Run(tmp_path / sweep.id)
    follower = SweepFollower(tmp_path, sweep.id)
    folder.set_desired(Desired.RUNNING)
    with RunLock(folder.lock_file):
        assert follower.look()[1].word == "running"
    assert follower.look()[1].word == "interrupted"


def test_time_that_is_left_by_the_rate_of_this_sitting(tmp_path):
    sweep = half_a_sweep(tmp_path)
    folder = Run(tmp_path / sweep.id)
    folder.set_desired(Desired.RUNNING)
    os.utime(folder.request_file, (NOON, NOON))
    # one run of an earlier sitting, one of this one, and half of a third within 30 seconds
    for number, (made, written) in enumerate([(-1000, -900), (10, 30), (30, 40)]):
        run = Run(tmp_path / f"sweep-{number}")
        set_created(run, NOON + made)
        os.utime(run.database, (NOON, NOON + written))
    with RunLock(folder.lock_file), RunLock(tmp_path / "sweep-2" / "lock"):
        status = look(tmp_path, sweep, NOON + 40)
    assert status.word == "running"
    assert status.eta == 30  # 1.5 runs at 20 seconds each
    assert status.elapsed == 100 + 30  # what lies between the sittings does not count


def test_times_are_counted_once():
    assert covered([(0, 10), (5, 12), (20, 21), (6, 7)]) == 13
    assert covered([]) == 0
