"""What of the state of a training is not finite: it ends the run, and is in no checkpoint."""

from __future__ import annotations

import pytest
import torch

from engine.events import CheckpointDue, EpochDone
from tests.engine import small
from tests.reliability.report import MORE, promise

BATCH_NORM = {"kind": "convnet", "channels": [4], "kernel": 3, "pools": 1, "batch_norm": True}
ADAM = {"name": "adam", "momentum": 0.0, "nesterov": False}


def stepped(method, steps=1, **settings):
    """A learner that has made a step."""
    learner = small.trainer(small.config(method, method__tau=0.01, **settings)).learner
    for _ in range(steps):
        learner.step(torch.arange(learner.batch_size), 0.01)
    return learner


def broken(learner, key, value):
    tensor = learner.tensors()[key]
    assert learner.not_finite() == ""
    tensor.view(-1)[-1] = value
    return learner.not_finite()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    ("method", "settings", "key", "words"),
    [
        ("exact", {}, "model/1.weight", "weights are not finite (1.weight)"),
        (
            "exact",
            {"model": BATCH_NORM},
            "model/1.running_var",
            "statistics are not finite (1.running_var)",
        ),
        (
            "backprop",
            {"optimizer": ADAM},
            "optimizer/0/exp_avg_sq",
            "state of the optimizer is not finite (0/exp_avg_sq)",
        ),
        ("soap", {}, "optimizer/0/Q/[0]=axes 1,0", "optimizer"),
        ("mac", {}, "method/z/1", "state of the method is not finite (z/1)"),
        ("admm", {}, "method/multiplier", "state of the method is not finite (multiplier)"),
        (
            "kfac",
            {"method__kfac__update_every": 5},
            "method/blocks/1/inverse",
            "state of the method is not finite (blocks/1/inverse)",
        ),
    ],
)
def test_all_that_is_in_a_checkpoint_is_looked_at(method, settings, key, words, value):
    learner = stepped(method, **settings)
    if key not in learner.tensors():
        key = next(name for name in learner.tensors() if name.startswith(key.partition("=")[0]))
    assert words in broken(learner, key, value)


def test_weights_are_told_of_first():
    learner = stepped("backprop", optimizer=ADAM)
    with torch.no_grad():
        for tensor in learner.tensors().values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
    assert learner.not_finite().startswith("weights are not finite")


def test_large_numbers_are_finite():
    learner = stepped("exact")
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.fill_(3e38)
    assert learner.not_finite() == ""


@promise(
    MORE,
    "statistics of batch normalisation, or the state of an optimiser, overflow",
    "the run has diverged; the last finite checkpoint stays",
)
@pytest.mark.parametrize("key", ["model/1.running_var", "optimizer/0/exp_avg_sq"])
def test_no_checkpoint_has_infinite_state(key):
    config = small.config("exact", model=BATCH_NORM, optimizer=ADAM, method__tau=0.01, epochs=4)
    made = small.trainer(config)
    kept = []
    for event in made.events():
        if isinstance(event, CheckpointDue):
            kept.append(event.step)
            tensors = made.snapshot().tensors.values()
            assert all(t.isfinite().all() for t in tensors if t.is_floating_point())
        if isinstance(event, EpochDone) and event.epoch == 2:
            made.learner.tensors()[key].fill_(torch.inf)
    assert kept == [4]
    assert event.status == "diverged"
