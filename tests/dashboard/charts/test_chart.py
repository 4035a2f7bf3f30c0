import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from proxprop_cli.dashboard import plot
from proxprop_cli.dashboard.curves import X_AXES
from proxprop_cli.dashboard.lines import Line, points
from proxprop_cli.dashboard.view import View, extent, panned, scales, zoomed
from proxprop_cli.dashboard.widgets.chart import Chart


class _App(App[None]):
    def compose(self) -> ComposeResult:
        yield Chart()


def _drive(
    steps: Callable[[Chart, Pilot[None]], Awaitable[None]], size: tuple[int, int] = (60, 16)
) -> None:
    async def run() -> None:
        app = _App()
        async with app.run_test(size=size) as pilot:
            await steps(app.query_one(Chart), pilot)

    asyncio.run(run())


def _text(chart: Chart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


def _lines(count: int = 3, n: int = 200) -> list[Line]:
    x = np.arange(float(n))
    return [points(f"method {i}", i, x, 2.3 * np.exp(-x / (30 + 20 * i))) for i in range(count)]


def _show(chart: Chart, lines: list[Line]) -> None:
    chart.show(lines, title="train loss", x_label="step")


def test_frame_axes_and_legend():
    async def steps(chart, pilot):
        _show(chart, _lines())
        chart.log_y = True
        await pilot.pause()
        rows = _text(chart)
        assert all(cell_len(row) == 60 for row in rows)
        assert rows[0].startswith("╭─ train loss ─")
        assert rows[0].endswith(" log y · x: step ─╮")
        assert "● method 0" in rows[1]
        for label in ("1", "0.1", "0.01"):
            assert any(f" {label} ┤" in row or f"│{label} ┤" in row for row in rows)
        assert rows[-2].split() == ["│", "0", "50", "100", "150", "│"]
        assert chart.render_line(0) is chart.render_line(0)

    _drive(steps)


@pytest.mark.parametrize("log", [False, True])
def test_every_size_down_to_one_cell(log):
    async def steps(chart, pilot):
        _show(chart, _lines())
        chart.log_y = chart.log_x = log
        for width, height in [
            (100, 30),
            (20, 5),
            (19, 4),
            (12, 4),
            (11, 3),
            (2, 1),
            (1, 2),
            (1, 1),
        ]:
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            rows = _text(chart)
            assert len(rows) == height
            assert all(cell_len(row) == width for row in rows)

    _drive(steps)


def test_nothing_to_draw():
    async def steps(chart, pilot):
        assert "waiting for the first values" in "".join(_text(chart))
        chart.empty = "no such metric"
        chart.show([], title="loss", x_label="step")
        await pilot.pause()
        assert "╭─ loss ─" in _text(chart)[0]
        assert "no such metric" in "".join(_text(chart))
        _show(chart, [points("none", 0, np.zeros(0), np.zeros(0))])
        await pilot.pause()
        assert "no such metric" in "".join(_text(chart))
        _show(chart, [points("nan", 0, np.arange(3.0), np.full(3, np.nan))])
        await pilot.pause()
        assert "✖" in "".join(_text(chart))

    _drive(steps)


def test_only_changes_are_drawn(monkeypatch):
    drawn = []
    compose = plot.compose
    monkeypatch.setattr(plot, "compose", lambda *given: drawn.append(1) or compose(*given))

    async def steps(chart, pilot):
        _show(chart, _lines())
        await pilot.pause()
        assert len(drawn) == 1
        _show(chart, _lines())
        chart.log_y = False
        chart.window = None
        await pilot.pause()
        chart.screen.set_focus(None)
        await pilot.pause()
        _text(chart)
        assert len(drawn) == 1
        _show(chart, _lines(n=201))
        await pilot.pause()
        assert len(drawn) == 2

    _drive(steps)


def test_zoom_pan_shift_and_reset():
    async def steps(chart, pilot):
        _show(chart, _lines())
        chart.zoom(2)
        assert chart.window == pytest.approx((99.5, 199))
        chart.pan(-0.5)
        assert chart.window == pytest.approx((49.75, 149.25))
        chart.zoom(2)
        assert chart.window == pytest.approx((74.625, 124.375))
        chart.pan(-9)
        assert chart.window == pytest.approx((0, 49.75))
        chart.zoom(0.1)
        assert chart.window is None
        chart.shift(0.5)
        chart.shift(9)
        assert 0 < chart.y_shift < 1
        await pilot.pause()
        chart.reset()
        assert (chart.window, chart.y_shift) == (None, 0)

    _drive(steps)


def test_labels_are_not_trusted():
    async def steps(chart, pilot):
        x = np.arange(3.0)
        label = "[red]\x1b[31m日本‮"
        chart.show([points(label, 0, x, x, end="\x07x")], title="[b]t\n", x_label="\x9b")
        await pilot.pause()
        text = "".join(_text(chart))
        assert "[red]" in text
        assert "[b]t\\n" in text
        assert not {"\x1b", "‮", "\n", "\x9b", "\x07"} & set(text)
        assert all(cell_len(row) == 60 for row in _text(chart))

    _drive(steps)


@pytest.mark.system
def test_numpy_waits_for_the_first_lines():
    code = "import sys, proxprop_cli.dashboard.widgets.chart; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _rows(picture: plot.Picture) -> list[str]:
    return ["".join(text for text, _ in picture.row(y)) for y in range(len(picture.codes))]


def test_the_legend_hides_no_dots():
    x = np.arange(100.0)
    rng = np.random.default_rng(0)
    everywhere = [points(f"run {i}", i, x, rng.random(100)) for i in range(30)]
    rows = _rows(plot.compose(everywhere, View("noise"), 60, 16))
    assert not any("run" in row for row in rows[:-1])
    assert "+ 2" in rows[-1]
    assert " more " in rows[-1]
    free = plot.compose(_lines(), View(), 60, 16)
    assert free.corner == "top right"
    assert plot.compose(_lines(), View(), 60, 16, "top right").corner == "top right"


def _border(width, **view):
    return _rows(plot.compose(_lines(), View(**view), width, 12))[0]


@pytest.mark.parametrize("label", [axis.label for axis in X_AXES])
@pytest.mark.parametrize("smoothed", ["smoothed", "smoother"])
def test_unit_and_smoothing_stay_in_the_title(label, smoothed):
    title = f"1 Validation loss · {smoothed}"
    unit = label.partition(",")[0]
    border = _border(60, title=title, x_label=label, log_y=True)
    assert f" {title} " in border
    assert f" log y · {unit} " in border or f" log y · x: {unit} " in border
    border = _border(40, title=f"1 Loss · {smoothed}", x_label=label, log_y=True)
    assert f" 1 Loss · {smoothed} " in border
    assert unit in border
    wide = _border(120, title=title, x_label=label, log_y=True, log_x=True)
    assert f" log x · log y · x: {label} " in wide


def test_a_title_is_shortened_before_it_is_cut_or_the_unit_goes():
    titles = {"title": "2 Accuracy · validation 42.8 %", "shorter": ("2 Acc · 42.8 %",)}
    for width, title, note in (
        (60, titles["title"], " x: step "),
        (44, titles["title"], " step "),
        (40, "2 Acc · 42.8 %", " x: step "),
        (26, "2 Acc · 42.8 %", ""),
        (18, "2 Acc · 42.…", ""),
    ):
        border = _border(width, **titles, x_label="step")
        assert f" {title} " in border
        assert note in border
        assert "step" in border or not note

    async def steps(chart, pilot):
        chart.show([], **titles, x_label="step")
        await pilot.pause()
        assert " 2 Acc · 42.8 % " in chart.render_line(0).text
        chart.show(_lines(), title="2 Accuracy", shorter=["2 A"], x_label="step")
        await pilot.pause()
        assert " 2 Accuracy " in chart.render_line(0).text

    _drive(steps, (30, 10))


def test_a_legend_says_what_differs():
    x = np.arange(100.0)
    ids = ("v73brm5w", "k2n9c4qa", "abcd2345")
    lines = [points(f"cg5 tau 1 · {id}", i, x, x + 9 * i) for i, id in enumerate(ids)]
    seen = "\n".join(_rows(plot.compose(lines, View("loss"), 40, 12)))
    assert all(id in seen for id in ids)
    assert "tau" not in seen
    assert "cg5 tau 1 · k2n9c4qa" in "\n".join(_rows(plot.compose(lines, View("loss"), 90, 12)))


def test_a_window_that_only_a_segment_crosses_still_shows_it():
    line = points("two", 0, np.array([0.0, 100.0]), np.array([0.0, 1.0]))
    found = scales([line], View(window=(40, 50)))
    assert found is not None
    assert found.known
    assert 0.38 < found.y.low < 0.4
    assert 0.5 < found.y.high < 0.52


def test_the_range_of_y_is_that_of_the_window():
    found = scales(_lines(1), View(window=(100, 199)))
    assert found is not None
    assert found.y.high < 0.1
    assert found.y.low >= 0


def test_windows_of_logarithmic_axes_move_by_ratios():
    lines = [points("a", 0, np.array([-5.0, 0.0, 1.0, 10000.0]), np.ones(4))]
    assert extent(lines, log=True) == (1, 10000)
    window = zoomed(lines, View(log_x=True), 2)
    assert window == pytest.approx((100, 10000))
    assert panned(lines, View(log_x=True, window=window), -1) == pytest.approx((1, 100))


@pytest.mark.parametrize("values", [[1e308, -1e308], [1e10, 1e10], [0, 0], [5e-324, 1e-310]])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.filterwarnings("error")
def test_hostile_values(values, log):
    line = points("a", 0, np.array([0.0, 1e308]), np.array(values, float))
    for window in (None, (1, 2), (2, 1), (float("nan"), 1)):
        view = View(log_x=log, log_y=log, window=window, y_shift=0.5)
        rows = _rows(plot.compose([line], view, 40, 12))
        assert all(cell_len(row) == 40 for row in rows)
        zoomed([line], view, 1e300)
        panned([line], view, 1e300)
