"""BackProp and ProxProp: one backward pass, whose layers leave gradients or proximal directions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.layers import prox_layers, solver_stats
from engine.loss_prox import ENVELOPE_GRADIENTS
from engine.methods.base import Batch, Found, Position, Problem, Stateless
from engine.solvers import SolverStats


class BackwardPass(Stateless):
    """Directions as the layers' backward passes leave them.

    :param counted: whether the layers' multiplications are all there are; an optimiser such as Muon
        has many of its own.
    """

    def __init__(self, problem: Problem, *, counted: bool = True) -> None:
        self._problem = problem
        self._counted = counted

    def directions(self, batch: Batch, at: Position, *, record: bool) -> Found:
        """The gradient of the mean loss, or the proximal direction."""
        problem = self._problem
        outputs, loss = problem.evaluate(batch)
        if not record:
            self._backward(outputs, loss, batch, at)
            return Found(loss.detach())
        stats: Mapping[str, SolverStats]
        with solver_stats(problem.model) as stats:
            self._backward(outputs, loss, batch, at)
        products = sum(found.products for found in stats.values())
        return Found(loss.detach(), stats, products if self._counted else None)

    def _backward(self, outputs: Tensor, loss: Tensor, batch: Batch, at: Position) -> None:
        """Leave the directions."""
        loss.backward()


class VariantPass(BackwardPass):
    """The same with one or more of three changes, none of which [P]'s theory covers.

    ``order: gauss-seidel``: below a linear layer, the last one's too, the gradient is the one that
    W - tau V would pass on, the weights after a plain step of size tau. Momentum and Adam make
    another step of V, which is not looked at. The bias passes nothing on.

    ``last_layer: prox``: the last layer's direction is fitted, by its proximal step (BackProp: the
    plain product), to (v - prox_{tau_output l}(v))/(tau_output B) in the place of the gradient at
    the logits v, with l the loss of one of B samples. Below it goes the ordinary gradient.

    ``envelope``: the gradient at the logits is replaced, for all layers, by that of the Moreau
    envelope with step size tau_output, of every sample's loss (``sample``) or of their mean
    (``batch``, which is a step of tau_output/B on every sample's). What is reported is the loss,
    not the envelope.
    """

    def _backward(self, outputs: Tensor, loss: Tensor, batch: Batch, at: Position) -> None:
        method = self._problem.config.method
        layers = [layer for _, layer in prox_layers(self._problem.model)]
        try:
            if method.order == "gauss-seidel":
                for layer in layers:
                    layer.tau = at.tau
            if method.last_layer == "prox":
                layers[-1].fitted = self._envelope_gradient(outputs, batch, method.tau_output)
            match method.envelope:
                case "none":
                    loss.backward()
                case "sample":
                    outputs.backward(self._envelope_gradient(outputs, batch, method.tau_output))
                case "batch":
                    step = method.tau_output / len(outputs)
                    outputs.backward(self._envelope_gradient(outputs, batch, step))
        finally:
            for layer in layers:
                layer.tau = layer.fitted = None

    @torch.no_grad()
    def _envelope_gradient(self, outputs: Tensor, batch: Batch, step: float) -> Tensor:
        """That of the mean over the batch of every sample's envelope, ``(B, outputs)``."""
        gradient = ENVELOPE_GRADIENTS[self._problem.config.loss]
        return gradient(outputs, batch.targets, step) / len(outputs)
