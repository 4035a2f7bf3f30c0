"""Decimated series: nothing is lost but detail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.buckets import Buckets, width_for
from engine.store import StoreWriter
from engine.store_reader import StoreReader

floats = st.floats(allow_nan=True, allow_infinity=True, width=64)
series = st.lists(floats, min_size=1, max_size=60)


def check(found, steps, values):
    """Every bucket against the plain values it stands for."""
    steps, values = np.asarray(steps), np.asarray(values, float)
    ids = steps // found.width
    assert found.first.tolist() == [steps[ids == i].min() for i in np.unique(ids)]
    for row, i in enumerate(np.unique(ids)):
        inside = values[ids == i]
        finite = inside[np.isfinite(inside)]
        assert found.last[row] == steps[ids == i].max()
        assert found.count[row] == len(finite)
        assert found.broken[row] == len(inside) - len(finite)
        if len(finite):
            assert (found.low[row], found.high[row]) == (finite.min(), finite.max())
            slack = 1e-9 * max(abs(finite.min() / 2), abs(finite.max() / 2)) + 1e-300
            assert finite.min() - slack <= found.mean[row] <= finite.max() + slack
            assert math.isfinite(found.mean[row])
        else:
            assert np.isnan([found.low[row], found.high[row], found.mean[row]]).all()


@given(values=series, gap=st.integers(1, 5), width=st.sampled_from([1, 2, 8, 64]))
def test_of_single_values(values, gap, width):
    steps = np.arange(len(values)) * gap
    check(Buckets.of(steps, np.array(values), width), steps, values)


@given(values=series, cut=st.integers(0, 60), limit=st.integers(2, 20))
def test_extended_is_what_it_would_have_been_at_once(values, cut, limit):
    steps, values = np.arange(len(values)), np.array(values)
    first = Buckets.of(steps[:cut], values[:cut])
    found = first.extended(steps[cut:], values[cut:], limit)
    if len(steps[cut:]):
        assert len(found) <= limit
    check(found, steps, values)


def test_width():
    assert width_for(0, 10) == 1
    assert width_for(9, 10) == 1
    assert width_for(10, 10) == 2
    assert width_for(100_000, 2048) == 64


@given(values=st.lists(floats, min_size=0, max_size=80), limit=st.integers(2, 40))
def test_the_database_makes_the_same_ones(tmp_path_factory, values, limit):
    path = tmp_path_factory.mktemp("store") / "run.db"
    with StoreWriter.create(path) as writer:
        writer.append_block(list(range(len(values))), {"loss": values})
        writer.commit()
    with StoreReader(path) as reader:
        found = reader.buckets("loss", limit)
        assert len(found) <= limit + 1
        if values:
            check(found, range(len(values)), values)
        assert len(reader.buckets("unknown", limit)) == 0


def test_zero_with_a_sign_is_a_value(tmp_path):
    path = tmp_path / "run.db"
    with StoreWriter.create(path) as writer:
        writer.append_block(list(range(100)), {"loss": [-0.0] * 100})
        writer.commit()
    with StoreReader(path) as reader:
        found = reader.buckets("loss", 10)
    assert found.count.sum() == 100
    assert found.broken.sum() == 0
    assert (found.low == 0).all()


def test_a_sum_that_overflows_has_a_mean():
    found = Buckets.of(np.arange(4), np.full(4, 1.7e308)).coarser(4)
    assert found.mean[0] == pytest.approx(1.7e308)


def test_sums_that_overflow_both_ways_have_a_mean():
    values = np.array([1.7e308, 1.7e308, -1.7e308, -1.7e308])
    found = Buckets.of(np.arange(4), values).coarser(2).coarser(4)
    assert np.isfinite(found.mean).all()


@pytest.mark.parametrize("every", [1, 7, 10, 1000])
def test_samples_are_the_last_of_each_bucket_whichever_steps_there_are(tmp_path, every):
    steps = [*range(0, 1000, every), *range(1000, 5001, 10 * every)]
    with StoreWriter.create(tmp_path / "run.db") as writer:
        writer.append_block(steps, {"time/train": [0.5 * step for step in steps]})
        writer.append_block([7, 9000], {"other": [1.0, 2.0]})
    with StoreReader(tmp_path / "run.db") as reader:
        found = reader.samples("time/train", 100)
        assert found.width == width_for(steps[-1], 100)
        expected = {step // found.width: step for step in steps}
        assert found.last.tolist() == list(expected.values())
        assert found.high.tolist() == [0.5 * step for step in expected.values()]
        assert len(reader.samples("nothing", 100)) == 0
