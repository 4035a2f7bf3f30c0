"""Smoothing, and where on the x axis a value lies."""

from __future__ import annotations

import numpy as np
import pytest

from engine.buckets import Buckets
from proxprop_cli.dashboard.curves import X_AXES, loss_lines, smoothed
from proxprop_cli.dashboard.views import RunView


@pytest.mark.parametrize("count", range(1, 12))
def test_smoothing_keeps_the_shape_of_short_series(count):
    assert smoothed(np.arange(1.0, count + 1), 0.04).shape == (count,)


def test_smoothing_calms_without_moving():
    random = np.random.default_rng(0)
    trend = np.exp(-np.linspace(0, 3, 500))
    noisy = trend * np.exp(random.normal(0, 0.5, 500))
    found = smoothed(noisy, 0.04)[60:-60]
    errors = np.log(found / trend[60:-60])
    assert errors.std() < 0.15
    assert abs(errors.mean()) < 0.05
    less = np.log(smoothed(noisy, 0.01)[60:-60] / trend[60:-60])
    assert errors.std() < less.std() < 0.4


def test_gaps_stay_and_extremes_do_not_overflow():
    values = np.array([1.0, np.nan, 1e308, -1e308, 1e308] * 20)
    found = smoothed(values, 0.04)
    assert np.isnan(found[1::5]).all()
    assert np.isfinite(found[0::5]).all()


def test_growing_quantities_begin_at_zero():
    steps = np.arange(0, 5)
    view = RunView(
        "r",
        steps_per_epoch=2,
        series={
            "train_loss": Buckets.of(steps, np.ones(5)),
            "time/wall": Buckets.of(steps[1:], np.array([1.0, 2.0, 3.0, 4.0])),
            "work": Buckets.of(steps[1:], np.array([3.0, 6.0, 9.0, 12.0])),
        },
    )
    axes = {axis.key: axis for axis in X_AXES}
    (wall,) = loss_lines([view], axes["wall"], 0.0)
    assert wall.x.tolist() == [0, 1, 2, 3, 4]
    (work,) = loss_lines([view], axes["work"], 0.0)
    assert work.x.tolist() == [0, 1.5, 3, 4.5, 6]
    assert not loss_lines([view], axes["train"], 0.0)


def test_work_of_backprop_is_counted_without_a_series_of_it():
    steps = np.arange(0, 5)
    work = next(axis for axis in X_AXES if axis.key == "work")
    series = {"train_loss": Buckets.of(steps, np.ones(5))}
    plain = RunView("r", config={"method": "backprop"}, steps_per_epoch=2, series=series)
    (line,) = loss_lines([plain], work, 0.0)
    assert line.x.tolist() == [0, 0.5, 1, 1.5, 2]
    other = RunView("r", config={"method": "exact"}, steps_per_epoch=2, series=series)
    assert not loss_lines([other], work, 0.0)
