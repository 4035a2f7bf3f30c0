"""Questions, leaving before anything is known, and going through the panes."""

from __future__ import annotations

import threading

import pytest
from textual.events import Key

from engine.locks import RunLock
from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.feed import Feed
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.sweep_status import SweepFollower
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.autoencoder_helper import make_autoencoder
from tests.dashboard.runs_helper import (
    has_left,
    in_app,
    live_screen,
    make_run,
    notices,
    resize,
    screen_text,
    trace,
    until,
)
from tests.dashboard.sweep_helper import Made, make_sweep


@pytest.fixture
def slow_disk(monkeypatch):
    """Nothing is read before this is set."""
    go = threading.Event()
    for source, name in ((Feed, "poll"), (SweepFollower, "look")):
        quick = getattr(source, name)

        def wait(*arguments, quick=quick):
            assert go.wait(60)
            return quick(*arguments)

        monkeypatch.setattr(source, name, wait)
    yield go
    go.set()


@pytest.mark.parametrize("status", ["running", "finished"])
def test_quit_before_the_run_was_read(tmp_path, slow_disk, status):
    run = make_run(tmp_path, status=status)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await pilot.press("q")
        assert not has_left(pilot.app)
        slow_disk.set()
        await until(pilot, lambda: has_left(pilot.app) or isinstance(pilot.app.screen, Choice))
        assert has_left(pilot.app) is (status == "finished")

    if status == "running":
        with RunLock(run.lock_file):
            in_app(Dashboard(Runs(tmp_path), [run.id]), script)
    else:
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)


@pytest.mark.parametrize("live", [True, False])
def test_quit_before_the_sweep_was_read(tmp_path, slow_disk, live):
    sweep = make_sweep(tmp_path, [("exact", 1.0, 0, Made("running"))])

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, GridScreen))
        await pilot.press("q")
        assert not has_left(pilot.app)
        slow_disk.set()
        await until(pilot, lambda: has_left(pilot.app) or isinstance(pilot.app.screen, Choice))
        assert has_left(pilot.app) is not live

    app = Dashboard(Runs(tmp_path), sweep=sweep.id)
    if live:
        with RunLock(tmp_path / sweep.id / "lock"):
            in_app(app, script)
    else:
        in_app(app, script)


def test_no_key_leaves_a_live_run_without_a_question(tmp_path):
    """Whatever is above the run."""
    run = make_autoencoder(tmp_path, status="running")

    async def script(pilot):
        below = await live_screen(pilot)
        for above in ("q", "question_mark", "c", "i", None):
            if above:
                await pilot.press(above)
                await until(pilot, lambda: pilot.app.screen is not below)
                await pilot.press("ctrl+q")
                await until(pilot, lambda: pilot.app.screen is below)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        assert not has_left(pilot.app)

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)


@pytest.mark.parametrize("what", ["run", "sweep"])
def test_who_asks_twice_leaves_at_once(tmp_path, slow_disk, what):
    run = make_run(tmp_path, status="running")
    sweep = make_sweep(tmp_path, [("exact", 1.0, 0, Made("running"))])

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen | GridScreen))
        await pilot.press("q", "q")
        await until(pilot, lambda: has_left(pilot.app))
        slow_disk.set()

    runs = Runs(tmp_path)
    in_app(Dashboard(runs, [run.id]) if what == "run" else Dashboard(runs, sweep=sweep.id), script)


async def asked(pilot, key):
    """The screen of a live run, below the question that this key asks."""
    below = await live_screen(pilot)
    await until(pilot, lambda: below.views[0].status == "running")
    await pilot.press(key)
    await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
    return below


async def burst(pilot, keys):
    """Keys that all reach the screen on top before it has looked at the first, as on a machine
    that is busy."""
    screen = pilot.app.screen
    for key in keys:
        screen.post_message(Key(key, key if len(key) == 1 else None))
    await pilot.pause()


def test_an_answer_that_comes_often_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        for ask, answer in (("e", "v"), ("e", "a"), ("s", "s")):
            for times in (2, 5):
                below = await asked(pilot, ask)
                await burst(pilot, [answer] * times)
                await until(pilot, lambda below=below: pilot.app.screen is below)
                await pilot.app.workers.wait_for_complete()
        assert not has_left(pilot.app)
        assert str(below.query_one("#loss", Chart).title)

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)
    assert len([*tmp_path.glob("*.csv")]) == 4


def test_a_run_is_deleted_once_and_the_list_stays(tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path, id=f"{name}bcdefgh")

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))
        below = pilot.app.screen
        await until(pilot, lambda: len(below.query_one("#runs", Table).keys) == 2)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await burst(pilot, "dd")
        await until(pilot, lambda: len(below.query_one("#runs", Table).keys) == 1)
        assert pilot.app.screen is below

    in_app(Dashboard(Runs(tmp_path)), script)


def test_a_question_below_the_palette_ends_once_that_is_closed(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        with RunLock(run.lock_file):
            below = await asked(pilot, "s")
            await pilot.press("ctrl+p")
            await until(pilot, lambda: not isinstance(pilot.app.screen, Choice))
        await until(pilot, lambda: not below.views[0].is_live)
        await pilot.press("escape")
        below.settle()  # as after its next look
        await until(pilot, lambda: pilot.app.screen is below)

    in_app(Dashboard(Runs(tmp_path), [run.id]), script)


@pytest.mark.parametrize("key", ["s", "q"])
def test_a_question_ends_with_what_it_is_about(tmp_path, key):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        with RunLock(run.lock_file):
            below = await asked(pilot, key)
        await until(pilot, lambda: pilot.app.screen is below)
        text = f"run {run.id} is not being trained any more"
        await until(pilot, lambda: text in notices(pilot.app))
        assert not has_left(pilot.app)

    in_app(Dashboard(Runs(tmp_path), [run.id]), script)


def test_a_question_is_shown_whole_and_as_it_is(tmp_path):
    question = "[bold]Delete[/bold] \x1b[31m " + " ".join(f"word{n}" for n in range(30)) + " last?"
    words = ["[bold]Delete[/bold]", "\\x1b[31m", "word0", "word29", "last?", "[red]delete[/red]"]

    async def script(pilot):
        pilot.app.push_screen(Choice(question, [("d", "[red]delete[/red]")]))
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        for width in (30, 60, 200):
            await resize(pilot, width, 24)
            await until(pilot, lambda: "cancel" in screen_text(pilot.app))
            assert "\x1b" not in screen_text(pilot.app)
            assert all(word in screen_text(pilot.app) for word in words)

    in_app(Dashboard(Runs(tmp_path)), script, (80, 24))


def test_tab_shows_one_pane_after_the_other(tmp_path):
    run = make_run(tmp_path, "cg3", traces=[trace(40)])
    order = ["loss", "accuracy", "layers", "solver", "log"]

    async def script(pilot):
        screen = await live_screen(pilot)
        sizes = {(60, 12): False, (80, 24): False, (60, 20): True}
        for size, enlarged in sizes.items():
            await resize(pilot, *size)
            if screen.has_class("enlarged") is not enlarged:
                await pilot.press("enter")
            for name in (*order[1:], "loss"):
                await pilot.press("tab")
                await until(pilot, lambda name=name: screen.focused.id == name)
                assert screen.focused.region.height >= 3
                assert screen.has_class("enlarged") is enlarged
        for name in reversed(order):
            await pilot.press("shift+tab")
            await until(pilot, lambda name=name: screen.focused.id == name)
            assert screen.focused.region.area

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, (60, 12))


def test_no_two_panes_of_an_overlay_show_the_same(tmp_path):
    runs = [make_run(tmp_path, scale=(fall, 1.0)) for fall in (0.98, 0.97)]

    async def script(pilot):
        screen = await live_screen(pilot)
        first, fourth = (screen.query_one(name, Chart) for name in ("#loss", "#solver"))
        for _ in range(3):
            await pilot.press("v")
            await until(pilot, lambda: first.lines)
            assert first.title[2:] != fourth.title[2:]
            assert first.lines[0].mean.tolist() != fourth.lines[0].mean.tolist()

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script)
