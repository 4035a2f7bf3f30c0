from __future__ import annotations

import io
import math
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from engine.cells import CellState
from engine.config import RunConfig
from engine.errors import ConfigError, StorageError
from engine.figures.curves import MAX_LINES, Scales, draw_curves
from engine.figures.heatmap import draw_heatmap
from engine.figures.read_curves import read_groups
from engine.figures.residuals import MAX_SOLVES, LayerResiduals, draw_residuals
from engine.figures.seeds import Group, RunCurves, combine, describe
from engine.figures.stability import draw_stability
from engine.figures.style import (
    MISSING,
    Look,
    artists,
    file_format,
    log_axis,
    new_figure,
    plain_text,
    render,
    styled,
    write_figure,
)
from engine.numbers import short_number
from engine.run import Run
from engine.runs import Runs
from engine.stability import summarize_sweep
from engine.sweep_plan import Row, cell_config, plan_sweep
from engine.sweeps import Cell, Sweep
from tests.dashboard.sweep_helper import Made, make_sweep, write_run

HOSTILE = [
    "$\\frac{",
    "$x$ and $y$",
    "\\$",
    "_hidden",
    "<b>&amp;]]>",
    "a\x00\x1b[31m\nb\u202e",
    "\ufffe\ud800",
    "層 🚀",
    "%s {} \\N{DASH} --",
    "",
    "x" * 5000,
]


def curves(y, x=(0.0, 1.0, 2.0), *, diverged=False, metric="train_loss", axis="epoch", run="r"):
    arrays = (np.array(x, float), np.array(y, float))
    return RunCurves(run, {(axis, metric): arrays}, diverged)


def draw(groups, **options):
    with styled():
        return draw_curves(groups, ["epoch"], ["train_loss"], **options)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def edges(axes, name="band"):
    """Lowest and highest y of a band at each x."""
    (collection,) = artists(axes, name)
    points = collection.get_paths()[0].vertices
    xs = sorted(set(points[:, 0]))
    return {x: (points[points[:, 0] == x, 1].min(), points[points[:, 0] == x, 1].max()) for x in xs}


class TestSeeds:
    def test_three_seeds_give_the_interval_of_student(self):
        x = np.array([0.0, 1.0])
        band = combine([(x, np.array([1.0, v])) for v in (1.0, 2.0, 3.0)])
        assert (band.n, band.kind) == (3, "ci95")
        np.testing.assert_allclose(band.middle, [1, 2])
        # t of 2 degrees of freedom at 97.5 %: 4.302652730; deviation 1; root of 3
        np.testing.assert_allclose(band.high - band.middle, [0, 4.302652730 / 3**0.5], rtol=1e-9)
        np.testing.assert_allclose(band.middle - band.low, [0, 4.302652730 / 3**0.5], rtol=1e-9)

    def test_two_seeds_give_the_range(self):
        x = np.array([0.0, 1.0])
        band = combine([(x, np.array([4.0, 2.0])), (x, np.array([2.0, 3.0]))])
        assert band.kind == "range"
        assert (band.low.tolist(), band.middle.tolist(), band.high.tolist()) == (
            [2, 2],
            [3, 2.5],
            [4, 3],
        )

    def test_runs_that_could_not_be_read_are_told(self):
        x = np.array([0.0, 1.0])
        group = Group("a", (curves([1, 1, 1]),) * 2, unreadable=1)
        assert describe(group, combine([(x, x), (x, x)])) == "a (n=2, min–max, 1/3 unreadable)"
        assert describe(Group("a", (), unreadable=1), combine([])) == "a (unreadable)"
        lost = (curves([1, 1, 1]), curves([1, 1, 1], diverged=True))
        told = describe(Group("a", lost, unreadable=2), combine([(x, x)]))
        assert told == "a (1/4 diverged, 2/4 unreadable)"
        assert describe(Group("a", (curves([1, 1, 1]),)), combine([])) == "a (no values)"

    def test_only_what_all_cover_is_drawn(self):
        one = (np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0]))
        other = (np.array([1.0, 3.0]), np.array([11.0, 13.0]))
        band = combine([one, other])
        assert band.x.tolist() == [1, 2, 3]
        assert band.middle.tolist() == [6, 7, 8]

    def test_no_overlap_is_no_point(self):
        band = combine([(np.array([0.0, 1.0]), np.ones(2)), (np.array([2.0, 3.0]), np.ones(2))])
        assert not len(band.x)

    def test_a_gap_of_one_seed_is_a_gap_of_the_mean(self):
        x = np.array([0.0, 1.0, 2.0])
        band = combine([(x, np.array([1.0, math.inf, 1.0])), (x, np.array([3.0, 3.0, 3.0]))])
        np.testing.assert_array_equal(band.middle, [2, math.nan, 2])
        assert describe(Group("a", ()), band) == "a (n=2, min–max)"

    def test_a_seed_without_values_does_not_count(self):
        x = np.array([0.0, 1.0])
        band = combine([(x, x), (np.empty(0), np.empty(0)), (x, x)])
        assert band.n == 2


class TestCurves:
    def test_a_run_is_a_plain_line(self):
        figure = draw([Group("exact", (curves([3, 2, 1]),))])
        (axes,) = figure.axes
        (line,) = artists(axes, "line")
        assert line.get_xdata().tolist() == [0, 1, 2]
        assert line.get_ydata().tolist() == [3, 2, 1]
        assert not artists(axes, "band")
        assert legend(figure) == ["exact"]
        assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "Training loss")

    def test_seeds_are_one_line_with_a_band(self):
        group = Group("exact", tuple(curves([3, y, 1]) for y in (2.0, 2.5, 3.0)))
        figure = draw([group])
        (axes,) = figure.axes
        (line,) = artists(axes, "line")
        assert line.get_ydata().tolist() == [3, 2.5, 1]
        half = 4.302652730 * 0.5 / 3**0.5
        np.testing.assert_allclose(edges(axes)[1.0], [2.5 - half, 2.5 + half], rtol=1e-9)
        assert legend(figure) == ["exact (n=3, 95 % CI)"]

    def test_a_diverged_run_ends_in_a_cross_at_its_last_finite_value(self):
        figure = draw([Group("bp", (curves([3, 7, math.nan], diverged=True),))])
        (axes,) = figure.axes
        (cross,) = artists(axes, "cross")
        assert (cross.get_xdata().tolist(), cross.get_ydata().tolist()) == ([1], [7])
        assert cross.get_marker() == "x"
        assert legend(figure) == ["bp (diverged)"]

    def test_a_diverged_seed_is_in_no_mean(self):
        runs = (curves([3, 2, 1]), curves([3, 4, 3]), curves([3, 900, math.inf], diverged=True))
        figure = draw([Group("bp", runs)])
        (axes,) = figure.axes
        assert artists(axes, "line")[0].get_ydata().tolist() == [3, 3, 2]
        assert artists(axes, "cross")[0].get_ydata().tolist() == [900]
        assert legend(figure) == ["bp (n=2, min–max, 1/3 diverged)"]

    def test_what_is_not_finite_is_a_gap(self):
        figure = draw([Group("a", (curves([3, math.inf, 1]),))])
        np.testing.assert_array_equal(
            artists(figure.axes[0], "line")[0].get_ydata(), [3, math.nan, 1]
        )

    def test_zero_has_no_place_on_a_logarithmic_axis(self):
        groups = [Group("a", (curves([3, 0, 1]),))]
        log = artists(draw(groups).axes[0], "line")[0].get_ydata()
        np.testing.assert_array_equal(log, [3, math.nan, 1])
        linear = draw(groups, scales=Scales(log_y=False)).axes[0]
        assert artists(linear, "line")[0].get_ydata().tolist() == [3, 0, 1]
        assert linear.get_yscale() == "linear"

    def test_accuracies_are_per_cent_and_so_is_their_band(self):
        values = [[0.1, 0.5], [0.1, 0.99], [0.1, 1.0]]
        runs = tuple(curves(y, (0.0, 1.0), metric="val_accuracy") for y in values)
        with styled():
            figure = draw_curves([Group("a", runs)], ["epoch"], ["val_accuracy"])
        axes = figure.axes[0]
        assert axes.get_ylabel() == "Validation accuracy (%)"
        assert artists(axes, "line")[0].get_ydata()[0] == pytest.approx(10)
        assert edges(axes)[1.0][1] == 100  # the interval itself goes to 153

    @pytest.mark.parametrize(
        ("seconds", "label", "end"),
        [(170, "Wall time (s)", 170), (600, "Wall time (min)", 10), (36_000, "Wall time (h)", 10)],
    )
    def test_time_has_the_unit_that_fits(self, seconds, label, end):
        runs = (curves([2, 1], (0.0, seconds), axis="wall"),)
        with styled():
            figure = draw_curves([Group("a", runs)], ["wall"], ["train_loss"])
        assert figure.axes[0].get_xlabel() == label
        assert artists(figure.axes[0], "line")[0].get_xdata()[-1] == pytest.approx(end)

    def test_several_x_axes_are_columns(self):
        x = np.array([0.0, 1.0])
        series = {(a, m): (x, x + 1) for a in ("epoch", "wall") for m in ("train_loss", "val_loss")}
        with styled():
            figure = draw_curves(
                [Group("a", (RunCurves("r", series),))],
                ["epoch", "wall"],
                ["train_loss", "val_loss"],
            )
        assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "Epoch", "Wall time (s)"]
        assert [axes.get_ylabel() for axes in figure.axes] == [
            "Training loss",
            "",
            "Validation loss",
            "",
        ]

    def test_lines_differ_in_more_than_colour(self):
        groups = [Group(str(i), (curves([3, 2, 1]),), i, i) for i in range(MAX_LINES)]
        lines = artists(draw(groups).axes[0], "line")
        looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}
        assert len(looks) == MAX_LINES
        assert all(a.get_marker() != b.get_marker() for a, b in pairwise(lines))

    def test_nothing_to_draw_and_too_much(self):
        with pytest.raises(ConfigError, match="no values of 'train_loss'"):
            draw([Group("a", (curves([math.nan] * 3),))])
        with pytest.raises(ConfigError, match="no values"):
            draw([Group("a", (curves([-1, -2, 0]),))])
        with pytest.raises(ConfigError, match="29 lines"):
            draw([Group("a", (curves([3, 2, 1]),))] * 29)


def grid(level=None):
    """exact: 1 and 0.1 sound; backprop: 1 diverged twice of 3, 0.1 running."""
    cells, states = [], []
    for method, tau, losses in [
        ("exact", 1.0, [0.1, 0.2, 0.4]),
        ("exact", 0.1, [1.0, 1.1, 1.5]),
        ("exact", 10.0, [3e5, 4e5, 5e5]),
        ("backprop", 10.0, [None, None, None]),
        ("backprop", 1.0, [None, 2.0, None]),
        ("backprop", 0.1, [0.5, 0.6, 0.7]),
    ]:
        for seed, loss in enumerate(losses):
            cells.append(Cell(method, tau, None, seed, f"r{len(cells)}"))
            bad = loss is None
            running = method == "backprop" and tau == 0.1
            status = "diverged" if bad else "running" if running else "finished"
            states.append(CellState(status, loss, 0.5, 20, 2.3, 7 if bad else None))
    sweep = Sweep("sweep", "digits", 20, 1.0, tuple(cells), level=level)
    return summarize_sweep(sweep, states)


class TestStability:
    def draw(self, found, **options):
        with styled():
            return draw_stability(found, **options)

    def axes(self, figure):
        return {len(axes.get_xlabel()) > 0: axes for axes in figure.axes}

    def test_the_line_is_the_median_and_the_band_least_to_greatest(self):
        figure = self.draw(grid(1.0))
        axes = self.axes(figure)[True]
        line, other = artists(axes, "line")
        assert line.get_xdata().tolist() == [0.1, 1, 10]
        assert line.get_ydata().tolist() == [1.1, 0.2, 4e5]
        assert np.isnan(other.get_ydata()).all()  # diverged or not at its end
        assert edges(axes)[1.0] == (0.1, 0.4)
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert artists(axes, "level")[0].get_ydata() == [1.0, 1.0]
        assert "common level 1" in legend(figure)
        assert "median, min–max of 3 seeds" in legend(figure)

    def test_crosses_say_how_many_diverged(self):
        strip = self.axes(self.draw(grid(1.0)))[False]
        (crosses,) = artists(strip, "cross")
        assert crosses.get_xdata().tolist() == [1, 10]
        assert [text.get_text() for text in strip.texts] == ["2/3", "3/3"]
        assert [label.get_text() for label in strip.get_yticklabels()] == ["backprop"]

    def test_a_cell_in_training_is_a_mark_of_its_own(self):
        axes = self.axes(self.draw(grid(1.0)))[True]
        (mark,) = artists(axes, "unfinished")
        assert (mark.get_xdata(), mark.get_ydata()) == ([0.1], [0.6])

    def test_the_axis_ends_far_above_the_level(self):
        axes = self.axes(self.draw(grid(1.0)))[True]
        assert axes.get_ylim()[1] == 1000
        (beyond,) = artists(axes, "beyond")
        assert beyond.get_xdata() == [10.0]

    def test_nothing_was_trained(self):
        sweep = Sweep("sweep", "digits", 20, 1.0, (Cell("exact", 1.0, 0.1, 0),))
        found = summarize_sweep(sweep, [CellState("waiting", made=False)])
        for function in (draw_stability, draw_heatmap):
            with styled(), pytest.raises(ConfigError, match="no run of the sweep"):
                function(found)

    def test_heatmap_has_a_number_in_every_cell(self):
        with styled():
            figure = draw_heatmap(grid())
        axes = figure.axes[0]
        texts = {tuple(map(int, text.get_position())): text for text in axes.texts}
        shown = {place: text.get_text() for place, text in texts.items()}
        assert shown == {
            (0, 0): "4e5",
            (1, 0): "0.2",
            (2, 0): "1.1",
            (0, 1): "✖ 3/3",
            (1, 1): "✖ 2/3",
            (2, 1): "0.6…",
        }
        assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "1", "0.1"]
        assert texts[1, 0].get_fontweight() == "bold"
        assert len(artists(axes, "diverged")) == 2
        assert sum(patch.get_hatch() is not None for patch in axes.patches) == 2

    def test_a_cell_that_diverged_has_no_colour_of_the_scale(self):
        with styled():
            axes = draw_heatmap(grid()).axes[0]
        missing = to_rgba(MISSING)
        # one of its seeds has a loss, which is no loss of the cell
        assert [one.get_facecolor() for one in artists(axes, "diverged")] == [missing] * 2
        sound = [one.get_facecolor() for one in artists(axes, "cell")]
        assert len(sound) == 4
        assert missing not in sound

    def test_the_axes_say_how_long_runs_were_trained(self):
        configs = {"exact": {"epochs": 20, "max_seconds": 0.05}}
        cells = (Cell("exact", 1.0, None, 0, "r"), Cell("exact", 0.1, None, 0, "s"))
        states = [CellState("finished", 0.5, 0.5, 3, 2.3, cause="time limit")] * 2
        found = summarize_sweep(Sweep("sweep", "digits", 20, 1.0, cells, configs=configs), states)
        (axes,) = self.draw(found).axes
        assert axes.get_ylabel() == "Training loss after at most 20 epochs,\n0.05 s a run"
        with styled():
            bar = draw_heatmap(found).axes[1]
        assert bar.get_ylabel() == "Training loss\nafter at most 20 epochs,\n0.05 s a run"


class TestReading:
    """What can be read is drawn; see tests/cli/test_plot.py for the rest."""

    def groups(self, root, bad, skipped):
        made = [("exact", 1.0, seed, Made(loss=0.1)) for seed in range(2)]
        sweep = make_sweep(root, [*made, ("cg3", 1.0, 0, Made(loss=0.2))])
        for cell in sweep.cells:
            if cell.run in bad:
                (root / cell.run / "run.db").write_bytes(b"nonsense" * 1000)
        return read_groups([sweep], root, ["step"], ["train_loss"], skipped=skipped)

    def test_a_damaged_store_is_skipped_and_named(self, tmp_path):
        skipped = []
        exact, cg3 = self.groups(tmp_path, ["sweep-0", "sweep-2"], skipped)
        assert [run.run for run in exact.runs] == ["sweep-1"]
        assert (exact.unreadable, cg3.runs, cg3.unreadable) == (1, (), 1)
        assert [line.partition(":")[0] for line in skipped] == ["sweep-0", "sweep-2"]
        assert legend(draw_of([exact, cg3])) == ["exact (1/2 unreadable)", "cg3 (unreadable)"]

    def test_where_nothing_can_be_read_there_is_no_figure(self, tmp_path):
        with pytest.raises(StorageError, match="no run can be read; sweep-0: "):
            self.groups(tmp_path, ["sweep-0", "sweep-1", "sweep-2"], None)

    def test_runs_named_one_by_one(self, tmp_path):
        self.groups(tmp_path, [], None)
        runs = [Run(tmp_path / f"sweep-{number}") for number in range(3)]
        (runs[0].path / "run.db").write_bytes(b"nonsense" * 1000)
        (runs[2].path / "config.yaml").unlink()
        skipped = []
        found = read_groups(runs, tmp_path, ["step"], ["train_loss"], skipped=skipped)
        assert [len(group.runs) for group in found] == [0, 1, 0]
        assert [line.partition(":")[0] for line in skipped] == ["sweep-0", "sweep-2"]

    def test_a_run_that_was_changed_is_not_the_sweeps(self, tmp_path):
        config = RunConfig(epochs=2)
        sweep = plan_sweep("digits", [Row("exact", config, (1.0,))], (0, 1))
        for cell, epochs in zip(sweep.cells, (6, 2), strict=True):
            given = cell_config(sweep, cell).model_copy(update={"epochs": epochs})
            write_run(Runs(tmp_path), cell.run, given, Made())
        skipped = []
        (group,) = read_groups([sweep], tmp_path, ["step"], ["train_loss"], skipped=skipped)
        assert [run.run for run in group.runs] == [sweep.cells[1].run]
        assert skipped == [f"{sweep.cells[0].run}: it was changed: epochs 6 instead of 2"]


def draw_of(groups):
    with styled():
        return draw_curves(groups, ["step"], ["train_loss"])


class TestResiduals:
    def layer(self, steps, run="", layer="1"):
        return LayerResiduals(
            run, layer, "dual", 100, tuple((step, (1.0, 0.1, 0.0, math.nan)) for step in steps)
        )

    def test_a_panel_a_layer_and_a_line_a_solve(self):
        with styled():
            figure = draw_residuals([self.layer([1, 50]), self.layer([1, 50], layer="3")])
        first, second, bar = figure.axes
        assert first.get_title() == "layer 1 (dual, 100 × 100)"
        assert second.get_title().startswith("layer 3")
        lines = artists(first, "line")
        assert lines[0].get_xdata().tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(lines[0].get_ydata(), [1, 0.1, math.nan, math.nan])
        assert lines[0].get_color() != lines[1].get_color()
        assert bar.get_ylabel() == "Step"

    def test_of_many_solves_the_first_and_last_are_drawn(self):
        with styled():
            figure = draw_residuals([self.layer(range(1, 1001))])
        lines = artists(figure.axes[0], "line")
        assert len(lines) == MAX_SOLVES
        viridis = matplotlib.colormaps["viridis"]
        assert lines[0].get_color() == viridis(0.0)
        assert lines[-1].get_color() == pytest.approx(viridis(0.88), abs=0.01)

    def test_too_many_and_none(self):
        with pytest.raises(ConfigError, match="no traces"):
            draw_residuals([])
        with pytest.raises(ConfigError, match="65 panels"):
            draw_residuals([self.layer([1])] * 65)


class TestFiles:
    def content(self, format_, labels=("a",), title=""):
        groups = [Group(label, (curves([3, 2, 1]),), i, i) for i, label in enumerate(labels)]
        with styled():
            return render(draw_curves(groups, ["epoch"], ["train_loss"], look=Look(title)), format_)

    @pytest.mark.parametrize("format_", ["png", "svg", "pdf"])
    def test_equal_data_give_equal_bytes(self, format_):
        assert self.content(format_, "ab") == self.content(format_, "ab")
        assert self.content(format_, "ab") != self.content(format_, "ac")

    @pytest.mark.parametrize("format_", ["png", "svg", "pdf"])
    @pytest.mark.filterwarnings("error")
    def test_hostile_names(self, format_):
        content = self.content(format_, HOSTILE, title="$" + "\n".join(HOSTILE))
        if format_ == "png":
            image = Image.open(io.BytesIO(content))
            image.load()
            assert image.width == round(6.9 * 300)
        elif format_ == "pdf":
            assert content.startswith(b"%PDF")
            assert b"CreationDate" not in content
        else:
            root = ElementTree.fromstring(content)
            texts = {
                "".join(one.itertext()).strip() for one in root.iter() if one.tag[-4:] == "text"
            }
            for name in HOSTILE[:5]:
                assert name in texts
            assert "a\\x00\\x1b[31m\\nb\\u202e" in texts

    def test_plain_text(self):
        assert plain_text("a\tb\ufffe") == "a\\tb\\ufffe"
        assert plain_text("x" * 9, 5) == "xxxx…"

    def test_short_numbers(self):
        values = [0.05, 1.0, 1234.0, 1e-5, 2.5e10]
        assert [short_number(v) for v in values] == ["0.05", "1", "1.23e3", "1e-5", "2.5e10"]

    def test_the_users_own_settings_neither_hold_nor_change(self):
        expected = self.content("svg")
        with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "text.usetex": True}):
            assert self.content("svg") == expected
            assert matplotlib.rcParams["font.size"] == 30
            assert matplotlib.rcParams["text.usetex"] is True

    def test_no_room(self):
        groups = [Group(f"run {i}", (curves([3, 2, 1]),), i, i) for i in range(20)]
        with styled(), pytest.raises(ConfigError, match="no room"):
            render(
                draw_curves(groups, ["epoch"], ["train_loss"], look=Look(width=2.0, height=1.0)),
                "png",
            )

    def test_endings(self, tmp_path):
        assert file_format(tmp_path / "a.PNG") == "png"
        for name in ("a", "a.jpg", "png", ".svg"):
            with pytest.raises(ConfigError, match="ends in"):
                file_format(tmp_path / name)

    def test_a_file_is_replaced_whole(self, tmp_path):
        path = tmp_path / "a.png"
        write_figure(path, b"old")
        write_figure(path, b"new")
        assert path.read_bytes() == b"new"
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
        with pytest.raises(StorageError):
            write_figure(tmp_path / "none" / "a.png", b"")
        with pytest.raises(ConfigError, match="something else"):
            write_figure(tmp_path, b"")

    def test_neither_torch_nor_pyplot_is_loaded(self):
        code = (
            "import sys, engine.figures.curves, engine.figures.read_curves,"
            "engine.figures.stability, engine.figures.heatmap, engine.figures.residuals\n"
            "print([m for m in ('torch', 'matplotlib.pyplot', 'proxprop_cli') if m in sys.modules])"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert out.stdout == "[]\n", out.stderr


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 100.0, ["0.01", "0.1", "1", "10", "100"]),
        (1e-4, 1.0, ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]),
        (9e3, 5e4, ["10⁴", "2×10⁴", "3×10⁴", "4×10⁴"]),
    ],
)
def test_an_axis_has_one_notation(low, high, expected):
    with styled():
        figure = new_figure(Look(), 3.0)
        axes = figure.subplots()
        axes.plot([0, 1], [low, high])
        log_axis(axes, "y")
        axes.set_ylim(low, high)
        figure.draw_without_rendering()
        both = (*axes.get_yticklabels(), *axes.get_yticklabels(minor=True))
        shown = {text.get_text() for text in both}
    assert set(expected) <= shown
    has_power = {any(digit in text for digit in "⁰¹²³⁴⁵⁶⁷⁸⁹") for text in shown if text}
    assert len(has_power) == 1
