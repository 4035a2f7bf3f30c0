"""BackProp and ProxProp by several processes, each with a part of the mini-batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine import precision
from engine.config import RunConfig
from engine.errors import ConfigError
from engine.layers import ProxConv2d, ProxLinear, prox_layers, solver_stats
from engine.methods.base import Batch, Found, Position, Problem, Stateless
from engine.parallel.proximal import SharedProx
from engine.parallel.rounds import Asking, Sum, side_by_side
from engine.prox import Prox, working_dtype
from engine.solvers import SolverStats

_OPTIMISERS = ("muon", "soap")
"""Methods that are BackProp's gradients and an optimiser, which is the same on every process."""


class ParallelPass(Stateless):
    """The directions of the whole mini-batch, the same on every process.

    :raises ConfigError: the run needs more than sums over samples.
    """

    def __init__(self, problem: Problem) -> None:
        check_parallel(problem.config, problem.model, problem.team.size)
        self._problem = problem
        # such an optimiser has many multiplications of its own
        self._counted = problem.config.method.name not in _OPTIMISERS
        self._shared: list[tuple[ProxLinear | ProxConv2d, SharedProx]] = []
        for _, layer in prox_layers(problem.model):
            assert isinstance(layer.prox, Prox)
            layer.prox = shared = SharedProx(layer.prox, problem.team)
            self._shared.append((layer, shared))
        proximal = {id(p) for layer, _ in self._shared for p in layer.parameters()}
        self._explicit = [p for p in problem.model.parameters() if id(p) not in proximal]

    def directions(self, batch: Batch, at: Position, *, record: bool) -> Found:
        """Leave the gradient of the mean loss over all processes' samples, or the proximal
        direction. ``batch`` is this process's part of them."""
        if not record:
            return Found(self._leave_directions(batch))
        stats: Mapping[str, SolverStats]
        with solver_stats(self._problem.model) as stats:
            loss = self._leave_directions(batch)
        products = sum(found.products for found in stats.values())
        return Found(loss, stats, products if self._counted else None)

    def _leave_directions(self, batch: Batch) -> Tensor:
        """Gives the mean loss of the whole mini-batch."""
        problem = self._problem
        with precision.of_forward(problem.config.precision, problem.device):
            outputs = problem.model(batch.inputs)
        outputs = outputs.to(working_dtype(outputs.dtype))
        # divided by the count of all, so that sums over processes are what a single one would have
        own = problem.loss(outputs, batch.targets).sum() / batch.samples
        own.backward()
        loss = own.detach()
        # a frozen layer has none
        parts = [
            _leave(layer, shared, batch.samples)
            for layer, shared in self._shared
            if shared.has_noted
        ]
        with torch.no_grad():
            side_by_side(
                problem.team, [self._leave_sums(loss), *parts], problem.team.sizes(batch.samples)
            )
        return loss

    def _leave_sums(self, loss: Tensor) -> Asking:
        """Of the loss, in place, and of the gradients of all parameters without a proximal step."""
        parameters = [p for p in self._explicit if p.grad is not None]
        told = yield Sum([loss, *(p.grad for p in parameters if p.grad is not None)])
        loss.copy_(told[0])
        for parameter, gradient in zip(parameters, told[1:], strict=True):
            parameter.grad = gradient


def _leave(layer: ProxLinear | ProxConv2d, shared: SharedProx, samples: int) -> Asking:
    layer.leave((yield from shared.direction_of_all(samples)))


def check_parallel(config: RunConfig, model: nn.Module, processes: int) -> None:
    """See that a run is one that several processes can train together.

    :raises ConfigError: it needs more than sums over samples, or a sample for every process.
    """
    method = config.method
    several = f"several processes (there are {processes})"
    if not (method.name in ("backprop", *_OPTIMISERS) or method.is_proximal):
        raise ConfigError(
            f"method.name: {method.name!r} is not for {several}; 'backprop', 'exact', 'cgN', "
            "'muon' and 'soap' are"
        )
    if method.variants:
        key = method.variants[0]
        raise ConfigError(f"method.{key}: {getattr(method, key)!r} is not for {several}")
    if config.cuda_graph:
        raise ConfigError(f"cuda_graph: not for {several}; leave it out")
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise ConfigError(
            f"model.batch_norm: its statistics are those of one process, and so not for {several}"
        )
    if config.batch_size < processes:
        raise ConfigError(
            f"batch_size: {config.batch_size} samples a step are too few for {processes} processes"
        )
