"""Steps of several processes on a shared mini-batch beside those of one on the whole of it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

from tests.engine.parallel import group

GROUPS = [2, 4]


@functools.cache
def results(processes):
    """Of a group of processes that take all steps, with a batch of 3 some of them without a
    sample."""
    with tempfile.TemporaryDirectory() as folder:
        return group.run("tests.engine.parallel.steps", processes, Path(folder))


@pytest.mark.parametrize("processes", GROUPS)
def test_they_are_the_same(processes):
    found = results(processes)
    assert len(found) > 60
    assert [case for case in found if not case["error"] <= case["tolerance"]] == []


@pytest.mark.parametrize("processes", GROUPS)
def test_all_processes_have_the_same_bits(processes):
    assert [case["case"] for case in results(processes) if not case["same"]] == []


@pytest.mark.parametrize("processes", GROUPS)
def test_the_ladder_is_climbed_by_all(processes):
    """From the rows anew, in float64: one more sum of gradient and Gram for the layer."""
    climbed = [case for case in results(processes) if any(case["rungs"])]
    assert len(climbed) == 2
    for case in climbed:
        assert {"1": 1} in case["rungs"]


@pytest.mark.parametrize("processes", GROUPS)
def test_what_goes_between_them_is_what_was_forecast(processes):
    found = results(processes)
    assert [c for c in found if c["forecast"] and c["traffic"] != c["forecast"]] == []
    assert sum(bool(case["forecast"]) for case in found) > 30


@pytest.mark.parametrize("processes", GROUPS)
def test_bytes_by_hand(processes):
    """Of the MLP 64-16-12-5 at 13 samples, in float32."""
    counted = {
        (case["method"], case["exchange"]): case["traffic"]
        for case in results(processes)
        if case["by_hand"]
    }
    loss, last = 1, 13 * 5
    gradients = 65 * 16 + 17 * 12
    # n x n in 8 blocks of rows, each up to its last column
    grams = sum(
        (k + 1) * n // 8 * ((k + 1) * n // 8 - k * n // 8) for n in (65, 17) for k in range(8)
    )
    padded = processes * -(-13 // processes)
    assert counted["backprop", None] == [1, 4 * (loss + last + gradients), 0]
    assert counted["cg3", "products"] == [4, 4 * (loss + last + 4 * gradients), 0]
    for name in ("exact", "cg3"):
        assert counted[name, "gram"] == [1, 4 * (loss + last + gradients + grams), 0]
        rows = padded * (64 + 16 + 16 + 12)
        assert counted[name, "rows"] == [2, 4 * (loss + last), 4 * rows]
