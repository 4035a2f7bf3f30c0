"""The tables of docs/scaling.md: what a step costs on many GPUs, by calculation.

    python docs/scaling.py

Nothing is measured here. Multiplications and bytes are those the program counts and chooses by
(``engine/forecast.py``, held against real processes in ``tests/engine/parallel``); the speeds of
the machine are assumed, and told with the tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from engine.config import RunConfig, resolve
from engine.forecast import Forecast, LayerForecast, forecast
from engine.linear_maps import Dense
from engine.parallel.costs import GPU, costs
from engine.prox import Prox
from engine.solvers import CG, Exact, Solver

PRODUCTS = 25e12
"""Multiplications in float32 a second: 50 TFLOP/s, of products and factorisations alike."""
BANDWIDTH = 50e9
"""Bytes a second in and out of every GPU: a network of 400 Gb/s for each."""
HOP = 5e-6
"""Seconds from one GPU to the next; an operation between all goes up a tree and down again."""

PROCESSES = (8, 64, 512, 1000)
METHODS = ("backprop", "exact", "cg3")


@dataclass(frozen=True)
class Network:
    """A network and its share of a batch."""

    name: str
    model: dict[str, Any]
    shape: tuple[int, int, int]
    samples: int

    def config(self, method: str) -> RunConfig:
        """A run of it."""
        return resolve(
            {"data": {"name": "cifar10"}, "model": self.model, "method": {"name": method}}
        )

    def on(self, method: str, processes: int) -> Forecast:
        """Every GPU with as many samples."""
        sizes = [self.samples] * processes
        alone = "rows" if processes == 1 else None
        return forecast(self.config(method), self.shape, 10, sizes, prices=GPU, exchange=alone)


MLP = {"kind": "mlp", "hidden": [4000, 1000, 4000]}
CONVNET = {"kind": "convnet", "channels": [16, 20, 20], "kernel": 5, "pools": 2}
NETWORKS = (
    Network("MLP 3072-4000-1000-4000-10, 500 samples a GPU", MLP, (3, 32, 32), 500),
    Network("MLP 3072-4000-1000-4000-10, 4,000 samples a GPU", MLP, (3, 32, 32), 4000),
    Network("ConvNet 16-20-20, 500 samples a GPU", CONVNET, (3, 32, 32), 500),
)


def seconds(step: Forecast, processes: int) -> tuple[float, float, float]:
    """Computing; bytes on their way; hops."""
    share = (processes - 1) / processes
    sent = 4 * share * (2 * step.summed + step.gathered)
    hops = step.calls * 2 * math.ceil(math.log2(processes)) * HOP if processes > 1 else 0.0
    return step.products / PRODUCTS, sent / BANDWIDTH, hops


def rows_of(network: Network) -> Iterator[str]:
    """Its table, line by line."""
    yield f"**{network.name}**"
    yield ""
    yield "| method | GPUs | goes between them | MB a step | calls | computing | bytes | hops |" + (
        " step | efficiency |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for method in METHODS:
        alone = seconds(network.on(method, 1), 1)[0]
        for processes in PROCESSES:
            step = network.on(method, processes)
            times = seconds(step, processes)
            ways = dict.fromkeys(layer.exchange for layer in step.layers if layer.exchange)
            size = 4e-6 * (step.summed + step.gathered)
            columns = [
                method,
                f"{processes:,}",
                ", ".join(ways) or "gradients",
                f"{size:,.1f}",
                str(step.calls),
                *(f"{1e3 * part:.2f} ms" for part in (*times, sum(times))),
                f"{alone / sum(times):.0%}",
            ]
            yield f"| {' | '.join(columns)} |"
    yield ""


def crossing(samples: int, processes: int) -> int | None:
    """The least width from which on, to 16,384, a step of cg3 always takes less time than an exact
    one, of a layer as wide as it is long; None: there is none."""
    least = None
    for width in range(16_384, 0, -128):
        if layer_seconds(CG(3), width, samples, processes) >= layer_seconds(
            Exact(), width, samples, processes
        ):
            break
        least = width
    return least


def layer_seconds(solver: Solver, width: int, samples: int, processes: int) -> float:
    """Of the weights' direction of one layer, in the quickest way."""
    row = torch.empty(1).expand(1, width)
    ways = costs(Prox(1.0, solver), Dense(row), row, [samples] * processes)
    layers = (LayerForecast("", way, cost, 0.0) for way, cost in ways.items())
    return min(sum(seconds(Forecast((layer,)), processes)) for layer in layers)


def main() -> None:
    """Print all tables."""
    for network in NETWORKS:
        print("\n".join(rows_of(network)))  # noqa: T201
    header = "| samples a GPU | " + " | ".join(f"{count:,} GPUs" for count in PROCESSES) + " |"
    print(header + "\n|---|" + "---|" * len(PROCESSES))  # noqa: T201
    for samples in (32, 500, 4000):
        found = [crossing(samples, processes) for processes in PROCESSES]
        cells = ["none" if width is None else f"{width:,}" for width in found]
        print(f"| {samples:,} | {' | '.join(cells)} |")  # noqa: T201


if __name__ == "__main__":
    main()
