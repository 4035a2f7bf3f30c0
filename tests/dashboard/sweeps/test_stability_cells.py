"""What the cells of a stability grid say, and where they are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from rich.cells import cell_len
from textual.app import App

from engine.cells import CellState
from engine.numbers import format_number, short_number
from engine.stability import Stability, summarize_sweep
from engine.sweeps import Cell, Sweep
from proxprop_cli.dashboard.widgets.stability_cells import Scale, detail, reads_on, viridis
from proxprop_cli.dashboard.widgets.stability_grid import StabilityGrid
from proxprop_cli.dashboard.widgets.stability_layout import arrange, name_lines
from tests.dashboard.runs_helper import in_app
from tests.dashboard.sweep_helper import TAUS, a_grid


def table_of(cells):
    sweep = Sweep("s", "p", 20, 0.0, tuple(cell for cell, _ in cells))
    return summarize_sweep(sweep, [state for _, state in cells])


def a_table():
    return table_of(
        [
            (
                Cell(method, tau, None, seed),
                CellState(made.status or "waiting", made.loss, made.accuracy, made.epoch, 2.3),
            )
            for method, tau, seed, made in a_grid()
        ]
    )


def test_every_size_down_to_one_by_one():
    table = a_table()
    names = ("exact", "長い名前の方法です", "x" * 40, "a\x1b[2Jb[red]")
    named = tuple(replace(row, label=name) for row, name in zip(table.rows, names, strict=True))

    class Bare(App):
        def compose(self):
            yield StabilityGrid()

    async def script(pilot):
        grid = pilot.app.query_one(StabilityGrid)
        grid.focus()
        for width in (1, 2, 5, 13, 33, 120):
            for height in (1, 3, 9, 30):
                await pilot.resize_terminal(width, height)
                for found in (Stability((), ()), replace(table, rows=named), table):
                    grid.table = found
                    for rows, columns in ((0, 0), (9, 9), (-9, -4)):
                        grid.action_move(rows, columns)
                        for y in range(height):
                            text = grid.render_line(y).text
                            assert cell_len(text) == grid.size.width
                            assert "\x1b" not in text

    in_app(Bare(), script, (80, 24))


def test_the_cursor_never_leaves_sight():
    table = a_table()
    for width in (*range(1, 40), *range(40, 130, 7)):
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
def test_numbers_have_three_digits_where_they_fit(value, width, text):
    assert format_number(value, width) == text


def test_step_sizes_are_short():
    assert [short_number(tau) for tau in (30, 0.05, 1e-5, 0.31622776)] == [
        "30",
        "0.05",
        "1e-5",
        "0.316",
    ]


def test_one_outlier_does_not_take_the_colours_from_the_rest():
    scale = Scale.of("loss", [0.01 * 1.1**i for i in range(40)] + [1e9])
    assert scale.high < 1
    assert scale.level(1e9) == 1
    assert scale.level(math.sqrt(scale.low * scale.high)) == pytest.approx(0.5)
    assert Scale.of("loss", [math.nan, math.inf]) is None
    same = Scale.of("loss", [0.5, 0.5])
    assert same.level(0.5) == 0


def test_numbers_read_on_every_colour():
    def luminance(color):
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


@pytest.mark.parametrize("value", [1e308, -1.7e308, 5e-324, 9.996, 0.0, float("inf"), float("nan")])
def test_every_float_is_shown(value):
    assert 0 < len(format_number(value)) <= 8


def test_long_names_keep_what_tells_them_apart():
    label = "cg3 tau_theta=0.05"
    assert name_lines(label, 20, 3) == [label]
    assert name_lines(label, 16, 3) == ["cg3", "tau_theta=0.05"]
    assert name_lines(label, 16, 1) == ["cg3 …u_theta=0.05"[:4] + "…" + label[-11:]]
    assert name_lines("one two three", 8, 3) == ["one two", "three"]
    for width in range(25):
        for lines in (1, 3):
            for text in (label, "長い名前の方法です tau=1", "x" * 40, ""):
                assert all(cell_len(line) <= width for line in name_lines(text, width, lines))


def test_epochs_are_those_of_the_row():
    cells = (Cell("exact", 1.0, None, 0, "a"), Cell("cg3", 1.0, None, 0, "b"))
    configs = {"exact": {"epochs": 1}, "cg3": {"epochs": 2}}
    states = [CellState("finished", 0.1, 0.9, epoch, 2.3) for epoch in (1, 2)]
    table = summarize_sweep(Sweep("s", "p", 2, 0.0, cells, configs=configs), states)
    assert table.length == "1 to 2 epochs"
    assert "1/1 epochs" in detail(table, "exact", 1.0)[0]
    assert "2/2 epochs" in detail(table, "cg3", 1.0)[0]
