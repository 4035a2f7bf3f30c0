"""Training without gradients by ADMM (Taylor et al. 2016), over all training samples at once.

Every layer's input a, linear output z and weights W are variables, and each in turn is set to the
solution of its sub-problem; see :mod:`engine.methods.admm_blocks`. A step is one such sweep up the
layers, after which the multiplier of the outputs moves. As in the paper a and z start as unit
Gaussian noise, and the loss is a sum over the samples; theirs is a hinge, ours the run's. The
weights beta and gamma are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine import precision
from engine.errors import ConfigError
from engine.linear_maps import Direction
from engine.methods.admm_blocks import (
    fitted_activations,
    fitted_outputs,
    fitted_preactivations,
    fitted_weights,
)
from engine.methods.base import Batch, Found, Position, Problem
from engine.methods.mlp import DenseLayer, dense_layers, linear, set_back
from engine.solvers import Ladder


class Admm:
    """The method, with a, z and the multiplier of all training samples: memory of samples times
    twice the hidden units and the outputs, and as much in every checkpoint.

    Products are float32 or better whatever the precision of the run.

    :raises ConfigError: the network is not a plain fully connected one with ReLU, of which alone
        the paper's z-update is known.
    """

    def __init__(self, problem: Problem) -> None:
        self._layers = dense_layers(problem.model, "admm")
        if any(isinstance(part, nn.Tanh | nn.Sigmoid) for part in problem.model.modules()):
            raise ConfigError("method 'admm' needs model.activation 'relu'")
        self._ladders = {layer.name: Ladder() for layer in self._layers}
        self._loss = problem.loss
        self._loss_name = problem.config.loss
        self._settings = problem.config.method.admm
        widths = [layer.linear.out_features for layer in self._layers]
        samples, device = problem.samples, problem.device
        self._z = [torch.randn(samples, width, device=device) for width in widths]
        self._a = [torch.randn(samples, width, device=device) for width in widths[:-1]]
        self._multiplier = torch.zeros(samples, widths[-1], device=device)

    @torch.no_grad()
    def directions(self, batch: Batch, at: Position, *, record: bool) -> Found:
        """Weights of the network minus those of the sweep. The loss is that of the network before
        it, not of the variables.

        :param batch: all training samples, in any order.
        """
        with precision.full(batch.inputs.device):
            # the samples come in another order every time, the variables stay
            places = batch.indices.argsort()
            inputs = batch.inputs.index_select(0, places).flatten(1)
            targets = batch.targets.index_select(0, places)
            outputs = self._outputs(inputs)
            weights = self._sweep(inputs, targets)
            if at.epoch >= self._settings.warm_up:
                below = [inputs, *self._a][-1]
                self._multiplier += self._settings.beta * (self._z[-1] - linear(weights[-1], below))
        for layer, found in zip(self._layers, weights, strict=True):
            layer.leave(_difference(layer, found))
        return Found(self._loss(outputs, targets).mean())

    def _outputs(self, inputs: Tensor) -> Tensor:
        """Outputs of the network."""
        for layer in self._layers:
            outputs = linear(layer.parameters(), inputs)
            inputs = outputs if layer.activation is None else layer.activation.value(outputs)
        return outputs

    def _sweep(self, inputs: Tensor, targets: Tensor) -> list[Direction]:
        """The updates of a sweep in the order of the paper's Algorithm 1; gives the weights. Those
        of the layer above, which a needs, are the network's, from the sweep before."""
        beta, gamma = self._settings.beta, self._settings.gamma
        weights = [layer.parameters() for layer in self._layers]
        below = inputs
        for index, layer in enumerate(self._layers):
            z, ladder = self._z[index], self._ladders[layer.name]
            has_bias = weights[index].bias is not None
            weights[index] = fitted_weights(below, z, ladder, bias=has_bias)
            if layer.activation is None:
                q = linear(weights[index], below)
                z.copy_(fitted_outputs(self._loss_name, targets, q, self._multiplier, beta))
            else:
                a = self._a[index]
                above, z_above = weights[index + 1], self._z[index + 1]
                h = layer.activation.value(z)
                a.copy_(fitted_activations(above, z_above, h, beta, gamma, ladder))
                q = linear(weights[index], below)
                z.copy_(fitted_preactivations(a, q, beta, gamma))
                below = a
        return weights

    def ladders(self) -> Mapping[str, Ladder]:
        """Of every layer's weights and activations."""
        return self._ladders

    def tensors(self) -> dict[str, Tensor]:
        """``z/L`` and ``a/L`` per layer and ``multiplier``, ``(samples, width)``."""
        named = {f"z/{number}": z for number, z in enumerate(self._z, 1)}
        named |= {f"a/{number}": a for number, a in enumerate(self._a, 1)}
        return named | {"multiplier": self._multiplier}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the variables back.

        :raises CheckpointError: they are of another network or of other samples.
        """
        set_back(self.tensors(), tensors)


def _difference(layer: DenseLayer, found: Direction) -> Direction:
    old = layer.parameters()
    assert old.weight is not None
    assert found.weight is not None
    if old.bias is None or found.bias is None:
        return Direction(old.weight - found.weight, None)
    return Direction(old.weight - found.weight, old.bias - found.bias)
