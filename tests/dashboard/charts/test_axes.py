import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxprop_cli.dashboard.axes import FAR, Scale, ticks
from proxprop_cli.dashboard.tick_labels import Format

finite = st.floats(allow_nan=False, allow_infinity=False)
forms = st.sampled_from(("number", "percent", "duration", "count"))


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _labels(low: float, high: float, count: int = 5, log: bool = False, form: Format = "number"):
    return [tick.label for tick in ticks(low, high, count, log, form)]


@pytest.mark.parametrize(
    ("low", "high", "log", "form", "expected"),
    [
        (0, 1, False, "number", ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (1e-3, 5, True, "number", ["1e-3", "0.01", "0.1", "1"]),
        (1, 1e4, True, "number", ["1", "10", "100", "1000", "1e+4"]),
        (0.15, 1.1, True, "number", ["0.2", "0.5", "1"]),
        (0, 1, False, "percent", ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (0, 120, False, "duration", ["0:00", "0:30", "1:00", "1:30", "2:00"]),
        (3000, 5000, False, "duration", ["50:00", "1:00:00", "1:10:00", "1:20:00"]),
        (1, 1e5, True, "duration", ["0:01", "0:10", "1:00", "10:00", "1:00:00", "10h", "1d"]),
        (0, 1, False, "count", ["0", "1"]),
        (0, 2, False, "count", ["0", "1", "2"]),
        (0.5, 2.5, False, "count", ["1", "2"]),
        (0, 1500, False, "count", ["0", "500", "1,000", "1,500"]),
        (0, 24_000, False, "count", ["0", "5k", "10k", "15k", "20k"]),
        (0, 2e6, False, "count", ["0", "500k", "1M", "1.5M", "2M"]),
    ],
)
def test_labels_as_people_write_them(low, high, log, form, expected):
    assert _labels(low, high, len(expected), log, form) == expected


def test_a_range_below_the_digits_of_a_label_says_that_the_first_is_rounded():
    assert _labels(0.6931470, 0.6931476, 4) == ["≈0.6931", "+2e-7", "+4e-7", "+6e-7"]


@given(finite, finite, st.integers(2, 30), st.booleans(), forms)
def test_ticks_are_short_distinct_and_in_the_range(low, high, count, log, form):
    scale = Scale(low, high, log)
    found = ticks(low, high, count, log, form)
    assert all(len(tick.label) <= 7 for tick in found)
    assert len({tick.label for tick in found}) == len(found)
    assert len(found) <= 3 * count + 3
    positions = [tick.position for tick in found]
    assert positions == sorted(positions)
    places = scale.place(positions)
    assert (places >= -1e-6).all()
    assert (places <= 1 + 1e-6).all()


@given(st.floats(1e-12, 1e12), st.floats(1.01, 1e6), st.integers(2, 12), st.booleans(), forms)
def test_ordinary_ranges_have_two_ticks_at_least(low, ratio, count, log, form):
    assume(form != "duration" or low >= 1e-3)  # nothing here is timed more finely,
    assume(form != "percent" or low >= 1e-6)  # or counts more samples
    assert len(ticks(low, low * ratio, count, log, form)) >= 2


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.booleans())
def test_plain_labels_say_the_position(low, width, log):
    for tick in ticks(low, low + width, 5, log):
        if not tick.label.startswith(("≈", "+")):
            assert float(tick.label) == pytest.approx(tick.position, rel=1e-12, abs=1e-300)
        else:
            break


def test_counts_are_whole_where_the_range_allows():
    assert _labels(0, 3, 9, form="count") == ["0", "1", "2", "3"]


@given(finite, finite, st.booleans(), st.lists(st.floats(), max_size=5))
def test_places_are_bounded_or_nan(low, high, log, values):
    scale = Scale(low, high, log)
    assert math.isfinite(scale.low)
    assert math.isfinite(scale.high)
    assert scale.low < scale.high
    found = scale.place(np.array([*values, 1e308, -1e308, 1e-308, 0.0]))
    kept = found[np.isfinite(found)]
    assert (np.abs(kept) <= FAR).all()
    edges = scale.place([scale.low, scale.high])
    assert edges == pytest.approx([0, 1], abs=1e-9)


def test_logarithms_have_no_place_for_what_is_not_positive():
    found = Scale(0.1, 10, True).place([-1, 0, 1, np.nan, np.inf])
    assert np.isnan(found[[0, 1, 3, 4]]).all()
    assert found[2] == pytest.approx(0.5)


@pytest.mark.parametrize("value", [0.0, 1e10, -3.0, 1e308, 1e-308, -1.7e308])
def test_a_constant_lies_within_a_range_of_some_width(value):
    scale = Scale(value, value)
    assert 0 <= scale.place(value) <= 1
    assert scale.low < value < scale.high


@pytest.mark.parametrize("log", [False, True])
def test_values_come_back(log):
    scale = Scale(0.01, 200, log)
    for fraction in (-0.5, 0.0, 0.3, 1.0, 1.5):
        assert scale.place(scale.value(fraction)) == pytest.approx(fraction) or scale.low <= 0


@pytest.mark.parametrize("bound", [np.nan, np.inf])
def test_ranges_that_are_none(bound):
    for log in (False, True):
        assert len(ticks(0.5, bound, 4, log)) >= 2
