"""The stability grid as a person sees and drives it."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace

import pytest
from textual.app import App

from engine.numbers import format_number
from engine.runs import Runs
from engine.store import StoreWriter
from engine.sweep_export import export_sweep
from engine.sweep_watch import SweepWatch
from engine.sweeps import Sweep, save_sweep
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.sweep_status import SweepFollower
from proxprop_cli.dashboard.widgets.stability_grid import StabilityGrid
from proxprop_cli.dashboard.widgets.stability_layout import arrange
from proxprop_cli.sweep_tables import grid_rows
from tests.dashboard.runs_helper import (
    in_app,
    notices,
    resize,
    screen_lines,
    screen_strips,
    screen_text,
    until,
)
from tests.dashboard.sweep_helper import TAUS, Made, make_sweep, write_state


def small_grid():
    """2 methods, 3 step sizes, 2 seeds."""
    good, bad = Made(loss=0.0123, accuracy=0.95), Made("diverged", 9.0, 0.1, 2, bad_step=1412)
    return [
        ("exact", 1.0, 0, bad),
        ("exact", 1.0, 1, good),
        ("exact", 0.1, 0, good),
        ("exact", 0.1, 1, replace(good, loss=0.0223)),
        ("exact", 0.01, 0, Made(None)),
        ("exact", 0.01, 1, Made(None)),
        ("backprop", 1.0, 0, bad),
        ("backprop", 1.0, 1, bad),
        ("backprop", 0.1, 0, replace(good, loss=0.5)),
        ("backprop", 0.1, 1, replace(good, loss=0.6)),
        ("backprop", 0.01, 0, Made("paused", 1.4, 0.4, 7)),
        ("backprop", 0.01, 1, Made(None)),
    ]


class GridApp(App):
    """A grid and nothing below it."""

    def __init__(self, root, id="sweep"):
        super().__init__()
        self._root = root
        self._id = id
        self.chosen = []
        self.runs_wanted = False

    def on_mount(self):
        self.push_screen(GridScreen(self._root, self._id))

    def on_runs_chosen(self, message):
        self.chosen.append(message.runs)

    def on_runs_wanted(self):
        self.runs_wanted = True

    @property
    def grid(self):
        return self.screen.query_one(StabilityGrid)


def drive(root, script, size=(80, 24), id="sweep"):
    """Run a script on a grid whose cells are known."""
    app = GridApp(root, id)

    async def go(pilot):
        await until(pilot, lambda: app.grid.table.cells)
        await pilot.pause()
        await script(app, pilot)

    in_app(app, go, size)


@pytest.fixture(scope="module")
def small_root(tmp_path_factory):
    """To be read only."""
    root = tmp_path_factory.mktemp("small")
    make_sweep(root, small_grid())
    return root


@pytest.fixture
def root(tmp_path, small_root):
    """A copy to be changed."""
    return shutil.copytree(small_root, tmp_path / "runs")


def test_the_whole_grid_and_the_cell_under_the_cursor_can_be_read(small_root):
    async def look(app, pilot):
        lines = screen_lines(app)
        assert "digits-mlp · 20 epochs · training loss" in lines[0]
        assert "! interrupted  8/12 runs  4/6 cells" in lines[0]
        assert lines[2].split() == ["tau", "1", "0.1", "0.01", "best", "width"]
        (exact,) = (line for line in lines if "✖ 1/2" in line)
        assert exact.lstrip().startswith("exact ")
        assert "★" in exact
        assert exact.split()[-4:] == ["0.0173", "·", "0.1…", "0.0…"]
        (backprop,) = (line for line in lines if "✖ 2/2" in line)
        assert backprop.lstrip().startswith("backprop ")
        assert "‖ 1.40" in backprop
        assert "✖ k/n diverged" in "\n".join(lines[-4:-1])
        text = screen_text(app)
        assert "exact · tau 1 · tau_theta 0.05 · 1 diverged, 1 finished" in text
        assert "✖ 1 of 2 seeds · first bad step 1,412 · the loss is not finite" in text
        said = f"width: decades at loss ≤ {format_number(app.grid.table.level)} so far"
        assert said in lines[-2]
        await pilot.press("m")
        await until(pilot, lambda: "validation accuracy" in screen_text(app))
        assert "95.0%" in screen_text(app)
        assert "✖ 1/2" in screen_text(app)
        await pilot.press("m")
        assert app.grid.shown == "loss"

    drive(small_root, look)


def test_the_cursor_goes_everywhere_and_enter_opens_the_runs_of_its_cell(small_root):
    async def look(app, pilot):
        await pilot.press("enter")
        await pilot.press("right", "enter", "l", "enter", "j", "enter", "h", "k", "left", "up")
        assert app.chosen == [("sweep-0", "sweep-1"), ("sweep-2", "sweep-3"), ("sweep-10",)]
        assert app.grid.cursor == ("exact", 1.0)
        await pilot.press("end", "down", "down")
        assert app.grid.cursor == ("backprop", 0.01)
        app.chosen.clear()
        layout = arrange(app.grid.table, *app.grid.size, cursor=(0, 0), first=(0, 0))
        place = (layout.name + layout.cell + 2, 1 + layout.height)
        await pilot.click(StabilityGrid, offset=place)
        assert app.grid.cursor == ("backprop", 0.1)
        assert app.chosen == []
        await pilot.click(StabilityGrid, offset=place)
        await until(pilot, lambda: app.chosen == [("sweep-8", "sweep-9")])
        await pilot.click(StabilityGrid, offset=(0, 0))
        assert app.grid.cursor == ("backprop", 0.1)

    drive(small_root, look)


def test_what_changes_on_disk_is_seen(root):
    async def look(app, pilot):
        with StoreWriter(root / "sweep-10" / "run.db") as writer:
            write_state(writer, Made("stopped", 0.777, 0.6, 9))
        await until(pilot, lambda: "■ 0.777" in screen_text(app))
        before = app.grid.table
        (root / "sweep" / "sweep.json").write_text("{")
        await until(pilot, lambda: "sweep.json" in screen_lines(app)[0])
        assert app.grid.table is before

    drive(root, look)


def test_nothing_is_drawn_again_when_nothing_changed(small_root, monkeypatch):
    looks, told = [], []
    follow = SweepFollower.look
    monkeypatch.setattr(SweepFollower, "look", lambda it: looks.append(1) or follow(it))

    async def look(app, pilot):
        monkeypatch.setattr(GridScreen, "on_sweep_screen_looked", lambda _, message: told.append(1))
        seen = len(looks)
        await until(pilot, lambda: len(looks) > seen + 3)
        assert told == []

    drive(small_root, look)


def test_a_sweep_that_is_not_there_is_said(tmp_path):
    app = GridApp(tmp_path)

    async def script(pilot):
        await until(pilot, lambda: "no sweep 'sweep'" in screen_lines(app)[0])
        await pilot.press("enter", "m", "e", "right", "down")
        assert not app.runs_wanted
        await pilot.press("escape")
        await until(pilot, lambda: app.runs_wanted)  # the list, where nothing else is below

    in_app(app, script, (80, 24))


def test_export(small_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.svg").mkdir()  # which stays as it is

    async def look(app, pilot):
        for key in ("v", "a", "s", "v"):
            await pilot.press("e", key)
        told = f"wrote 2 rows to {tmp_path / 'sweep-grid-2.csv'}"
        await until(pilot, lambda: told in notices(app))

    drive(small_root, look)
    watch = SweepWatch(small_root, "sweep").look()
    for name, grid in (("sweep-grid", True), ("sweep-grid-2", True), ("sweep", False)):
        stream = io.StringIO()
        export_sweep(watch.sweep, watch.states, stream, grid=grid)
        assert (tmp_path / f"{name}.csv").read_text() == stream.getvalue()
    assert "<svg" in (tmp_path / "sweep-2.svg").read_text()


def test_what_is_best_so_far_is_marked_as_such(tmp_path):
    """The first seed is done everywhere, the next where the step size is largest."""
    losses = {30.0: 5.63e6, 10.0: 0.0276, 3.0: 0.3}
    cells = [
        ("cg3", tau, seed, Made(loss=loss) if seed == 0 or tau == 30.0 else Made(None))
        for seed in range(2)
        for tau, loss in losses.items()
    ]
    make_sweep(tmp_path, cells)

    async def look(app, pilot):
        lines = screen_lines(app)
        (row,) = (line for line in lines if "★" in line and "cg3" in line)
        assert re.search(r"★ *·0\.0276…", row)
        assert row.count("★") == 1
        figures = grid_rows(app.grid.table)[0]
        assert figures[-2:] == row.split()[-2:] == ["10…", "≥0.5…"]
        assert "★ best so far" in lines[-2]
        assert "4/6 runs  1/3 cells" in lines[0]
        (star,) = (
            segment for segment in screen_strips(app)[lines.index(row)] if "★" in segment.text
        )
        quiet = app.grid.get_component_rich_style("grid--quiet")
        assert star.style.color == quiet.color

    drive(tmp_path, look, (120, 24))


def test_every_size_of_a_large_grid(large_sweep):
    async def look(app, pilot):
        for size in ((60, 20), (80, 24)):
            await resize(pilot, *size)
            legend = "\n".join(screen_lines(app)[-4:-1])
            for sign in ("✖ k/n", "★ best", "‖ paused", "! interrupted", "■ stopped", "· waiting"):
                assert sign in legend
        await resize(pilot, 200, 60)
        layout = arrange(app.grid.table, *app.grid.size, cursor=(0, 0), first=(0, 0))
        assert len(layout.taus) == len(TAUS)
        used = layout.name + layout.cell * len(TAUS) + layout.best + layout.width
        assert used >= 0.9 * app.grid.size.width
        assert layout.height * len(layout.rows) >= 0.7 * app.grid.size.height
        text = screen_text(app)
        for piece in ("val 96.0%", "1.3e-3-1.6e-3", "step 40", "2/3 done", "median of 3 seeds"):
            assert piece in text
        await pilot.press("m")
        await until(pilot, lambda: "loss 0.00143" in screen_text(app))

    drive(large_sweep, look, id="sweep-abcdefghij")


def test_glyphs_and_numbers_carry_everything(small_root):
    async def look(app, pilot):
        await pilot.press("down")
        before = screen_lines(app)
        for theme in ("textual-light", "ansi-dark"):
            app.theme = theme
            await until(pilot, lambda: screen_lines(app) == before)
            await pilot.pause()
            assert screen_lines(app) == before
        strips = [app.grid.render_line(y) for y in range(app.grid.size.height)]
        colors = [s.style.bgcolor for strip in strips for s in strip if s.style]
        assert all(color is None or color.triplet is None for color in colors)

    drive(small_root, look)


def test_a_sweep_without_cells(tmp_path):
    save_sweep(tmp_path, Sweep("sweep", "[red]\x1b", 1, 0.0, ()))
    app = GridApp(tmp_path)

    async def script(pilot):
        await until(pilot, lambda: "0/0 runs" in screen_lines(app)[0])
        assert "[red]\\x1b" in screen_lines(app)[0]
        assert "no runs in this sweep" in screen_text(app)
        await pilot.press("enter", "m", "right")

    in_app(app, script, (40, 10))


def test_from_the_grid_to_the_curves_and_back(small_root):
    async def script(pilot):
        app = pilot.app
        await until(pilot, lambda: getattr(app.screen, "look", None))
        grid = app.screen
        await pilot.press("end", "up", "enter")
        await until(pilot, lambda: "no run of this cell was made yet" in notices(app))
        assert app.screen is grid
        await pilot.press("home", "enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is grid)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunListScreen))

    in_app(Dashboard(Runs(small_root), sweep="sweep"), script)
