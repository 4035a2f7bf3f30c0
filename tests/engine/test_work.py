"""The unit of work, against a count of what BackProp really multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from engine.config import MethodConfig
from engine.models import build_model
from engine.work import backprop_products
from tests.engine import small


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "mlp", "hidden": [7, 5], "batch_norm": True},
        {"kind": "convnet", "channels": [3, 4], "kernel": 3, "pools": 1},
    ],
)
def test_counts_the_products_of_a_step(model):
    config = small.config(model=model)
    shape = (2, 8, 8)
    plain = build_model(config.model, MethodConfig(name="backprop"), shape, 10)
    with FlopCounterMode(display=False) as counter:
        loss = plain(torch.rand(6, *shape))
        nn.functional.cross_entropy(loss, torch.zeros(6, dtype=torch.long)).backward()
    assert backprop_products(plain, shape, 6) == counter.get_total_flops() // 2
    assert plain.training
    proximal = build_model(config.model, MethodConfig(name="exact"), shape, 10)
    assert backprop_products(proximal, shape, 6) == backprop_products(plain, shape, 6)
