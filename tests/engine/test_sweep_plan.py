"""What a sweep is made of, and what its parts are called."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.runs import is_valid_id
from engine.sweep_plan import Row, cell_config, is_same_run, plan_sweep, run_id, schedule, thrifty
from engine.sweeps import load_sweep, save_sweep
from tests.engine.small import config


def rows(taus: tuple[float, ...] = (1.0, 0.1), **settings: object) -> list[Row]:
    return [Row(name, config(name, **settings), taus) for name in ("backprop", "cg3")]


def test_every_row_tau_and_seed_is_a_run_of_its_own() -> None:
    sweep = plan_sweep("digits", rows(), (0, 1, 2))
    assert len(sweep.cells) == 12
    assert len({cell.run for cell in sweep.cells}) == 12
    for cell in sweep.cells:
        assert is_valid_id(str(cell.run))
        made = cell_config(sweep, cell)
        assert (made.method.name, made.method.tau, made.seed) == (cell.method, cell.tau, cell.seed)
        assert cell.run == run_id(made)
        # all else is the row's
        assert made.model_copy(update={"seed": 0, "method": None}) == config().model_copy(
            update={"method": None}
        )
    assert {cell.tau_theta for cell in sweep.cells if cell.method == "backprop"} == {None}
    assert {cell.tau_theta for cell in sweep.cells if cell.method == "cg3"} == {0.1}


def test_the_same_content_has_the_same_names_and_other_content_others() -> None:
    one = plan_sweep("digits", rows(), (0, 1))
    assert is_valid_id(one.id)
    again = plan_sweep("another title", rows(taus=(0.1, 1.0)), (1, 0), level=0.3)
    assert again.id == one.id
    assert {cell.run for cell in again.cells} == {cell.run for cell in one.cells}
    larger = plan_sweep("digits", rows(taus=(1.0, 0.1, 0.01)), (0, 1))
    assert larger.id != one.id
    assert {cell.run for cell in one.cells} < {cell.run for cell in larger.cells}
    others = plan_sweep("digits", rows(batch_size=99), (0, 1))
    assert not {cell.run for cell in one.cells} & {cell.run for cell in others.cells}
    assert plan_sweep("digits", rows(), (0, 1), kind="comparison").id != one.id


def test_labels_and_threads_are_no_content() -> None:
    plain = config()
    labelled = config(name="mine", preset="p", data__label="my digits")
    assert run_id(plain) == run_id(labelled)
    assert is_same_run(plain, labelled.model_copy(update={"threads": 2}))
    assert run_id(plain) == run_id(thrifty(plain))
    assert is_same_run(plain, thrifty(plain))
    assert not is_same_run(plain, config(epochs=3))


def test_a_sweep_goes_through_its_file_whole(tmp_path: Path) -> None:
    sweep = plan_sweep("digits", rows(), (0,), level=0.25)
    save_sweep(tmp_path, sweep)
    found = load_sweep(tmp_path, sweep.id)
    assert found == sweep
    assert cell_config(found, found.cells[-1]) == cell_config(sweep, sweep.cells[-1])
    with pytest.raises(ConfigError, match="no configuration for the row"):
        cell_config(replace(found, configs={}), found.cells[0])


def test_too_many_runs_are_refused_with_their_number() -> None:
    many = tuple(1 + i / 1000 for i in range(1000))
    with pytest.raises(ConfigError, match=r"200,000 runs .* 1,000 allowed; --max-runs"):
        plan_sweep("digits", rows(many), range(100))
    with pytest.raises(ConfigError, match=r"2,000,000 runs .* 100,000 allowed; make the grid"):
        plan_sweep("digits", rows(many), range(1000), max_runs=10**9)
    assert len(plan_sweep("digits", rows(many), (0,), max_runs=2000).cells) == 2000


@pytest.mark.parametrize(
    ("bad", "seeds", "text"),
    [
        (rows((1.0, 1.0)), (0,), "step size 1.0 is there more than once"),
        (rows() + rows(), (0,), "row backprop is there more than once"),
        (rows(), (0, 0), "seed 0 is there more than once"),
        (rows(()), (0,), "at least one"),
        (rows((-1.0,)), (0,), "tau"),
        (rows((float("nan"),)), (0,), "tau"),
        ([Row("a", config(), (1.0,)), Row("b", config(), (1.0,))], (0,), "are the same runs"),
    ],
)
def test_what_makes_no_sense_is_refused(bad: list[Row], seeds: tuple[int, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        plan_sweep("digits", bad, seeds)


def test_the_picture_comes_first_and_its_details_later() -> None:
    taus = tuple(10.0**-i for i in range(9))
    ordered = schedule(plan_sweep("digits", rows(taus), (5, 6)).cells)
    assert len(ordered) == 36
    assert {cell.seed for cell in ordered[:18]} == {5}
    first = [(cell.tau, cell.label) for cell in ordered[:6]]
    assert first == [(t, r) for t in (taus[0], taus[8], taus[4]) for r in ("backprop", "cg3")]
    # at any time no gap is more than twice as wide as another
    for count in range(2, 9):
        known = sorted(taus.index(cell.tau) for cell in ordered[: 2 * count : 2])
        gaps = [b - a for a, b in itertools.pairwise(known)]
        assert known[0] == 0
        assert known[-1] == 8
        assert max(gaps) <= 2 * min(gaps)
    assert [cell.tau for cell in schedule(plan_sweep("d", rows((2.0,)), (0,)).cells)] == [2.0, 2.0]
