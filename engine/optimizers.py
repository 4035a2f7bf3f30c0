"""Optimisers and step-size schedules of the configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from engine.config import OptimizerConfig, ScheduleConfig


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], tau: float
) -> torch.optim.Optimizer:
    """The optimiser that turns directions into updates; its learning rate is the paper's tau."""
    match config.name:
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=tau,
                momentum=config.momentum,
                nesterov=config.nesterov,
                weight_decay=config.weight_decay,
            )
        case "adam" | "adamw":
            kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
            return kind(
                parameters,
                lr=tau,
                betas=(config.beta1, config.beta2),
                eps=config.eps,
                weight_decay=config.weight_decay,
            )


def step_size(config: ScheduleConfig, tau: float, epoch: float, epochs: int) -> float:
    """tau of the step that starts after ``epoch`` (fractional) of ``epochs``.

    A pure function of the position, so that a resumed run needs no schedule state. The warm-up
    multiplies whatever the schedule gives, and never is zero.
    """
    match config.name:
        case "constant":
            factor = 1.0
        case "inverse-time":
            factor = 1.0 / (1.0 + config.decay * epoch)
        case "cosine":
            progress = min(1.0, epoch / max(epochs, 1))
            factor = config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress))
        case "step":
            factor = config.gamma ** math.floor(epoch / config.step_epochs + 1e-9)
    if epoch < config.warmup_epochs:
        factor *= max(epoch, 1e-3 * config.warmup_epochs) / config.warmup_epochs
    return tau * factor
