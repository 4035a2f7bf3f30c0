"""Whole trainings by MAC."""

from __future__ import annotations

import pytest
import torch

from engine.errors import CheckpointError
from engine.events import EpochDone
from tests.engine import small
from tests.engine.methods.test_mac import made_for, network

AUTOENCODER = {"model": {"kind": "autoencoder", "hidden": [30, 10, 30]}, "loss": "reconstruction"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_size": 1000},
        {"model__activation": "tanh", "loss": "mse"},
        {"model__activation": "sigmoid", "method__mac__mu": 1.0, "epochs": 15},
        AUTOENCODER,
    ],
    ids=str,
)
def test_it_trains(changes):
    changes = {"method__tau": 1.0, "method__tau_theta": 1.0, "epochs": 6} | changes
    _, events = small.run(small.config("mac", **changes))
    losses = [event.metrics["train_loss"] for event in events if isinstance(event, EpochDone)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("stop", [2, 5])
def test_stopped_and_resumed_equals_undisturbed(stop, tmp_path):
    config = small.config("mac", method__tau=1.0)
    whole, expected = small.run(config)
    snapshot = small.kept_at(config, stop, tmp_path)
    torch.manual_seed(99)
    resumed = small.trainer(config, resume=snapshot)
    after = list(resumed.events())
    assert small.weights(resumed) == small.weights(whole)
    rows = small.step_rows(expected)
    assert small.step_rows(after).items() <= rows.items()


def test_coordinates_of_another_network_are_refused():
    method = made_for(network())
    kept = method.tensors()
    with pytest.raises(CheckpointError, match="another network or of other samples"):
        method.restore({**kept, "z/1": kept["z/2"]})
    with pytest.raises(CheckpointError, match="another network or of other samples"):
        method.restore({})
