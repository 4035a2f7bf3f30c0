import dataclasses
import time
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxprop_cli.dashboard.axes import Scale
from proxprop_cli.dashboard.lines import Line, points
from proxprop_cli.dashboard.marks import BROKEN
from proxprop_cli.dashboard.raster import Raster, rasterize

UNIT = Scale(0, 1)


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _line(x, y, **changes) -> Line:
    line = points("line", 0, np.asarray(x, float), np.asarray(y, float))
    return dataclasses.replace(line, **changes)


def _lit(raster: Raster) -> npt.NDArray[np.bool_]:
    """Dots as (4 * rows, 2 * columns), by the numbers of Unicode's chart of Braille patterns."""
    rows, columns = raster.dots.shape
    lit = np.zeros((4 * rows, 2 * columns), bool)
    for number, (row, column) in enumerate(
        [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]
    ):
        lit[row::4, column::2] = raster.dots >> number & 1
    return lit


def test_a_diagonal_is_one_dot_in_every_column():
    raster = rasterize([_line([0, 1], [0, 1])], UNIT, UNIT, 4, 2)
    assert np.array_equal(_lit(raster), np.eye(8, dtype=bool)[::-1])
    # Cells off the diagonal are nobody's.
    assert raster.owner.tolist() == [[-1, -1, 0, 0], [0, 0, -1, -1]]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(1, 30), st.integers(1, 10))
def test_a_joined_curve_has_no_holes(values, columns, rows):
    x = np.linspace(0, 1, len(values))
    lit = _lit(rasterize([_line(x, values)], UNIT, UNIT, columns, rows))
    assert lit.any(axis=0).all()
    for left, right in zip(lit.T[:-1], lit.T[1:], strict=True):
        near = left.copy()
        near[1:] |= left[:-1]
        near[:-1] |= left[1:]
        assert (near & right).any()


def test_spikes_stay():
    x = np.linspace(0, 1, 5000)
    y = np.full(5000, 0.1)
    y[1234] = 1.0
    assert _lit(rasterize([_line(x, y)], UNIT, UNIT, 10, 4))[0].any()
    bucket = _line(
        [0, 0.5, 1], [0.1, 0.1, 0.1], low=np.array([0.1, 0, 0.1]), high=np.array([0.1, 1, 0.1])
    )
    assert _lit(rasterize([bucket], UNIT, UNIT, 10, 4))[:, 10].all()


def test_gaps_are_not_joined():
    x = np.linspace(0, 1, 5)
    for line in (
        _line(x, [0, 0, np.nan, 1, 1]),
        _line(x, [0, 0, 0.5, 1, 1], broken=np.array([0, 0, 1, 0, 0], bool)),
    ):
        lit = _lit(rasterize([line], UNIT, UNIT, 20, 4))
        assert not lit[:, 11:19].any()
        assert not lit[:, 21:29].any()
        assert lit[-1, :10].all()
        assert lit[0, 30:].all()


def test_a_gap_in_one_column_joins_nothing_across_it():
    line = _line([0.500, 0.501, 0.502], [0, np.nan, 1])
    lit = _lit(rasterize([line], UNIT, UNIT, 10, 4))
    assert lit.sum() == 2


def test_lines_lead_to_the_edges_of_a_window():
    line = _line([0, 10], [0, 1])
    lit = _lit(rasterize([line], Scale(4, 6), UNIT, 10, 4))
    assert lit.any(axis=0).all()
    middle = np.flatnonzero(lit.any(axis=1))
    assert 5 <= middle.min() <= middle.max() <= 10
    assert rasterize([line], Scale(20, 30), UNIT, 10, 4).dots.sum() == 0


def test_values_above_and_below_the_window_are_cut_off():
    lit = _lit(rasterize([_line([0, 1], [-1, 2])], UNIT, UNIT, 9, 3))
    assert lit.any(axis=1).all()
    assert not lit[:, :5].any()
    assert not lit[:, 13:].any()


def test_the_smoothed_line_is_bright_before_the_dim_raw_one():
    x = np.linspace(0, 1, 20)
    line = _line(x, np.tile([0.0, 1.0], 10), smooth=np.full(20, 0.5))
    raster = rasterize([line], UNIT, UNIT, 10, 6)
    bright = (raster.owner == 0) & ~raster.dim
    assert bright[2:4].any(axis=0).all()
    assert raster.dim[0].all()
    assert not raster.dim[raster.dots == 0].any()
    # Nothing of the raw line is left in a bright cell: one dot in every column.
    assert _lit(raster)[8:16][:, :].sum(axis=0).min() >= 1


def test_later_lines_lie_on_top():
    lines = [_line([0, 1], [0.5, 0.5]), _line([0, 0.4], [0.5, 0.5])]
    owner = rasterize(lines, UNIT, UNIT, 10, 1).owner[0]
    assert owner.tolist() == [1] * 5 + [0] * 5 or owner.tolist() == [1] * 4 + [0] * 6


def test_marks_of_broken_values_and_of_ends():
    x = np.linspace(0, 1, 5)
    raster = rasterize([_line(x, [0, 0, np.nan, np.inf, 1])], UNIT, UNIT, 20, 4)
    assert [(m.row, m.character) for m in raster.marks] == [(3, BROKEN), (0, "●")]
    first = rasterize([_line(x, [np.inf, 0, 0, 0, 0], end="✖ diverged")], UNIT, UNIT, 20, 4)
    assert (first.marks[0].row, first.marks[0].column) == (0, 0)
    assert first.marks[-1].character == "✖"
    assert first.marks[-1][:2] == (3, 19)
    assert not rasterize([_line([0, 2], [0, 1])], UNIT, UNIT, 20, 4).marks


hostile = st.lists(
    st.one_of(st.floats(), st.sampled_from([1e308, -1e308, 1e-308, np.inf, np.nan, 0.0])),
    max_size=12,
)


@given(hostile, st.integers(0, 5), st.integers(0, 3), st.booleans(), st.booleans(), st.booleans())
def test_nothing_hostile_raises(values, columns, rows, log, smooth, wild):
    x = np.array(values) if wild else np.arange(float(len(values)))
    line = _line(x, values)
    if smooth:
        line = dataclasses.replace(line, smooth=line.mean[::-1])
    line = dataclasses.replace(line, high=np.array(values))
    finite = line.mean[np.isfinite(line.mean)]
    low, high = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
    for y_scale in (Scale(low, high, log), UNIT):
        raster = rasterize([line, line], Scale(0, 5), y_scale, columns, rows)
        assert raster.dots.shape == (rows, columns)
        assert ((raster.owner >= 0) == (raster.dots > 0)).all()
        for mark in raster.marks:
            assert 0 <= mark.row < rows
            assert 0 <= mark.column < columns


def test_no_lines_and_one_point():
    assert not rasterize([], UNIT, UNIT, 4, 4).dots.any()
    assert not rasterize([_line([], [])], UNIT, UNIT, 4, 4).dots.any()
    assert _lit(rasterize([_line([0.5], [0.5])], UNIT, UNIT, 4, 4)).sum() == 1


@pytest.mark.timing
def test_fifty_lines_are_drawn_in_time():
    x = np.arange(2000.0)
    noise = np.random.default_rng(0).random((50, 2000))
    lines = [
        Line(str(i), i, x, y - 0.1, y + 0.1, y, np.zeros(2000, bool))
        for i, y in enumerate(np.exp(-x / 700) + 0.1 * noise)
    ]
    took = []
    for _ in range(5):
        start = time.perf_counter()
        rasterize(lines, Scale(0, 2000), Scale(-0.1, 1.2), 200, 60)
        took.append(time.perf_counter() - start)
    # Several times what it takes: the machine may be busy with something else.
    assert min(took) < 0.2


def test_a_band_is_stippled_behind_all_lines():
    x = np.linspace(0, 1, 9)
    band = _line(x, [0.5] * 9, low=np.full(9, 0.2), high=np.full(9, 0.8), band=True)
    other = _line([0, 1], [0.7, 0.7])
    raster = rasterize([other, band], UNIT, UNIT, 10, 8)
    lit = _lit(raster)
    inside = lit[8:12]  # between the two lines
    assert 0 < inside.sum() <= inside.size / 2
    assert inside.any(axis=0).all()
    assert not lit[:4].any()
    assert not lit[-4:].any()
    assert lit[9].all() or lit[10].all()  # the other line lies on top, though it came first
    assert not raster.dim[2].any()
    assert raster.owner[2].tolist() == [0] * 10
    assert raster.dim[5].all()


def test_marks_along_lines_are_in_columns_of_their_own_and_not_over_gaps():
    x = np.linspace(0, 1, 200)
    lines = [dataclasses.replace(_line(x, [y] * 200), series=n) for n, y in enumerate((0.2, 0.5))]
    bare = rasterize(lines, UNIT, UNIT, 60, 10)
    assert len(bare.marks) == 2
    marks = rasterize(lines, UNIT, UNIT, 60, 10, marked=True).marks
    places = {line.glyph: [m.column for m in marks if m.character == line.glyph] for line in lines}
    first, second = places.values()
    assert len(first) >= 3
    assert len(second) >= 3
    assert not set(first[:-1]) & set(second[:-1])  # but for their ends
    y = np.full(200, 0.5)
    y[20:180] = np.nan
    gap = _line(x, y, broken=np.isnan(y))
    marks = rasterize([gap], UNIT, UNIT, 60, 10, marked=True).marks
    assert all(m.character == BROKEN or not 8 < m.column < 52 for m in marks)
