"""Optimisers and step-size schedules of the configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from engine.config import OptimizerConfig, RunConfig, ScheduleConfig
from engine.errors import ConfigError


def optimizer_config(config: RunConfig) -> OptimizerConfig:
    """The optimiser of a run: that of the configuration, unless the method has one of its own.

    ``muon`` and ``soap`` are optimisers with their authors' settings, and only the weight decay is
    the configuration's; ``mac`` and ``admm`` give solutions, of which momentum has no meaning.
    """
    given = config.optimizer
    match config.method.name:
        case "muon":
            return OptimizerConfig(
                name="muon", momentum=0.95, nesterov=True, weight_decay=given.weight_decay
            )
        case "soap":
            return OptimizerConfig(
                name="soap", beta1=0.95, beta2=0.95, weight_decay=given.weight_decay
            )
        case _ if config.method.gives_solutions:
            return OptimizerConfig()
        case _:
            return given


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
        case "muon":
            return MuonWithAdamW(parameters, config, tau)
        case "soap":
            return _soap(parameters, config, tau)


def _soap(
    parameters: Iterable[nn.Parameter], config: OptimizerConfig, tau: float
) -> torch.optim.Optimizer:
    try:
        import pytorch_optimizer  # noqa: F401 - a module that needs it may be imported by now

        from engine.soap import CheckedSoap
    except ImportError:
        raise ConfigError(
            "SOAP needs the package pytorch-optimizer; "
            "install it with: pip install 'proxprop[baselines]'"
        ) from None
    return CheckedSoap(
        list(parameters),
        lr=tau,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


class MuonWithAdamW(torch.optim.Optimizer):
    """``torch.optim.Muon`` for the weights of linear layers, AdamW for all other parameters.

    Muon is made for matrices only; the filters of convolutions are AdamW's. Its steps are scaled to
    the size of AdamW's, so that one step size serves both.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], config: OptimizerConfig, tau: float
    ) -> None:
        parameters = list(parameters)
        matrices = [parameter for parameter in parameters if parameter.ndim == 2]
        others = [parameter for parameter in parameters if parameter.ndim != 2]
        muon = torch.optim.Muon(
            matrices,
            lr=tau,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self._parts: list[torch.optim.Optimizer] = [muon]
        if others:
            betas = (config.beta1, config.beta2)
            self._parts.append(
                torch.optim.AdamW(
                    others, lr=tau, betas=betas, eps=config.eps, weight_decay=config.weight_decay
                )
            )
        super().__init__([{"params": matrices}, {"params": others}][: len(self._parts)], {})
        self._share()

    def _share(self) -> None:
        """Groups and state are the parts' own, seen together."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        for part in self._parts:
            self.state.update(part.state)
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all parameters."""
        for part in self._parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the state back."""
        super().load_state_dict(state_dict)
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups = [group]
            part.state = self.state


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
            # the quotient may be infinite, for which there is no whole number
            factor = config.gamma ** math.floor(min(epoch / config.step_epochs, 1e9) + 1e-9)
    if epoch < config.warmup_epochs:
        factor *= max(epoch, 1e-3 * config.warmup_epochs) / config.warmup_epochs
    return tau * factor
