"""Whole trainings by ADMM."""

from __future__ import annotations

import pytest
import torch

from engine.errors import CheckpointError
from engine.events import EpochDone
from tests.engine import small
from tests.engine.methods.test_admm import made_for, network


def test_it_trains_with_all_samples_at_once():
    config = small.config("admm", method__tau=1.0, model__hidden=[40], epochs=15)
    made, events = small.run(config)
    assert made.step == 15
    metrics = [event.metrics for event in events if isinstance(event, EpochDone)]
    assert metrics[-1]["train_loss"] < 0.5 * metrics[0]["train_loss"]
    assert metrics[-1]["val_accuracy"] > 0.75


def test_an_autoencoder_trains():
    changes = {"model": {"kind": "autoencoder", "hidden": [40]}, "loss": "reconstruction"}
    _, events = small.run(small.config("admm", method__tau=1.0, epochs=15, **changes))
    losses = [event.metrics["train_loss"] for event in events if isinstance(event, EpochDone)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("stop", [1, 4])
def test_stopped_and_resumed_equals_undisturbed(stop, tmp_path):
    config = small.config("admm", method__tau=0.9, epochs=6, method__admm__warm_up=2)
    whole, expected = small.run(config)
    snapshot = small.kept_at(config, stop, tmp_path)
    torch.manual_seed(99)
    resumed = small.trainer(config, resume=snapshot)
    after = list(resumed.events())
    assert small.weights(resumed) == small.weights(whole)
    assert small.step_rows(after).items() <= small.step_rows(expected).items()


def test_variables_of_another_network_are_refused():
    method = made_for(network())
    kept = method.tensors()
    with pytest.raises(CheckpointError, match="another network or of other samples"):
        method.restore({**kept, "multiplier": kept["a/1"]})
