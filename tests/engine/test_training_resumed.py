"""Trainings that were stopped and go on from a checkpoint."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from engine import checkpoint
from engine.errors import CheckpointError
from engine.events import (
    CheckpointDue,
    RunEnded,
    SolverTrace,
    StepsDone,
)
from tests.engine import small
from tests.engine.test_training import METHODS, of_kind


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [1, 3, 4, 6])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_stopped_and_resumed_equals_undisturbed(method, stop, optimizer, tmp_path):
    changes = {"optimizer.name": optimizer}
    if optimizer == "muon":
        changes |= {"method.tau": 0.01}
    if optimizer == "adam":
        changes |= {"method.tau": 0.01, "optimizer.momentum": 0.0, "optimizer.nesterov": False}
    changes = {key.replace(".", "__"): value for key, value in changes.items()}
    config = small.config(method, schedule__name="cosine", **changes)
    whole, expected = small.run(config)
    script = small.stopping_at(stop)
    made = small.trainer(config, script)
    script.trainer = made
    before = []
    hashes = None
    for event in made.events():
        before.append(event)
        if isinstance(event, CheckpointDue):
            hashes = checkpoint.write(tmp_path, event.step, made.snapshot())
    assert before[-1] == RunEnded(stop, stop // 4, "stopped", "script")
    torch.manual_seed(99)  # what the process did meanwhile must not matter
    resumed = small.trainer(config, resume=checkpoint.read(tmp_path, stop, hashes))
    after = list(resumed.events())
    assert after[0].resumed
    assert small.weights(resumed) == small.weights(whole)
    rows = small.step_rows(before) | small.step_rows(after)
    assert rows == small.step_rows(expected)
    assert len(small.step_rows(before)) + len(small.step_rows(after)) == len(rows)


@pytest.mark.parametrize("method", METHODS)
def test_work_counts_the_solver_and_goes_on_after_a_break(method, tmp_path):
    config = small.config(method)
    whole, events = small.run(config)
    work = [v for block in of_kind(events, StepsDone) for v in block.values["work"]]
    traces = of_kind(events, SolverTrace)
    extra = traces[0].products / whole.environment()["backprop_products"] if traces else 0.0
    assert work == pytest.approx([(1 + extra) * step for step in range(1, 9)])
    assert (extra > 0) == (method != "backprop")
    snapshot = small.kept_at(config, 5, tmp_path)
    resumed = small.trainer(config, resume=snapshot)
    later = [v for b in of_kind(list(resumed.events()), StepsDone) for v in b.values["work"]]
    assert later == pytest.approx(work[5:])


def test_time_and_the_best_accuracy_go_on_after_a_break(tmp_path):
    """Seconds count on, and an epoch worse than the best before the break is not the best."""
    config = small.config(epochs=6, method__tau=0.2)
    _, expected = small.run(config)
    script = small.stopping_at(14)
    made = small.trainer(config, script)
    script.trainer = made
    before = []
    for event in made.events():
        before.append(event)
        if isinstance(event, CheckpointDue):
            hashes = checkpoint.write(tmp_path, event.step, made.snapshot())
            step = event.step
    resumed = small.trainer(config, resume=checkpoint.read(tmp_path, step, hashes))
    after = list(resumed.events())
    seconds = [
        value
        for block in of_kind(before + after, StepsDone)
        for value in block.values["time/train"]
    ]
    assert all(a < b for a, b in pairwise(seconds))
    best = [event.step for event in of_kind(expected, CheckpointDue) if event.best]
    assert best[0] < 14
    state = checkpoint.read(tmp_path, step, hashes)
    perfect = checkpoint.Snapshot(state.tensors, {**state.meta, "best": 1.0})
    unbeaten = small.trainer(config, resume=perfect).events()
    assert not any(event.best for event in unbeaten if isinstance(event, CheckpointDue))
    assert [e.step for e in of_kind(before + after, CheckpointDue) if e.best] == best


def test_a_state_of_another_network_is_refused(tmp_path):
    made = small.trainer(small.config())
    hashes = checkpoint.write(tmp_path, 0, made.snapshot())
    state = checkpoint.read(tmp_path, 0, hashes)
    with pytest.raises(CheckpointError, match="another network"):
        small.trainer(small.config(model__hidden=[13]), resume=state)
