"""What a step by several processes will cost each of them, before any of them is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.config import RunConfig
from engine.conv_patches import ConvPatches
from engine.layers import ProxConv2d, ProxLinear
from engine.linear_maps import Dense
from engine.models import build_model
from engine.parallel.costs import Cost, Exchange, Prices, cheapest, costs
from engine.prox import Prox
from engine.solvers import CG


@dataclass(frozen=True, slots=True)
class LayerForecast:
    """One layer's direction.

    :ivar exchange: what goes between the processes; None: its gradient alone.
    :ivar cost: without what its forward pass and the gradient passed on take.
    :ivar passes: multiplications of those two, of the busiest process.
    """

    name: str
    exchange: Exchange | None
    cost: Cost
    passes: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """One step."""

    layers: tuple[LayerForecast, ...] = field(default=())

    @property
    def products(self) -> float:
        """Multiplications of the busiest process."""
        return sum(layer.passes + layer.cost.products for layer in self.layers)

    @property
    def summed(self) -> int:
        """Numbers that are summed over the processes, the loss among them."""
        return 1 + sum(layer.cost.summed for layer in self.layers)

    @property
    def gathered(self) -> int:
        """Numbers that every process has in the end."""
        return sum(layer.cost.gathered for layer in self.layers)

    @property
    def calls(self) -> int:
        """Operations between all processes; fewer where CG stops early."""
        by_rows = any(layer.exchange == "rows" for layer in self.layers)
        by_products = [c.cost.rounds for c in self.layers if c.exchange == "products"]
        return 1 + by_rows + max(by_products, default=0)


def forecast(
    config: RunConfig,
    shape: tuple[int, int, int],
    outputs: int,
    sizes: Sequence[int],
    *,
    prices: Prices,
    exchange: Exchange | None = None,
) -> Forecast:
    """A step of a configuration.

    :param shape: channels, height and width of a sample.
    :param outputs: number of classes.
    :param sizes: samples of every process.
    :param exchange: of all proximal layers; None: what is cheapest by ``prices``.
    """
    model = build_model(config.model, config.method, shape, outputs)
    found: list[LayerForecast] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        weights = layer.weight.numel()
        numbers = weights + (0 if layer.bias is None else layer.bias.numel())
        each = max(sizes) * (output[0].numel() // output.shape[1]) * weights
        first = not found
        name = names[layer]
        passes = each * (1 if first else 2)
        if not isinstance(layer, ProxLinear | ProxConv2d) or not isinstance(layer.prox, Prox):
            found.append(LayerForecast(name, None, Cost(each, 0, numbers, 0), passes))
            return
        bias = layer.bias is not None
        linear_map: Dense | ConvPatches
        if isinstance(layer, nn.Linear):
            linear_map = Dense(inputs[0], bias=bias)
        else:
            linear_map = ConvPatches.of(layer, inputs[0], bias=bias)
        ways = costs(layer.prox, linear_map, output, sizes)
        way = exchange or cheapest(ways, prices, len(sizes))
        if way == "products" and not isinstance(layer.prox.solver, CG):
            way = "gram"
        found.append(LayerForecast(name, way, ways[way], passes))

    names = {layer: name for name, layer in model.named_modules()}
    handles = [
        layer.register_forward_hook(look)
        for layer in names
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return Forecast(tuple(found))
