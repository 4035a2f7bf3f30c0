"""Curves as they are drawn, and residuals of solvers."""

from __future__ import annotations

import math
from itertools import pairwise

import matplotlib
import numpy as np
import pytest

from engine.errors import ConfigError
from engine.figures.curves import MAX_LINES, Scales, draw_curves
from engine.figures.residuals import MAX_SOLVES, LayerResiduals, draw_residuals
from engine.figures.seeds import Group, RunCurves
from engine.figures.style import artists, styled
from tests.engine.figures.drawing import curves, draw, edges, legend


def test_a_run_is_a_plain_line():
    figure = draw([Group("exact", (curves([3, 2, 1]),))])
    (axes,) = figure.axes
    (line,) = artists(axes, "line")
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == [3, 2, 1]
    assert not artists(axes, "band")
    assert legend(figure) == ["exact"]
    assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "Training loss")


def test_seeds_are_one_line_with_a_band():
    group = Group("exact", tuple(curves([3, y, 1]) for y in (2.0, 2.5, 3.0)))
    figure = draw([group])
    (axes,) = figure.axes
    (line,) = artists(axes, "line")
    assert line.get_ydata().tolist() == [3, 2.5, 1]
    half = 4.302652730 * 0.5 / 3**0.5
    np.testing.assert_allclose(edges(axes)[1.0], [2.5 - half, 2.5 + half], rtol=1e-9)
    assert legend(figure) == ["exact (n=3, 95 % CI)"]


def test_a_diverged_run_ends_in_a_cross_at_its_last_finite_value():
    figure = draw([Group("bp", (curves([3, 7, math.nan], diverged=True),))])
    (axes,) = figure.axes
    (cross,) = artists(axes, "cross")
    assert (cross.get_xdata().tolist(), cross.get_ydata().tolist()) == ([1], [7])
    assert cross.get_marker() == "x"
    assert legend(figure) == ["bp (diverged)"]


def test_a_diverged_seed_is_in_no_mean():
    runs = (curves([3, 2, 1]), curves([3, 4, 3]), curves([3, 900, math.inf], diverged=True))
    figure = draw([Group("bp", runs)])
    (axes,) = figure.axes
    assert artists(axes, "line")[0].get_ydata().tolist() == [3, 3, 2]
    assert artists(axes, "cross")[0].get_ydata().tolist() == [900]
    assert legend(figure) == ["bp (n=2, min–max, 1/3 diverged)"]


def test_what_is_not_finite_is_a_gap():
    figure = draw([Group("a", (curves([3, math.inf, 1]),))])
    np.testing.assert_array_equal(artists(figure.axes[0], "line")[0].get_ydata(), [3, math.nan, 1])


def test_zero_has_no_place_on_a_logarithmic_axis():
    groups = [Group("a", (curves([3, 0, 1]),))]
    log = artists(draw(groups).axes[0], "line")[0].get_ydata()
    np.testing.assert_array_equal(log, [3, math.nan, 1])
    linear = draw(groups, scales=Scales(log_y=False)).axes[0]
    assert artists(linear, "line")[0].get_ydata().tolist() == [3, 0, 1]
    assert linear.get_yscale() == "linear"


def test_accuracies_are_per_cent_and_so_is_their_band():
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
def test_time_has_the_unit_that_fits(seconds, label, end):
    runs = (curves([2, 1], (0.0, seconds), axis="wall"),)
    with styled():
        figure = draw_curves([Group("a", runs)], ["wall"], ["train_loss"])
    assert figure.axes[0].get_xlabel() == label
    assert artists(figure.axes[0], "line")[0].get_xdata()[-1] == pytest.approx(end)


def test_several_x_axes_are_columns():
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


def test_lines_differ_in_more_than_colour():
    groups = [Group(str(i), (curves([3, 2, 1]),), i, i) for i in range(MAX_LINES)]
    lines = artists(draw(groups).axes[0], "line")
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}
    assert len(looks) == MAX_LINES
    assert all(a.get_marker() != b.get_marker() for a, b in pairwise(lines))


def test_nothing_to_draw_and_too_much():
    with pytest.raises(ConfigError, match="no values of 'train_loss'"):
        draw([Group("a", (curves([math.nan] * 3),))])
    with pytest.raises(ConfigError, match="no values"):
        draw([Group("a", (curves([-1, -2, 0]),))])
    with pytest.raises(ConfigError, match="29 lines"):
        draw([Group("a", (curves([3, 2, 1]),))] * 29)


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
