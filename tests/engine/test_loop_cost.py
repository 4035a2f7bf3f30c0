"""What an epoch costs beside its bare steps."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from torch import nn

from engine.config import RunConfig
from engine.data.dataset import Dataset, Split
from engine.events import EpochDone
from engine.training import Trainer

CPU = torch.device("cpu")


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["backprop", "exact"])
def test_an_epoch_costs_at_most_five_percent_more_than_its_steps(method):
    """The paper's MLP at batch 500; epochs and the same number of bare steps take turns."""
    config = RunConfig.model_validate(
        {
            "data": {"name": "cifar10"},
            "model": {"kind": "mlp"},
            "method": {"name": method, "tau": 1e-3},
            "optimizer": {"momentum": 0.95, "nesterov": True},
            "batch_size": 500,
            "epochs": 9,
            "device": "cpu",
        }
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    part = Split(images, torch.randint(10, (4000,), generator=generator))
    nothing = Split(images[:0], part.labels[:0])
    dataset = Dataset(
        train=part,
        validation=nothing,
        test=nothing,
        label="noise",
        digest="",
        classes=tuple("abcdefghij"),
        offset=torch.zeros(3, 32, 32),
        factor=torch.full((3, 32, 32), 1 / 255),
    )
    trainer, bare = Trainer(config, dataset, CPU), Trainer(config, dataset, CPU).learner
    inputs, labels = dataset.batch(part, torch.arange(500))

    def step():
        bare.optimizer.zero_grad()
        nn.functional.cross_entropy(bare.model(inputs), labels).backward()
        bare.optimizer.step()

    ratios = []
    for event in trainer.events():
        if not isinstance(event, EpochDone):
            continue
        start = time.perf_counter()
        for _ in range(8):
            step()
        seconds = time.perf_counter() - start
        if event.epoch > 1:
            ratios.append(event.metrics["time/epoch"] / seconds)
    assert statistics.median(ratios) <= 1.05
