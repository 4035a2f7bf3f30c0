"""Sweeps as CSV: exact, harmless in a spreadsheet, both forms telling the same."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cells import WAITING, CellState, read_cell
from engine.comparison import Comparison, RowResult, Statistic
from engine.errors import StorageError
from engine.sweep_export import COLUMNS, export_means, export_sweep
from engine.sweeps import Cell, Sweep
from tests.dashboard.sweep_helper import Made, make_sweep

ENDED = CellState("finished", 0.5)
HOSTILE = [
    "=1+1",
    "+x",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    'a "quoted", one\nand a line\r',
    "é\x00\x1b[31m",
]


def text_of(sweep: Sweep, states: Sequence[CellState], *, grid: bool = False) -> str:
    stream = io.StringIO()
    export_sweep(sweep, states, stream, grid=grid)
    return stream.getvalue()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def sweep_of(*cells: Cell, level: float | None = None) -> Sweep:
    return Sweep("sweep", "digits-mlp", 20, 1.7e9, cells, level=level)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Sweep, list[CellState]]:
    sweep = make_sweep(
        tmp_path,
        [
            ("backprop", 1.0, 0, Made("diverged", math.nan, 0.1, 2, bad_step=41)),
            ("backprop", 1.0, 1, Made(loss=0.3)),
            ("backprop", 1e-7, 0, Made(loss=0.1)),
            ("backprop", 1e-7, 1, Made(loss=0.2)),
            ("cg3", 1.0, 0, Made("finished", math.inf)),
            ("cg3", 1e-7, 0, Made("paused", 1 / 3, 0.5, 7.25)),
            ("cg3", 0.5, 0, Made(None)),
        ],
    )
    return sweep, [read_cell(tmp_path, cell) for cell in sweep.cells]


def test_the_long_form_exactly(made: tuple[Sweep, list[CellState]]) -> None:
    assert text_of(*made) == (
        "run,row,method,tau,tau_theta,seed,status,epochs,train_loss,val_loss,val_accuracy,"
        "test_loss,test_accuracy,seconds,first_bad_step,cause\n"
        "sweep-0,backprop,backprop,1.0,,0,diverged,2.0,nan,,0.1,,,,41,the loss is not finite\n"
        "sweep-1,backprop,backprop,1.0,,1,finished,20.0,0.3,,0.9,,,,,\n"
        "sweep-2,backprop,backprop,1e-07,,0,finished,20.0,0.1,,0.9,,,,,\n"
        "sweep-3,backprop,backprop,1e-07,,1,finished,20.0,0.2,,0.9,,,,,\n"
        "sweep-4,cg3,cg3,1.0,0.05,0,diverged,20.0,inf,,0.9,,,,,\n"
        "sweep-5,cg3,cg3,1e-07,0.05,0,paused,7.25,0.3333333333333333,,0.5,,,,,\n"
        ",cg3,cg3,0.5,0.05,0,waiting,0.0,,,,,,,,\n"
    )


def test_the_grid_exactly(made: tuple[Sweep, list[CellState]]) -> None:
    level = 2.303 - 0.5 * (2.303 - statistics.median([0.1, 0.2]))
    assert text_of(*made, grid=True) == (
        "row,1.0,0.5,1e-07,best_tau,stable_width_decades,at_edge,level,complete\n"
        f"backprop,diverged 1/2,,0.15000000000000002,1e-07,0.0,true,{level!r},true\n"
        f"cg3,diverged 1/1,,,,,,{level!r},false\n"
    )


def test_a_width_within_the_grid_is_no_lower_bound() -> None:
    states = [CellState("finished", loss, initial_loss=2.0) for loss in (1.9, 0.1, 0.2, 1.9)]
    sweep = sweep_of(*(Cell("exact", tau, 1.0, 0) for tau in (1000.0, 10.0, 1.0, 0.1)), level=0.5)
    (row,) = rows_of(text_of(sweep, states, grid=True))
    assert (row["best_tau"], row["stable_width_decades"]) == ("10.0", "1.0")
    assert (row["at_edge"], row["level"]) == ("false", "0.5")


def test_what_json_has_as_integers_is_written_like_other_numbers() -> None:
    sweep = sweep_of(Cell("exact", 1, 2, 0), Cell("exact", 0.5, 2, 0), level=1)
    states = [CellState("finished", 3, 1, 20.0, 4), CellState("finished", 0.5, 1, 20.0, 4)]
    assert text_of(sweep, states).splitlines()[1:] == [
        ",exact,exact,1.0,2.0,0,finished,20.0,3.0,,1.0,,,,,",
        ",exact,exact,0.5,2.0,0,finished,20.0,0.5,,1.0,,,,,",
    ]
    assert text_of(sweep, states, grid=True) == (
        "row,1.0,0.5,best_tau,stable_width_decades,at_edge,level,complete\n"
        "exact,3.0,0.5,0.5,0.0,true,1.0,true\n"
    )


def test_the_means_of_a_comparison_exactly() -> None:
    two = Statistic(0.3, 0.1, 2, 0.9)
    rows = (
        RowResult("a", 1, ("r", "s"), (ENDED, ENDED), {"train_loss": two, "seconds_at_loss": two}),
        RowResult("=b", 0.5, ("t",), (ENDED,), {"train_loss": Statistic(1, math.nan, 1, math.nan)}),
        RowResult("c", 0.5, ("u",), (CellState("diverged"),), {}),
        RowResult("d", 0.5, ("v",), (WAITING,), {}),
    )
    stream = io.StringIO()
    assert export_means(Comparison(rows, 0.5), stream) == 5
    assert stream.getvalue() == (
        "row,tau,seeds,diverged,figure,mean,sd,ci95,n,common_train_loss,complete\n"
        "a,1.0,2,0,train_loss,0.3,0.1,0.9,2,0.5,true\n"
        "a,1.0,2,0,seconds_at_loss,0.3,0.1,0.9,2,0.5,true\n"
        "'=b,0.5,1,0,train_loss,1.0,,,1,0.5,true\n"
        "c,0.5,1,1,,,,,0,0.5,true\n"
        "d,0.5,1,0,,,,,0,0.5,false\n"
    )


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_texts_are_read_back_and_start_no_formula(label: str) -> None:
    sweep = sweep_of(Cell("exact", 1.0, 1.0, 0, "run-1", label))
    states = [CellState("unreadable", cause=label)]
    (row,) = rows_of(text_of(sweep, states))
    assert row["row"].removeprefix("'") == row["cause"].removeprefix("'") == label
    (line,) = rows_of(text_of(sweep, states, grid=True))
    assert line["row"] == row["row"]
    for text in (row["row"], row["cause"]):
        assert text[0] not in "=+-@\t\r\n"


def test_a_lone_surrogate_can_be_written(tmp_path: Path) -> None:
    sweep = sweep_of(Cell("exact", 1.0, 1.0, 0, None, "a\ud800b"))
    for grid in (False, True):
        assert export_sweep(sweep, [WAITING], tmp_path / "out.csv", grid=grid) == 1
        assert "a\\ud800b," in (tmp_path / "out.csv").read_text(encoding="utf-8")


STATES = st.builds(
    CellState,
    st.sampled_from(["waiting", "running", "paused", "finished", "stopped", "diverged"]),
    st.none() | st.floats(),
    st.none() | st.floats(0, 1),
    st.floats(0, 20),
    st.none() | st.floats(0, 10),
    st.none() | st.integers(0, 2**53),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=3, unique=True),
    st.lists(st.floats(5e-324, 1e308), min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
    st.data(),
)
def test_both_forms_tell_the_same(
    labels: list[str], taus: list[float], seeds: int, data: st.DataObject
) -> None:
    places = list(product(labels, taus, range(seeds)))
    sweep = sweep_of(*(Cell("exact", tau, 1.0, seed, None, row) for row, tau, seed in places))
    states = data.draw(st.lists(STATES, min_size=len(places), max_size=len(places)))
    long = rows_of(text_of(sweep, states))
    assert tuple(long[0]) == COLUMNS
    assert len(long) == len(places)
    grid = rows_of(text_of(sweep, states, grid=True))
    assert [row["row"] for row in grid] == list(dict.fromkeys(row["row"] for row in long))
    for line in grid:
        ended = [row["status"] for row in long if row["row"] == line["row"]]
        assert line["complete"] == str({*ended} <= {"finished", "diverged"}).lower()
        columns = [name for name in line if name.replace(".", "").replace("e", "")[:1].isdigit()]
        assert [float(name) for name in columns] == sorted(taus, reverse=True)
        for column in columns:
            seen = [row for row in long if row["row"] == line["row"] and row["tau"] == column]
            assert len(seen) == seeds
            losses = [float(row["train_loss"]) for row in seen if row["train_loss"]]
            bad = sum(
                row["status"] == "diverged"
                or (row["train_loss"] != "" and not math.isfinite(float(row["train_loss"])))
                for row in seen
            )
            if bad:
                assert line[column] == f"diverged {bad}/{seeds}"
            elif losses and all(row["status"] == "finished" for row in seen):
                assert float(line[column]) == statistics.median(losses)
            else:
                assert line[column] == ""


def test_a_file_is_replaced_or_left_as_it_was(
    made: tuple[Sweep, list[CellState]], tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    out, link = place / "out.csv", place / "link.csv"
    out.write_text("old")
    link.symlink_to(out)
    with pytest.raises(ValueError, match="shorter"):
        export_sweep(made[0], made[1][:-1], out)
    assert out.read_text() == "old"
    assert export_sweep(*made, link) == 7
    assert link.is_symlink()
    assert out.read_text() == text_of(*made)
    assert export_sweep(*made, out, grid=True) == 2
    assert out.read_text() == text_of(*made, grid=True)
    assert sorted(path.name for path in place.iterdir()) == ["link.csv", "out.csv"]
    with pytest.raises(StorageError, match="missing"):
        export_sweep(*made, place / "missing" / "out.csv")
