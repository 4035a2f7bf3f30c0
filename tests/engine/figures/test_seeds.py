"""Curves of several seeds become one line with a band."""

from __future__ import annotations

import math

import numpy as np

from engine.figures.seeds import Group, combine, describe
from tests.engine.figures.drawing import curves


def test_three_seeds_give_the_interval_of_student():
    x = np.array([0.0, 1.0])
    band = combine([(x, np.array([1.0, v])) for v in (1.0, 2.0, 3.0)])
    assert (band.n, band.kind) == (3, "ci95")
    np.testing.assert_allclose(band.middle, [1, 2])
    # t of 2 degrees of freedom at 97.5 %: 4.302652730; deviation 1; root of 3
    np.testing.assert_allclose(band.high - band.middle, [0, 4.302652730 / 3**0.5], rtol=1e-9)
    np.testing.assert_allclose(band.middle - band.low, [0, 4.302652730 / 3**0.5], rtol=1e-9)


def test_two_seeds_give_the_range():
    x = np.array([0.0, 1.0])
    band = combine([(x, np.array([4.0, 2.0])), (x, np.array([2.0, 3.0]))])
    assert band.kind == "range"
    assert (band.low.tolist(), band.middle.tolist(), band.high.tolist()) == (
        [2, 2],
        [3, 2.5],
        [4, 3],
    )


def test_runs_that_could_not_be_read_are_told():
    x = np.array([0.0, 1.0])
    group = Group("a", (curves([1, 1, 1]),) * 2, unreadable=1)
    assert describe(group, combine([(x, x), (x, x)])) == "a (n=2, min–max, 1/3 unreadable)"
    assert describe(Group("a", (), unreadable=1), combine([])) == "a (unreadable)"
    lost = (curves([1, 1, 1]), curves([1, 1, 1], diverged=True))
    told = describe(Group("a", lost, unreadable=2), combine([(x, x)]))
    assert told == "a (1/4 diverged, 2/4 unreadable)"
    assert describe(Group("a", (curves([1, 1, 1]),)), combine([])) == "a (no values)"


def test_only_what_all_cover_is_drawn():
    one = (np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0]))
    other = (np.array([1.0, 3.0]), np.array([11.0, 13.0]))
    band = combine([one, other])
    assert band.x.tolist() == [1, 2, 3]
    assert band.middle.tolist() == [6, 7, 8]


def test_no_overlap_is_no_point():
    band = combine([(np.array([0.0, 1.0]), np.ones(2)), (np.array([2.0, 3.0]), np.ones(2))])
    assert not len(band.x)


def test_a_gap_of_one_seed_is_a_gap_of_the_mean():
    x = np.array([0.0, 1.0, 2.0])
    band = combine([(x, np.array([1.0, math.inf, 1.0])), (x, np.array([3.0, 3.0, 3.0]))])
    np.testing.assert_array_equal(band.middle, [2, math.nan, 2])
    assert describe(Group("a", ()), band) == "a (n=2, min–max)"


def test_a_seed_without_values_does_not_count():
    x = np.array([0.0, 1.0])
    band = combine([(x, x), (np.empty(0), np.empty(0)), (x, x)])
    assert band.n == 2
