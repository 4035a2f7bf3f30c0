"""How much arithmetic a step of plain BackProp is: the unit in which methods compare."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.linear_layers import linear_layers


@torch.no_grad()
def backprop_products(model: nn.Module, shape: tuple[int, ...], batch_size: int) -> int:
    """Multiplications of one step of BackProp in the linear and convolution layers of a network.

    Each layer multiplies forward, for its weight gradient and for its input gradient; the first
    one needs no input gradient.

    :param shape: of one sample.
    """
    forward: list[int] = []

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        forward.append(output.numel() * weight[0].numel())

    handles = [layer.register_forward_hook(count) for _, layer in linear_layers(model)]
    was_training = model.training
    try:
        device = next(model.parameters()).device
        model.eval()(torch.zeros(1, *shape, device=device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return batch_size * (3 * sum(forward) - forward[0])
