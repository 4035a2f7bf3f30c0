"""How long a training will take, from a few steps of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from engine import devices
from engine.config import RunConfig
from engine.data.dataset import Dataset
from engine.learner import Learner
from engine.training import epoch_order

_STEPS = 3
_EVALUATED = 2000


def estimate_seconds(
    config: RunConfig,
    dataset: Dataset,
    device: torch.device,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds that a run will take here by the clock while nothing else runs, evaluations included,
    its time limit respected. With several threads it takes as many times more of the processor.

    Measured on a few steps and a piece of the data after one step to warm up; the weights are
    those of a fresh network, and a step that diverges later takes as long as any.

    :param dataset: samples on ``device``.
    :param clock: seconds from anywhere.
    """
    threads = torch.get_num_threads()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        learner = Learner(config, dataset, device)
        order = epoch_order(config.seed, 0, len(dataset.train)).to(device)
        batch = order[: learner.batch_size]
        step = _seconds(lambda: learner.step(batch, config.method.tau), device, clock)
        part = torch.arange(min(_EVALUATED, len(dataset.train)), device=device)
        with torch.no_grad():
            evaluation = _seconds(
                lambda: learner.model(dataset.batch(dataset.train, part)[0]), device, clock
            )
    finally:
        torch.set_num_threads(threads)
    samples = sum(map(len, (dataset.train, dataset.validation, dataset.test)))
    trained = config.epochs * math.ceil(len(dataset.train) / learner.batch_size) * step
    if config.max_seconds is not None:
        trained = min(trained, config.max_seconds)
    return trained + (config.epochs + 1) * evaluation * samples / len(part)


def _seconds(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Least of a few calls after one to warm up."""
    times = []
    for _ in range(1 + _STEPS):
        devices.synchronize(device)
        begin = clock()
        call()
        devices.synchronize(device)
        times.append(clock() - begin)
    return min(times[1:])
