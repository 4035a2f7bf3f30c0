"""The colours of series: to be told apart and to be read, on every ground."""

from __future__ import annotations

from itertools import combinations

import pytest
from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.color import Color as Ground
from textual.theme import BUILTIN_THEMES

from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.palette import (
    GLYPHS,
    LIGHT_TERMINAL,
    OF_TERMINAL,
    ON_LIGHT,
    PALETTE,
    SeriesColors,
)
from proxprop_cli.dashboard.widgets.chart import Chart
from tests.dashboard.runs_helper import in_app, live_screen, make_run, screen_strips, until

LEAST = 3.0
"""What WCAG 2 wants of lines and marks."""


def luminance(color):
    parts = [part / 255 for part in color]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def triplet(name):
    return tuple(Color.parse(name).get_truecolor())


@pytest.mark.parametrize("name", [name for name in BUILTIN_THEMES if not name.startswith("ansi")])
def test_every_colour_is_seen_on_the_ground_of_its_theme(name):
    theme = BUILTIN_THEMES[name]
    colors = theme.to_color_system().generate()
    ground = triplet(colors["background"][:7])
    for color in PALETTE if theme.dark else ON_LIGHT:
        assert contrast(triplet(color), ground) >= LEAST, color
    if not theme.dark:  # the states of runs stand on the panel too
        panel = triplet(colors["panel"][:7])
        for number in (1, 2, 3):
            assert contrast(LIGHT_TERMINAL.ansi_colors[number], panel) >= LEAST


def test_colours_differ_however_few_the_terminal_has():
    for palette in (PALETTE, ON_LIGHT):
        few = [Color.parse(name).downgrade(ColorSystem.EIGHT_BIT).number for name in palette]
        assert len(set(few)) == len(palette)
    numbers = [Color.parse(name).downgrade(ColorSystem.STANDARD).number for name in OF_TERMINAL]
    assert all(one != other for one, other in combinations(numbers, 2))
    assert not {0, 7, 8, 15} & set(numbers)  # black, white: a ground is one of them


def test_only_colours_of_series_are_replaced():
    segments = [
        Segment("a", Style(color=PALETTE[2], bold=True, bgcolor="#111111")),
        Segment("b", Style(color="#123456")),
        Segment("c", None),
    ]
    first, second, third = SeriesColors(ON_LIGHT).apply(segments, Ground(0, 0, 0))
    assert first.style == Style(color=ON_LIGHT[2], bold=True, bgcolor="#111111")
    assert [second, third] == segments[1:]


def inks(app):
    """Colours of the marks and the legend of the loss chart."""
    found = set()
    chart = app.screen.query_one("#loss", Chart)
    region = chart.region
    for strip in screen_strips(app)[region.y : region.bottom]:
        for segment in strip.crop(region.x, region.right):
            if segment.style and any(glyph in segment.text for glyph in GLYPHS):
                found.add(segment.style.color)
    return {color.number if color.triplet is None else tuple(color.triplet) for color in found}


@pytest.mark.parametrize(
    ("system", "theme", "palette"),
    [
        ("truecolor", "textual-dark", PALETTE),
        ("truecolor", "textual-light", ON_LIGHT),
        ("standard", "textual-dark", OF_TERMINAL),
        ("standard", "textual-light", OF_TERMINAL),
        ("truecolor", "ansi-light", OF_TERMINAL),
    ],
)
def test_what_is_sent_to_the_terminal(tmp_path, monkeypatch, system, theme, palette):
    monkeypatch.setattr("textual.constants.COLOR_SYSTEM", system)
    run = make_run(tmp_path)

    async def script(pilot):
        screen = await live_screen(pilot)
        await until(pilot, lambda: screen.query_one("#loss", Chart).lines)
        pilot.app.theme = theme
        own = palette is OF_TERMINAL
        series = [Color.parse(palette[number]) for number in range(3)]
        wanted = {color.number if own else tuple(color.get_truecolor()) for color in series}
        await until(pilot, lambda: wanted <= inks(pilot.app))

    in_app(Dashboard(Runs(tmp_path), [run.id]), script)
