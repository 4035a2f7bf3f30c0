"""The layers of a network that multiply by a matrix of weights: linear ones and convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

LinearLayer = nn.Linear | nn.Conv2d


def linear_layers(model: nn.Module) -> Iterator[tuple[str, LinearLayer]]:
    """Name and module of each, ``model`` itself included, in order of registration."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module
