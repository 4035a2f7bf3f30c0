"""The stability grid as a person sees and drives it."""

from __future__ import annotations

import asyncio
import io
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.app import App
from textual.pilot import Pilot

from engine.cells import CellState
from engine.numbers import format_number, short_number
from engine.runs import Runs
from engine.stability import Stability, summarize_sweep
from engine.store import StoreWriter
from engine.sweep_export import export_sweep
from engine.sweep_watch import SweepWatch
from engine.sweeps import Cell, Sweep, save_sweep
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.messages import RunsChosen
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.widgets.stability_cells import (
    Scale,
    detail,
    reads_on,
    viridis,
)
from proxprop_cli.dashboard.widgets.stability_grid import StabilityGrid
from proxprop_cli.dashboard.widgets.stability_layout import arrange, name_lines
from proxprop_cli.sweep_tables import grid_rows
from tests.dashboard.runs_helper import in_app
from tests.dashboard.sweep_helper import TAUS, Made, a_grid, make_sweep, write_state


def small_grid() -> list[tuple[str, float, int, Made]]:
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


class GridApp(App[None]):
    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self.chosen: list[tuple[str, ...]] = []

    def on_mount(self) -> None:
        self.push_screen(GridScreen(self._root, "sweep"))

    def on_runs_chosen(self, message: RunsChosen) -> None:
        self.chosen.append(message.runs)

    @property
    def grid(self) -> StabilityGrid:
        return self.screen.query_one(StabilityGrid)

    def lines(self) -> list[str]:
        return ["".join(s.text for s in strip) for strip in self.screen._compositor.render_strips()]


Drive = Callable[[GridApp, Pilot[None]], Awaitable[None]]


def drive(root: Path, what: Drive, size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        app = GridApp(root)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: bool(app.grid.table.cells) or "no sweep" in app.lines()[0])
            await what(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], what: Callable[[], bool]) -> None:
    for _ in range(100):
        await pilot.pause(0.05)
        if what():
            return
    raise AssertionError("it never came")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_sweep(tmp_path / "runs", small_grid())
    return tmp_path / "runs"


def test_the_whole_grid_can_be_read(root: Path) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        lines = app.lines()
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

    drive(root, look)


def test_the_cursor_tells_of_its_cell_and_enter_opens_its_runs(root: Path) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        text = "\n".join(app.lines())
        assert "exact · tau 1 · tau_theta 0.05 · 1 diverged, 1 finished" in text
        assert "✖ 1 of 2 seeds · first bad step 1,412 · the loss is not finite" in text
        await pilot.press("enter")
        await pilot.press("right", "enter", "l", "enter", "j", "enter", "h", "k", "left", "up")
        await pilot.pause()
        assert app.chosen == [("sweep-0", "sweep-1"), ("sweep-2", "sweep-3"), ("sweep-10",)]
        assert app.grid.cursor == ("exact", 1.0)
        await pilot.press("end", "down", "down")
        assert app.grid.cursor == ("backprop", 0.01)

    drive(root, look)


def test_a_click_goes_to_a_cell_and_a_second_one_opens_it(root: Path) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        grid = app.grid
        layout = arrange(grid.table, *grid.size, cursor=(0, 0), first=(0, 0))
        place = (layout.name + layout.cell + 2, 1 + layout.height)
        await pilot.click(StabilityGrid, offset=place)
        assert grid.cursor == ("backprop", 0.1)
        assert app.chosen == []
        await pilot.click(StabilityGrid, offset=place)
        await pilot.pause()
        assert app.chosen == [("sweep-8", "sweep-9")]
        await pilot.click(StabilityGrid, offset=(0, 0))
        assert grid.cursor == ("backprop", 0.1)

    drive(root, look)


def test_the_other_number_is_one_key_away(root: Path) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        await pilot.press("m")
        await pilot.pause()
        text = "\n".join(app.lines())
        assert "validation accuracy" in text
        assert "95.0%" in text
        assert "✖ 1/2" in text
        await pilot.press("m")
        assert app.grid.shown == "loss"

    drive(root, look)


def test_what_changes_on_disk_is_seen(root: Path) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        with StoreWriter(root / "sweep-10" / "run.db") as writer:
            write_state(writer, Made("stopped", 0.777, 0.6, 9))
        await until(pilot, lambda: "■ 0.777" in "\n".join(app.lines()))
        before = app.grid.table
        (root / "sweep" / "sweep.json").write_text("{")
        await until(pilot, lambda: "sweep.json" in app.lines()[0])
        assert app.grid.table is before

    drive(root, look)


def test_nothing_is_drawn_again_when_nothing_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        await pilot.pause(1.2)
        told: list[object] = []
        monkeypatch.setattr(GridScreen, "on_sweep_screen_looked", lambda _, message: told.append(1))
        await pilot.pause(1.2)
        assert told == []

    drive(root, look)


def test_a_sweep_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        assert "no sweep 'sweep'" in app.lines()[0]
        await pilot.press("enter", "m", "e", "right", "down")
        wanted: list[object] = []
        monkeypatch.setattr(
            GridApp, "on_runs_wanted", lambda _, it: wanted.append(it), raising=False
        )
        await pilot.press("escape")
        await pilot.pause()
        assert wanted  # the list of runs, where nothing else is below

    drive(tmp_path, look)


def test_export(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.svg").mkdir()  # which stays as it is

    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        for key in ("v", "a", "s", "v"):
            await pilot.press("e", key)
            await pilot.pause()
        told = [notice.message for notice in app._notifications]
        assert f"wrote 2 rows to {tmp_path / 'sweep-grid-2.csv'}" in told

    drive(root, look)
    watch = SweepWatch(root, "sweep").look()
    assert watch is not None
    for name, grid in (("sweep-grid", True), ("sweep-grid-2", True), ("sweep", False)):
        stream = io.StringIO()
        export_sweep(watch.sweep, watch.states, stream, grid=grid)
        assert (tmp_path / f"{name}.csv").read_text() == stream.getvalue()
    assert "<svg" in (tmp_path / "sweep-2.svg").read_text()


def half_done(seeds: int = 2) -> list[tuple[str, float, int, Made]]:
    """The first seed everywhere, the next where the step size is largest."""
    losses = {30.0: 5.63e6, 10.0: 0.0276, 3.0: 0.3}
    return [
        ("cg3", tau, seed, Made(loss=loss) if seed == 0 or tau == 30.0 else Made(None))
        for seed in range(seeds)
        for tau, loss in losses.items()
    ]


def test_what_is_best_so_far_is_marked_as_such(tmp_path: Path) -> None:
    make_sweep(tmp_path, half_done())

    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        (row,) = (line for line in app.lines() if "★" in line and "cg3" in line)
        assert re.search(r"★ *·0\.0276…", row)
        assert row.count("★") == 1
        figures = grid_rows(app.grid.table)[0]
        assert figures[-2:] == row.split()[-2:] == ["10…", "≥0.5…"]
        assert "★ best so far" in app.lines()[-2]
        assert "4/6 runs  1/3 cells" in app.lines()[0]
        strip = app.grid.render_line(1 + app.grid._layout().height // 2)
        (star,) = (segment for segment in strip if "★" in segment.text)
        quiet = app.grid.get_component_rich_style("grid--quiet")
        assert star.style is not None
        assert star.style.color == quiet.color

    drive(tmp_path, look, (120, 24))


def test_a_large_screen_is_used(tmp_path: Path) -> None:
    make_sweep(tmp_path, a_grid())

    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        layout = app.grid._layout()
        assert len(layout.taus) == len(TAUS)
        used = layout.name + layout.cell * len(TAUS) + layout.best + layout.width
        assert used >= 0.9 * app.grid.size.width
        assert layout.height * len(layout.rows) >= 0.7 * app.grid.size.height
        text = "\n".join(app.lines())
        for piece in ("val 96.0%", "1.3e-3-1.6e-3", "step 40", "2/3 done", "median of 3 seeds"):
            assert piece in text
        await pilot.press("m")
        await pilot.pause()
        assert "loss 0.00143" in "\n".join(app.lines())

    drive(tmp_path, look, (200, 60))


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40)])
def test_every_sign_that_occurs_is_explained(tmp_path: Path, size: tuple[int, int]) -> None:
    make_sweep(tmp_path, a_grid())

    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        await pilot.pause()
        legend = "\n".join(app.lines()[-4:-1])
        for sign in ("✖ k/n", "★ best", "‖ paused", "! interrupted", "■ stopped", "· waiting"):
            assert sign in legend

    drive(tmp_path, look, size)


def table_of(cells: list[tuple[Cell, CellState]]) -> Stability:
    sweep = Sweep("s", "p", 20, 0.0, tuple(cell for cell, _ in cells))
    return summarize_sweep(sweep, [state for _, state in cells])


def a_table() -> Stability:
    return table_of(
        [
            (
                Cell(method, tau, None, seed),
                CellState(made.status or "waiting", made.loss, made.accuracy, made.epoch, 2.3),  # type: ignore[arg-type]
            )
            for method, tau, seed, made in a_grid()
        ]
    )


def test_every_size_down_to_one_by_one() -> None:
    table = a_table()
    names = ("exact", "長い名前の方法です", "x" * 40, "a\x1b[2Jb[red]")
    named = tuple(replace(row, label=name) for row, name in zip(table.rows, names, strict=True))

    class Bare(App[None]):
        def compose(self):  # type: ignore[no-untyped-def]
            yield StabilityGrid()

    async def run() -> None:
        app = Bare()
        async with app.run_test(size=(80, 24)) as pilot:
            grid = app.query_one(StabilityGrid)
            grid.focus()
            for width in (1, 2, 3, 5, 9, 13, 20, 33, 60, 80, 120):
                for height in (1, 2, 3, 5, 9, 30):
                    await pilot.resize_terminal(width, height)
                    for found in (Stability((), ()), replace(table, rows=named), table):
                        grid.table = found
                        for rows, columns in ((0, 0), (9, 9), (-9, -4)):
                            grid.action_move(rows, columns)
                            for y in range(height):
                                text = grid.render_line(y).text
                                assert cell_len(text) == grid.size.width
                                assert "\x1b" not in text

    asyncio.run(run())


def test_the_cursor_never_leaves_sight() -> None:
    table = a_table()
    for width in range(1, 130):
        for height in (1, 4, 9, 20):
            first = (0, 0)
            for row in (0, 3, 1, 2):
                for column in (*range(len(TAUS)), *reversed(range(len(TAUS)))):
                    layout = arrange(table, width, height, cursor=(row, column), first=first)
                    assert column in layout.taus
                    assert row in layout.rows
                    used = layout.name + layout.best + layout.width
                    assert used + layout.cell * len(layout.taus) <= max(width, 1)
                    first = layout.rows.start, layout.taus.start


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark"])
def test_glyphs_and_numbers_carry_everything(root: Path, theme: str) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        before = app.lines()
        app.theme = theme
        await pilot.pause()
        assert app.lines() == before
        if theme.startswith("ansi"):
            strips = [app.grid.render_line(y) for y in range(app.grid.size.height)]
            colors = [s.style.bgcolor for strip in strips for s in strip if s.style]
            assert all(color is None or color.triplet is None for color in colors)

    drive(root, look)


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (2.303, 7, "2.30"),
        (0.00123, 7, "0.00123"),
        (0.00123, 6, "1.2e-3"),
        (0.000123, 7, "1.23e-4"),
        (9.996, 7, "10.0"),
        (999.9, 7, "1.00e3"),
        (123.4, 6, "123"),
        (1.5e10, 6, "1.5e10"),
        (0, 6, "0"),
        (1e-300, 6, "1e-300"),
    ],
)
def test_numbers_have_three_digits_where_they_fit(value: float, width: int, text: str) -> None:
    assert format_number(value, width) == text


def test_step_sizes_are_short() -> None:
    assert [short_number(tau) for tau in (30, 0.05, 1e-5, 0.31622776)] == [
        "30",
        "0.05",
        "1e-5",
        "0.316",
    ]


def test_one_outlier_does_not_take_the_colours_from_the_rest() -> None:
    scale = Scale.of("loss", [0.01 * 1.1**i for i in range(40)] + [1e9])
    assert scale is not None
    assert scale.high < 1
    assert scale.level(1e9) == 1
    assert scale.level(math.sqrt(scale.low * scale.high)) == pytest.approx(0.5)
    assert Scale.of("loss", [math.nan, math.inf]) is None
    same = Scale.of("loss", [0.5, 0.5])
    assert same is not None
    assert same.level(0.5) == 0


def test_numbers_read_on_every_colour() -> None:
    def luminance(color: tuple[int, int, int]) -> float:
        parts = [c / 255 for c in color]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    levels = []
    for i in range(101):
        ground = viridis(i / 100)
        low, high = sorted((luminance(ground), luminance(reads_on(ground))))
        assert (high + 0.05) / (low + 0.05) >= 4.5
        levels.append(luminance(ground))
    # also without hue the scale can be followed
    assert levels == sorted(levels)


def test_a_sweep_without_cells(tmp_path: Path) -> None:
    save_sweep(tmp_path, Sweep("sweep", "[red]\x1b", 1, 0.0, ()))

    async def run() -> None:
        app = GridApp(tmp_path)
        async with app.run_test(size=(40, 10)) as pilot:
            await until(pilot, lambda: "0/0 runs" in app.lines()[0])
            assert "[red]\\x1b" in app.lines()[0]
            assert "no runs in this sweep" in "\n".join(app.lines())
            await pilot.press("enter", "m", "right")

    asyncio.run(run())


def test_from_the_grid_to_the_curves_and_back(root: Path) -> None:
    async def look(pilot: Pilot[None]) -> None:
        app = pilot.app
        await until(pilot, lambda: isinstance(app.screen, GridScreen))
        grid = app.screen
        await pilot.pause(1.0)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is grid)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunListScreen))

    in_app(Dashboard(Runs(root), sweep="sweep"), look)


@pytest.mark.parametrize("value", [1e308, -1.7e308, 5e-324, 9.996, 0.0, float("inf"), float("nan")])
def test_every_float_is_shown(value: float) -> None:
    assert 0 < len(format_number(value)) <= 8


def test_long_names_keep_what_tells_them_apart() -> None:
    label = "cg3 tau_theta=0.05"
    assert name_lines(label, 20, 3) == [label]
    assert name_lines(label, 16, 3) == ["cg3", "tau_theta=0.05"]
    assert name_lines(label, 16, 1) == ["cg3 …u_theta=0.05"[:4] + "…" + label[-11:]]
    assert name_lines("one two three", 8, 3) == ["one two", "three"]
    for width in range(25):
        for lines in (1, 3):
            for text in (label, "長い名前の方法です tau=1", "x" * 40, ""):
                assert all(cell_len(line) <= width for line in name_lines(text, width, lines))


def test_the_level_of_the_stable_width_is_in_the_legend(root: Path) -> None:
    async def look(app: GridApp, pilot: Pilot[None]) -> None:
        level = app.grid.table.level
        assert level is not None
        said = f"width: decades at loss ≤ {format_number(level)} so far"
        await until(pilot, lambda: said in app.lines()[-2])

    drive(root, look)


def test_epochs_are_those_of_the_row() -> None:
    cells = (Cell("exact", 1.0, None, 0, "a"), Cell("cg3", 1.0, None, 0, "b"))
    configs = {"exact": {"epochs": 1}, "cg3": {"epochs": 2}}
    states = [CellState("finished", 0.1, 0.9, epoch, 2.3) for epoch in (1, 2)]
    table = summarize_sweep(Sweep("s", "p", 2, 0.0, cells, configs=configs), states)
    assert table.length == "1 to 2 epochs"
    assert "1/1 epochs" in detail(table, "exact", 1.0)[0]
    assert "2/2 epochs" in detail(table, "cg3", 1.0)[0]
