"""What a layer's step costs in computing and in communication, and so which way it goes.

Counted for the busiest process. An all-reduce of x numbers sends and receives 2 (P - 1)/P x of them
on every process, an all-gather of parts that are x together half of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engine.parallel.reduced import packed_numbers
from engine.solvers import CG, ProximalSystem, Solver

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
    :ivar gathered: numbers that every process has in the end.
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


# A core of 30 GFLOP/s beside 1 GB/s and 0.2 ms a round; a GPU of 50 TFLOP/s in float32 beside
# 100 GB/s, between that of NVLink and that of a fast network, and 30 us a round.
CPU = Prices(number=60, round=3e6)
GPU = Prices(number=1000, round=7e8)


def costs(solver: Solver, part: ProximalSystem, whole: ProximalSystem) -> dict[Exchange, Cost]:
    """The ways that a layer's step can go.

    :param part: shapes of the busiest process's system.
    :param whole: shapes of the system with the rows of all processes.
    """
    numbers = part.map.groups * part.map.columns * part.outputs
    here, backprop = solver.products(part), part.map.rows * numbers
    inputs = getattr(whole.map, "a" if whole.map.is_dense else "x")
    found: dict[Exchange, Cost] = {
        "rows": Cost(
            products=min(solver.products(whole).values()) + whole.map.rows * numbers,
            rounds=1,
            summed=0,
            gathered=inputs.numel() + whole.cotangent.numel(),
        ),
        "gram": Cost(
            products=here["primal"] + backprop,
            rounds=0,
            summed=numbers + part.map.groups * packed_numbers(part.map.columns),
            gathered=0,
        ),
    }
    if isinstance(solver, CG):
        found["products"] = Cost(
            products=here["operator"] + backprop,
            rounds=solver.max_iterations,
            summed=(1 + solver.max_iterations) * numbers,
            gathered=0,
        )
    return found


def cheapest(found: Mapping[Exchange, Cost], prices: Prices, processes: int) -> Exchange:
    """The way that takes the least time."""
    return min(found, key=lambda exchange: prices.total(found[exchange], processes))
