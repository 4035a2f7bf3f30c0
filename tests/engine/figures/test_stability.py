"""Grids of step sizes: the stability plot and the heat map."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from engine.cells import CellState
from engine.errors import ConfigError
from engine.figures.heatmap import draw_heatmap
from engine.figures.stability import draw_stability
from engine.figures.style import MISSING, artists, styled
from engine.stability import summarize_sweep
from engine.sweeps import Cell, Sweep
from tests.engine.figures.drawing import edges, legend


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
