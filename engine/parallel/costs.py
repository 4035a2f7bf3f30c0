"""What a layer's step costs in computing and in communication, and so which way it goes.

Counted for the busiest process. An all-reduce of x numbers sends and receives 2 (P - 1)/P x of them
on every process, an all-gather of parts that are x together half of that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engine.conv_patches import ConvPatches
from engine.linear_maps import Dense
from engine.parallel.reduced import of_length, packed_numbers, shape_of
from engine.prox import Prox
from engine.solvers import CG, ProximalSystem

Exchange = Literal["rows", "gram", "products"]
"""What goes between the processes: inputs and gradients at the output, so that every process takes
the whole step; the Gram, which then is solved with everywhere; or products with A^T, one an
iteration."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One layer's step.

    :ivar products: multiplications of the busiest process, its part of BackProp's weight gradient
        included.
    :ivar rounds: operations between all processes one after another, beyond the step's first.
    :ivar summed: numbers that are summed over the processes.
    :ivar gathered: numbers that every process has in the end, those that fill up shorter parts
        included.
    """

    products: float
    rounds: int
    summed: int
    gathered: int


@dataclass(frozen=True, slots=True)
class Prices:
    """Multiplications in whose time a number is sent and received, and a round begins and ends."""

    number: float
    round: float

    def total(self, cost: Cost, processes: int) -> float:
        """The cost in multiplications."""
        sent = (2 * cost.summed + cost.gathered) * (processes - 1) / processes
        return cost.products + self.number * sent + self.round * cost.rounds

    @classmethod
    def on(cls, device: torch.device) -> Prices:
        """Those of a device."""
        return CPU if device.type == "cpu" else GPU


# A core of 30 GFLOP/s beside 1 GB/s and 0.2 ms a round; a GPU of 50 TFLOP/s in float32 beside
# 50 GB/s, a fast network for each (NVLink is quicker), and 30 us a round: as in docs/scaling.md.
CPU = Prices(number=60, round=3e6)
GPU = Prices(number=2000, round=7e8)


def costs(
    prox: Prox, linear_map: Dense | ConvPatches, cotangent: Tensor, sizes: Sequence[int]
) -> dict[Exchange, Cost]:
    """The ways that a layer's step can go.

    :param linear_map: of any number of samples: only its shape counts, like the cotangent's.
    :param sizes: samples of every process.
    """
    solver = prox.solver
    part, whole = (
        ProximalSystem(of_length(linear_map, count), shape_of(cotangent, count), 1.0)
        for count in (max(sizes), sum(sizes))
    )
    numbers = part.map.groups * part.map.columns * part.outputs
    traces = part.map.groups if prox.damping == "trace" else 0
    here, backprop = solver.products(part), part.map.rows * numbers
    inputs = linear_map.a if isinstance(linear_map, Dense) else linear_map.x
    per_sample = math.prod(inputs.shape[1:]) + math.prod(cotangent.shape[1:])
    found: dict[Exchange, Cost] = {
        "rows": Cost(
            products=min(solver.products(whole).values()) + whole.map.rows * numbers,
            rounds=1,
            summed=0,
            gathered=len(sizes) * max(sizes) * per_sample,
        ),
        "gram": Cost(
            products=here["primal"] + backprop,
            rounds=0,
            summed=numbers + traces + part.map.groups * packed_numbers(part.map.columns),
            gathered=0,
        ),
    }
    if isinstance(solver, CG):
        found["products"] = Cost(
            products=here["operator"] + backprop,
            rounds=solver.max_iterations,
            summed=(1 + solver.max_iterations) * numbers + traces,
            gathered=0,
        )
    return found


def cheapest(found: Mapping[Exchange, Cost], prices: Prices, processes: int) -> Exchange:
    """The way that takes the least time."""
    return min(found, key=lambda exchange: prices.total(found[exchange], processes))
