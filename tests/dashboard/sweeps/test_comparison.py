"""The overlay of a comparison: bands over seeds, and runs that join."""

from __future__ import annotations

import numpy as np
import pytest

from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.comparison import ComparisonScreen
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.widgets.chart import Chart
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, live_screen, make_run, notices, until
from tests.dashboard.sweep_helper import Made, make_comparison, make_seed, make_sweep


async def drawn(pilot, count):
    await until(pilot, lambda: isinstance(pilot.app.screen, ComparisonScreen))
    screen = pilot.app.screen
    await until(pilot, lambda: len(screen.views) == count)
    await live_screen(pilot)
    await pilot.pause()
    return screen, screen.query_one("#loss", Chart)


def test_seeds_are_a_band_or_each_by_itself(tmp_path):
    sweep = make_comparison(tmp_path, ("exact", "cg3 evil\x1b[31m"))

    async def script(pilot):
        screen, chart = await drawn(pilot, 6)
        assert [line.label for line in chart.lines] == ["exact (n=3)", "cg3 evil\x1b[31m (n=3)"]
        text = "\n".join(chart.render_line(y).text for y in range(chart.size.height))
        assert "\x1b" not in text
        assert "exact (n=3)" in text
        band = chart.lines[0]
        single = [2.3 * np.array([1.0, 1.15, 1.3])]
        assert band.low[0] == pytest.approx(single[0].min())
        assert band.high[0] == pytest.approx(single[0].max())
        assert band.mean[0] == pytest.approx(single[0].mean())
        await pilot.press("b")
        assert [line.label for line in chart.lines][:2] == ["exact seed 0", "exact seed 1"]
        assert len({(line.color, line.glyph) for line in chart.lines}) == 6
        rows = screen.query_one("#layers", Table).render().plain.splitlines()[1:]
        assert [row.split()[0] for row in rows] == [line.glyph for line in chart.lines]
        await pilot.press("b")
        assert len(chart.lines) == 2

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


def test_runs_join_as_they_are_made_and_no_colour_changes(tmp_path):
    sweep = make_comparison(tmp_path, ("backprop", "exact", "cg3"), 2, made=0)
    make_seed(tmp_path, "of-comparison-a-2-0", "cg3", 2, 0)

    async def script(pilot):
        _, chart = await drawn(pilot, 1)
        (line,) = chart.lines
        assert line.label == "cg3 (n=1)"
        color = line.color
        make_seed(tmp_path, "of-comparison-a-0-0", "backprop", 0, 0)
        make_seed(tmp_path, "of-comparison-a-2-1", "cg3", 2, 1)
        await drawn(pilot, 3)
        assert [line.label for line in chart.lines] == ["backprop (n=1)", "cg3 (n=2)"]
        assert chart.lines[1].color == color

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


def test_a_seed_that_diverged_is_counted_and_not_averaged(tmp_path):
    sweep = make_comparison(tmp_path, ("exact",), 3, made=2)
    make_seed(
        tmp_path, "of-comparison-a-0-2", "exact", 0, 2, status="diverged", diverged=(60, "NaN")
    )

    async def script(pilot):
        _, chart = await drawn(pilot, 3)
        (line,) = chart.lines
        assert line.label == "exact (n=2, ✖ 1/3)"
        assert line.high[0] == pytest.approx(2.3 * 1.15)

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


def test_the_seeds_of_a_cell_are_one_band(tmp_path):
    cells = [("exact", 1.0, seed, Made()) for seed in range(3)]
    cells += [("exact", 0.1, seed, Made(None)) for seed in range(3)]
    cells[2] = ("exact", 1.0, 2, Made(None))
    sweep = make_sweep(tmp_path, cells)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, GridScreen))
        await until(pilot, lambda: pilot.app.screen.look is not None)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        chart = pilot.app.screen.query_one("#loss", Chart)
        await until(pilot, lambda: chart.lines and "n=2" in chart.lines[0].label)
        assert [line.label for line in chart.lines] == ["exact tau 1 (n=2)"]
        await pilot.press("b")
        assert [line.label for line in chart.lines] == [
            "exact tau 1 seed 0",
            "exact tau 1 seed 1",
        ]

    in_app(Dashboard(Runs(tmp_path), sweep=sweep.id), script)


def test_no_band_is_offered_where_there_are_no_rows(tmp_path):
    runs = [make_run(tmp_path), make_run(tmp_path)]

    async def script(pilot):
        screen = await live_screen(pilot)
        lines = len(screen.query_one("#loss", Chart).lines)
        assert not screen.check_action("band", ())
        await pilot.press("b")
        await until(pilot, lambda: notices(pilot.app) == ["no seeds of a row here"])
        assert len(screen.query_one("#loss", Chart).lines) == lines

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script)
