"""The seeds of a row as one: where the mean may be drawn, and of how many it is."""

from __future__ import annotations

import numpy as np
import pytest

from engine.buckets import Buckets
from proxprop_cli.dashboard.overlay import overlay_lines
from proxprop_cli.dashboard.views import Place, RunView

NAN = float("nan")


def seed(number, losses, status="running", steps=None, **options):
    steps = np.arange(len(losses)) if steps is None else np.array(steps)
    series = {"train_loss": Buckets.of(steps, np.array(losses, float))}
    place = Place("exact", number, 0, number)
    return RunView(f"run{number}", place, status=status, series=series, **options)


def drawn(*seeds):
    return overlay_lines(seeds, "train_loss", 0, 0.0, banded=True)


def mean_of(lines):
    """The band, which lies on top of what went ahead."""
    assert [line.band for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines[-1]


def test_the_mean_ends_where_the_first_seed_does():
    ahead, band = drawn(seed(0, [1, 1, 1, 1, 1]), seed(1, [3, 3]))
    assert band.label == "exact (n=2)"
    assert (band.x.tolist(), band.mean.tolist()) == ([0, 1], [2, 2])
    assert (band.low.tolist(), band.high.tolist()) == ([1, 1], [3, 3])
    # what one seed has beyond that is its own, and stands back
    assert ahead.label == "exact seed 0"
    assert (ahead.x.tolist(), ahead.mean.tolist()) == ([2, 3, 4], [1, 1, 1])
    assert (ahead.color, ahead.glyph) == (band.color, band.glyph)
    assert np.isnan(ahead.smooth).all()


def test_a_seed_that_has_just_begun_leaves_a_point_and_the_curve_of_the_other():
    ahead, band = drawn(seed(0, [3, 2, 1], "finished"), seed(1, [5]))
    assert (band.label, band.x.tolist(), band.mean.tolist()) == ("exact (n=2)", [0], [4])
    assert ahead.x.tolist() == [1, 2]


def test_a_little_ahead_is_not_told():
    (band,) = drawn(seed(0, range(10)), seed(1, range(9)))
    assert band.x.tolist() == list(range(9))


def test_the_mean_begins_where_the_last_seed_does():
    (band,) = drawn(seed(0, [1, 1, 1, 1]), seed(1, [3, 3, 3], steps=[1, 2, 3]))
    assert (band.x.tolist(), band.mean.tolist()) == ([1, 2, 3], [2, 2, 2])


def test_places_are_those_of_the_closest_seed_up_to_the_very_end():
    # the one with the most places ends between two of its own, the farthest has few
    (band,) = drawn(seed(0, [0, 2, 4, 6, 8], steps=[0, 2, 4, 6, 8]), seed(1, [0, 7], steps=[0, 7]))
    assert band.x.tolist() == [0, 2, 4, 6, 7]
    assert band.mean.tolist() == pytest.approx([0, 2, 4, 6, 7])
    (band,) = drawn(seed(0, [0, 2, 4, 6, 8], steps=[0, 2, 4, 6, 8]), seed(1, [0, 9], steps=[0, 9]))
    assert band.x.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("status", ["stopped", "interrupted"])
def test_a_seed_that_ended_before_its_time_does_not_hold_the_rest_back(status):
    gone = seed(2, [9, 9], status)
    (band,) = drawn(seed(0, [1, 1, 1]), seed(1, [3, 3, 3], "finished"), gone)
    assert band.label == "exact (n=2, ■ 1/3)"
    assert band.mean.tolist() == [2, 2, 2]
    # where all are like that there is nothing to hold back
    ahead, band = drawn(seed(0, [1, 1, 1, 1], status), seed(1, [3, 3], status))
    assert (band.label, band.mean.tolist()) == ("exact (n=2)", [2, 2])
    assert ahead.x.tolist() == [2, 3]


def test_one_that_diverged_is_left_out_and_counted():
    lost = seed(1, [9, 9], "diverged", diverged=(2, "NaN"))
    (band,) = drawn(seed(0, [1, 1, 1]), lost, seed(2, [5, 5], "stopped"))
    assert band.label == "exact (n=1, ✖ 1/3, ■ 1/3)"
    assert band.mean.tolist() == [1, 1, 1]
    (band,) = drawn(lost)
    assert band.end == "✖ 1/1 diverged"


def test_there_is_no_mean_over_the_gap_of_one():
    (band,) = drawn(seed(0, [1, 1, 1, 1, 1]), seed(1, [3, 3, NAN, 3, 3]))
    assert np.isnan(band.mean).tolist() == [False, False, True, False, False]
    assert np.isnan(band.low).tolist() == np.isnan(band.mean).tolist()


def test_without_any_value_nothing_is_drawn_and_nothing_fails():
    (band,) = drawn(seed(0, [1, 2]), seed(1, [NAN, NAN]))
    assert not len(band.x)


def test_extremes_do_not_overflow():
    (band,) = drawn(seed(0, [1.7e308] * 2), seed(1, [1.7e308] * 2))
    assert np.isfinite(band.mean).all()
