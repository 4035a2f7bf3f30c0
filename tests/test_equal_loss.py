"""The choice of step sizes behind the table "At equal training loss" of docs/results.md."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "docs" / "equal_loss.py"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("equal_loss", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "equal_loss", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def choose(script, monkeypatch):
    """The choice among 0.1, 0.3 and 1, and the grids that were tried for it."""

    def call(loss, seeds: int = 1) -> tuple[float, bool, list[str]]:
        grids = []

        def sweep(*arguments: str) -> dict[str, object]:
            grids.append(arguments[arguments.index("--tau") + 1])
            taus = [float(text) for text in grids[-1].split(",")]
            cells = [(tau, loss(tau, seed)) for tau in taus for seed in range(seeds)]
            return {
                "cells": [
                    {"tau": tau, "train_loss": value, "diverged": math.isinf(value)}
                    for tau, value in cells
                ]
            }

        monkeypatch.setattr(script, "proxprop", sweep)
        method = script.Method("exact", ("method.name=exact",), (1.0, 0.3, 0.1))
        problem = script.Problem("p", "p", (), (method,), seeds, 1)
        return *script.best_step_size(method, problem, []), grids

    return call


def test_the_best_in_the_middle_is_taken(choose):
    assert choose(lambda tau, _: abs(tau - 0.3)) == (0.3, False, ["0.1,0.3,1"])


@pytest.mark.parametrize(
    ("best", "grids"),
    [
        (3, ["0.1,0.3,1", "0.1,0.3,1,3", "0.1,0.3,1,3,9"]),
        (0.03, ["0.1,0.3,1", "0.03,0.1,0.3,1", "0.009,0.03,0.1,0.3,1"]),
    ],
)
def test_a_grid_is_made_wider_where_the_best_is_at_its_edge(choose, best, grids):
    assert choose(lambda tau, _: abs(tau - best)) == (best, False, grids)


def test_divergence_is_an_edge(choose):
    found = choose(lambda tau, _: math.inf if tau > 1 else 1 / tau)
    assert found == (1, False, ["0.1,0.3,1", "0.1,0.3,1,3"])
    assert choose(lambda tau, _: math.inf if tau > 0.05 else 1 / tau)[:2] == (0.03, False)


def test_what_gets_better_without_end_is_called_an_edge(choose, script):
    tau, at_edge, grids = choose(lambda tau, _: 1 / tau)
    assert at_edge
    assert len(grids) == script.WIDER + 1
    assert tau == 30


def test_the_worst_seed_counts(choose):
    assert choose(lambda tau, seed: 9 * seed if tau == 1 else tau, seeds=2)[0] < 1
