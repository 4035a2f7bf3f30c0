"""What the keys of the live screen do."""

from __future__ import annotations

import csv

import pytest

from engine.control import Desired
from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.widgets.chart import Chart
from tests.dashboard.runs_helper import (
    has_left,
    in_app,
    live_screen,
    make_run,
    resize,
    screen_lines,
    trace,
    until,
)


def show(run):
    return Dashboard(Runs(run.path.parent), [run.id])


def test_every_quantity_of_the_x_axis(tmp_path):
    # every step is 2.5 times the work of BackProp's
    run = make_run(tmp_path, "cg3", traces=[trace(40)])
    ends = {"step": 40.0, "epoch": 4.0, "wall": 0.8, "train": 0.4, "work": 10.0}

    async def script(pilot):
        screen = await live_screen(pilot)
        charts = [screen.query_one(f"#{name}", Chart) for name in ("loss", "accuracy")]
        for end in ends.values():
            await until(pilot, lambda end=end: at_end(charts[0]) == pytest.approx(end))
            assert charts[0].lines[0].x[0] > 0
            await pilot.press("x")
        assert not any(chart.log_x for chart in charts)
        await pilot.press("X")
        assert all(chart.log_x for chart in charts)

    in_app(show(run), script)


def at_end(chart):
    return chart.lines[0].x[-1] if chart.lines else None


def test_pause_and_resume_leave_word_and_stop_asks_first(tmp_path):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await live_screen(pilot)
        await until(pilot, lambda: screen.views[0].status == "running")
        await pilot.press("p")
        await until(pilot, lambda: run.desired() is Desired.PAUSED)
        await until(pilot, lambda: screen.views[0].wanted == "pausing")
        with StoreWriter(run.database) as writer:
            writer.set_state({"status": "paused"})
            writer.commit()
        await until(pilot, lambda: screen.views[0].status == "paused")
        await pilot.press("p")
        await until(pilot, lambda: run.desired() is Desired.RUNNING)
        # it can be paused again before it has heard
        await until(pilot, lambda: "p Pause" in screen_lines(pilot.app)[-1])
        await pilot.press("s")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.press("escape")
        assert run.desired() is Desired.RUNNING
        await pilot.press("s", "s")
        await until(pilot, lambda: run.desired() is Desired.STOPPED)
        assert run.request().reason == "asked to stop"

    with RunLock(run.lock_file):
        in_app(show(run), script)


@pytest.mark.parametrize(("answer", "desired"), [("d", Desired.RUNNING), ("s", Desired.STOPPED)])
def test_quit_asks_what_becomes_of_a_live_run(tmp_path, answer, desired):
    run = make_run(tmp_path, status="running")

    async def script(pilot):
        screen = await live_screen(pilot)
        await until(pilot, lambda: screen.views[0].status == "running")
        await pilot.press("q", "c")
        assert not has_left(pilot.app)
        assert pilot.app.screen is screen
        await pilot.press("q")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        assert run.desired() is Desired.RUNNING
        await pilot.press(answer)
        await until(pilot, lambda: has_left(pilot.app))
        assert run.desired() is desired

    with RunLock(run.lock_file):
        in_app(show(run), script)


def test_a_paused_run_without_a_trainer_is_left_at_once(tmp_path):
    run = make_run(tmp_path, status="paused")

    async def script(pilot):
        await live_screen(pilot)
        await pilot.press("q")
        await until(pilot, lambda: has_left(pilot.app))

    in_app(show(run), script)


def test_zoom_pan_reset_panes_by_number_and_quit(tmp_path):
    run = make_run(tmp_path)

    async def script(pilot):
        screen = await live_screen(pilot)
        charts = [screen.query_one(f"#{name}", Chart) for name in ("loss", "accuracy")]
        await until(pilot, lambda: all(chart.lines for chart in charts))
        await pilot.press("plus", "plus")
        windows = [chart.window for chart in charts]
        assert all(window is not None for window in windows)
        assert windows[0][1] - windows[0][0] == pytest.approx(10, abs=0.5)
        await pilot.press("h")
        assert charts[0].window[0] < windows[0][0]
        await pilot.press("r")
        assert [chart.window for chart in charts] == [None, None]
        for number, name in enumerate(("loss", "accuracy", "layers", "solver", "log"), 1):
            await pilot.press(str(number))
            assert screen.focused.id == name
        await pilot.press("5")
        assert screen.has_class("enlarged")
        assert screen.query_one("#header").region.area
        await pilot.press("escape")
        assert not screen.has_class("enlarged")
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        await pilot.press("q")  # of a finished run: without a question
        await until(pilot, lambda: has_left(pilot.app))

    in_app(show(run), script)


def test_as_many_panes_as_there_is_room_for(tmp_path):
    run = make_run(tmp_path, "cg3", traces=[trace(40)])

    async def script(pilot):
        screen = await live_screen(pilot)

        def shown():
            return [pane.id for pane in screen.query("#panes > *") if pane.region.area]

        for size, seen in {(60, 12): 1, (60, 20): 2, (80, 24): 4, (120, 40): 5}.items():
            await resize(pilot, *size)
            for number in (5, 3, 2, 1):
                await pilot.press(str(number))
                count = seen + (number == 5 and seen == 4)
                await until(pilot, lambda count=count: len(shown()) == count)
                pane = screen.focused
                assert pane.region.width > 10
                assert pane.region.height >= 3
                assert screen.region.contains_region(pane.region)
            await pilot.press("1")
            await until(pilot, lambda: shown() == ["loss"])
            await pilot.press("1")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))

    in_app(show(run), script, (60, 12))


def test_exports_of_view_metrics_and_screen_take_the_place_of_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs")
    (tmp_path / f"{run.id}-view.csv").write_text("mine")
    (tmp_path / f"{run.id}.csv").symlink_to(tmp_path / "nothing")
    (tmp_path / f"{run.id}.svg").mkdir()
    view, metrics, picture = (
        tmp_path / f"{run.id}{ending}" for ending in ("-view-2.csv", "-2.csv", "-2.svg")
    )

    async def script(pilot):
        screen = await live_screen(pilot)
        await until(pilot, lambda: screen.query_one("#loss", Chart).lines)
        await pilot.press("plus")
        for key, path in (("v", view), ("a", metrics), ("s", picture)):
            await pilot.press("e", key)
            await until(pilot, path.is_file)
            await pilot.app.workers.wait_for_complete()

    in_app(show(run), script)
    with view.open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["series"] for row in rows} >= {"batch", "train", "validation"}
    batch = [row for row in rows if row["series"] == "batch"]
    assert [float(row["x"]) for row in batch] == list(range(20, 41))  # zoomed in: the right half
    assert [float(row["mean"]) for row in batch] == pytest.approx(
        [2.3 * 0.98**step for step in range(20, 41)]
    )
    assert metrics.read_text().startswith("run,step,key,value")
    assert "<svg" in picture.read_text()
    assert (tmp_path / f"{run.id}-view.csv").read_text() == "mine"
    assert not (tmp_path / "nothing").exists()
    assert list((tmp_path / f"{run.id}.svg").iterdir()) == []
