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
from tests.dashboard.runs_helper import in_app, make_run, notices, trace, until
from tests.dashboard.sweep_helper import a_grid, make_sweep
from tests.dashboard.test_reconstructions import make_autoencoder


@pytest.fixture
def slow_disk(monkeypatch):
    """Nothing is read before this is set."""
    go = threading.Event()
    for source, name in ((Feed, "poll"), (SweepFollower, "look")):
        quick = getattr(source, name)

        def wait(*arguments, quick=quick):
            assert go.wait(20)
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
        await pilot.pause(0.1)
        assert not pilot.app._exit
        slow_disk.set()
        await until(pilot, lambda: pilot.app._exit or isinstance(pilot.app.screen, Choice))
        assert pilot.app._exit is (status == "finished")

    if status == "running":
        with RunLock(run.lock_file):
            in_app(Dashboard(Runs(tmp_path), [run.id]), script)
    else:
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)


@pytest.mark.parametrize("live", [True, False])
def test_quit_before_the_sweep_was_read(tmp_path, slow_disk, live):
    sweep = make_sweep(tmp_path, a_grid())

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, GridScreen))
        await pilot.press("q")
        await pilot.pause(0.1)
        assert not pilot.app._exit
        slow_disk.set()
        await until(pilot, lambda: pilot.app._exit or isinstance(pilot.app.screen, Choice))
        assert pilot.app._exit is not live

    app = Dashboard(Runs(tmp_path), sweep=sweep.id)
    if live:
        with RunLock(tmp_path / sweep.id / "lock"):
            in_app(app, script)
    else:
        in_app(app, script)


@pytest.mark.parametrize("above", [None, "q", "question_mark", "c", "i"])
def test_no_key_leaves_a_live_run_without_a_question(tmp_path, above, monkeypatch):
    """Whatever is above the run."""
    monkeypatch.setattr("proxprop_cli.dashboard.screens.diagnosis.sys.executable", "/no/such")
    make = make_autoencoder if above == "i" else make_run
    run = make(tmp_path, status="running")

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
        below = pilot.app.screen
        if above:
            await pilot.press(above)
            await until(pilot, lambda: pilot.app.screen is not below)
            await pilot.press("ctrl+q")
            await until(pilot, lambda: pilot.app.screen is below)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        assert not pilot.app._exit

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)


@pytest.mark.parametrize("what", ["run", "sweep"])
def test_who_asks_twice_leaves_at_once(tmp_path, slow_disk, what):
    run = make_run(tmp_path, status="running")
    sweep = make_sweep(tmp_path, a_grid())

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen | GridScreen))
        await pilot.press("q", "q")
        assert pilot.app._exit
        slow_disk.set()

    runs = Runs(tmp_path)
    in_app(Dashboard(runs, [run.id]) if what == "run" else Dashboard(runs, sweep=sweep.id), script)


async def asked(pilot, key):
    """The screen of a live run, below the question that this key asks."""
    await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
    below = pilot.app.screen
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
    await pilot.pause(0.3)


@pytest.mark.parametrize(
    ("ask", "answer"),
    [("s", "s"), ("e", "v"), ("e", "a")],
)
@pytest.mark.parametrize("times", [2, 3, 5])
def test_an_answer_that_comes_often_is_one(tmp_path, ask, answer, times, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("proxprop_cli.dashboard.screens.diagnosis.sys.executable", "/no/such")
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        below = await asked(pilot, ask)
        await pilot.pause()
        await burst(pilot, [answer] * times)
        assert pilot.app.screen is below
        assert not pilot.app._exit
        assert str(below.query_one("#loss", Chart).title)

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)


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
        assert not pilot.app._exit

    in_app(Dashboard(Runs(tmp_path), [run.id]), script)


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_a_question_is_shown_whole_and_as_it_is(tmp_path, width):
    question = "[bold]Delete[/bold] \x1b[31m " + " ".join(f"word{n}" for n in range(30)) + " last?"
    answers = [("d", "[red]delete[/red]")]

    async def script(pilot):
        pilot.app.push_screen(Choice(question, answers))
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.pause(0.1)
        strips = pilot.app.screen._compositor.render_strips()
        seen = " ".join(strip.text for strip in strips).replace("│", " ")
        assert "\x1b" not in seen
        words = [
            "[bold]Delete[/bold]",
            "\\x1b[31m",
            "word0",
            "word29",
            "last?",
            "[red]delete[/red]",
        ]
        for word in (*words, "cancel"):
            assert word in seen

    in_app(Dashboard(Runs(tmp_path)), script, (width, 24))


@pytest.mark.parametrize("size", [(60, 20), (60, 12), (80, 24), (120, 40)])
@pytest.mark.parametrize("enlarged", [False, True])
def test_tab_shows_one_pane_after_the_other(tmp_path, size, enlarged):
    run = make_run(tmp_path, "cg3", traces=[trace(40)])
    order = ["loss", "accuracy", "layers", "solver", "log"]

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
        screen = pilot.app.screen
        await pilot.press(*["enter"] * enlarged)
        for name in (*order[1:], "loss"):
            await pilot.press("tab")
            await pilot.pause()
            assert screen.focused.id == name
            assert screen.focused.region.height >= 3
            assert screen.has_class("enlarged") is enlarged
        for name in reversed(order):
            await pilot.press("shift+tab")
            await pilot.pause()
            assert screen.focused.id == name
            assert screen.focused.region.area

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


def test_no_two_panes_of_an_overlay_show_the_same(tmp_path):
    runs = [make_run(tmp_path, scale=(fall, 1.0)) for fall in (0.98, 0.97)]

    async def script(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
        screen = pilot.app.screen
        await until(pilot, lambda: all(view.series for view in screen.views))
        for _ in range(3):
            await pilot.press("v")
            await until(pilot, lambda: screen.query_one("#loss", Chart).lines)
            first, fourth = (screen.query_one(name, Chart) for name in ("#loss", "#solver"))
            assert first.title[2:] != fourth.title[2:]
            assert first.lines[0].mean.tolist() != fourth.lines[0].mean.tolist()

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script)
