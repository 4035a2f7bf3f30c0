"""Steps of several processes on a shared mini-batch beside those of one on the whole of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engine.parallel import group, steps, threads

Results = list[dict[str, Any]]


def check(results: Results, processes: int) -> None:
    """See that a team of processes took every step as one process does, with a batch of 1 or 3
    some of them without a sample."""
    assert len(results) > 60
    assert [case for case in results if not case["error"] <= case["tolerance"]] == []
    assert [case["case"] for case in results if not case["same"]] == [], "bits differ"
    check_ladder(results)
    check_traffic(results)
    check_bytes(results, processes)


def check_ladder(results: Results) -> None:
    """All climb it together: from the rows anew, in float64, with one more sum of gradient and Gram
    for the layer."""
    climbed = [case for case in results if any(case["rungs"])]
    assert len(climbed) == 2
    for case in climbed:
        assert {"1": 1} in case["rungs"]


def check_traffic(results: Results) -> None:
    """What goes between the processes is what was forecast."""
    assert [c for c in results if c["forecast"] and c["traffic"] != c["forecast"]] == []
    assert sum(bool(case["forecast"]) for case in results) > 30


def check_bytes(results: Results, processes: int) -> None:
    """Count the bytes by hand, of the MLP 64-16-12-5 at 13 samples, in float32."""
    counted = {
        (case["method"], case["exchange"]): case["traffic"] for case in results if case["by_hand"]
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


def test_threads_take_the_steps_of_one_process():
    results, *_ = threads.run(2, steps.run)
    check(json.loads(json.dumps(results)), 2)


@pytest.mark.system
def test_processes_take_the_steps_of_one_process(tmp_path):
    """Over gloo, as torchrun has it."""
    check(group.run("tests.engine.parallel.steps", 3, tmp_path), 3)
