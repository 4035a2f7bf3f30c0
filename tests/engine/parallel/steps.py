"""Steps on shared mini-batches beside those of one process.

Each process of a team takes the whole step too, as if it were alone. As ``python -m
tests.engine.parallel.steps FILE`` rank 0 of a job writes the differences.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.config import RunConfig, resolve
from engine.forecast import forecast
from engine.layers import prox_layers
from engine.losses import LOSSES, targets
from engine.methods import Batch, Position, Problem, build_method
from engine.models import build_model
from engine.parallel.costs import Exchange, Prices
from engine.parallel.launch import launched
from engine.parallel.processes import Processes
from engine.parallel.proximal import SharedProx
from engine.parallel.team import ALONE, Team
from tests.engine import small

SHAPE, CLASSES = (1, 8, 8), 5
MLP = {"model": {"kind": "mlp", "hidden": [16, 12]}}
NARROW = {"model": {"kind": "mlp", "hidden": [70, 6]}}
CONV = {"model": {"kind": "convnet", "channels": [3, 4], "kernel": 3, "pools": 1}}
AUTOENCODER = {
    "model": {"kind": "autoencoder", "hidden": [12, 4, 12]},
    "loss": "reconstruction",
}


@dataclass(frozen=True)
class Case:
    """One comparison. ``exchange`` None: as the costs have it."""

    model: dict[str, Any]
    method: dict[str, Any]
    samples: int
    exchange: Exchange | None = None
    dtype: torch.dtype = torch.float64
    record: bool = False
    frozen: bool = False
    """Whether the first layer is not trained."""

    @property
    def name(self) -> str:
        size = "-".join(str(part) for part in next(iter(self.model.values())).values())
        said = " ".join(f"{key}={value}" for key, value in self.method.items())
        record = " record" if self.record else ""
        frozen = " frozen" if self.frozen else ""
        return f"{size} {said} N={self.samples} {self.exchange} {self.dtype}{record}{frozen}"

    @property
    def by_hand(self) -> bool:
        """Whether it is one whose bytes a test counts."""
        plain = len(self.method) == 2 - (self.method["name"] == "backprop")
        return self.model is MLP and self.dtype == torch.float32 and plain and not self.fails

    @property
    def fails(self) -> bool:
        """Whether the Gram is too near to singular for float32."""
        return self.method.get("tau_theta", 0.0) > 1e5

    @property
    def config(self) -> RunConfig:
        return resolve({**small.DOCUMENT, **self.model, "method": {"tau": 0.1, **self.method}})


def run(team: Team) -> list[dict[str, Any]]:
    """Compare all cases, as one process of a team."""
    return [compare(case, team) for case in cases()]


def cases() -> list[Case]:
    exact, cg = {"name": "exact", "tau_theta": 0.5}, {"name": "cg3", "tau_theta": 0.5}
    backprop = {"name": "backprop"}
    found = [Case(model, backprop, samples) for model in (MLP, CONV) for samples in (1, 3, 13)]
    for method, exchanges in ((exact, ("rows", "gram")), (cg, ("rows", "gram", "products"))):
        for model in (MLP, CONV):
            found.append(Case(model, method, 13))
            for exchange in exchanges:
                found += [
                    Case(model, method, 3, exchange),
                    Case(model, method, 13, exchange, record=True),
                    Case(model, {**method, "damping": "mean"}, 13, exchange),
                    Case(model, {**method, "damping": "trace"}, 13, exchange),
                    Case(model, method, 13, exchange, torch.float32),
                ]
    for changed in ({"per_filter": True}, {"eps": 1e-6}, {"tol": 0.0}, {"tol": 0.9}):
        found += [Case(CONV, {**cg, **changed}, 7, exchange) for exchange in ("gram", "products")]
    found += [
        Case(NARROW, {**cg, "name": "cg5"}, 30, "products"),
        Case(AUTOENCODER, exact, 11, None, record=True),
        Case(MLP, backprop, 13, None, torch.float32),
        Case(MLP, {"name": "muon"}, 13),
        Case(CONV, {"name": "soap"}, 13),
        Case(MLP, exact, 13, None, frozen=True),
        Case(CONV, cg, 13, "products", frozen=True),
        Case(MLP, {**exact, "tau_theta": 1e6}, 13, "gram", torch.float32),
        Case(MLP, {**exact, "tau_theta": 1e6}, 13, "gram", torch.float32, record=True),
    ]
    return found


def directions(case: Case, team: Team) -> tuple[torch.nn.Module, Any]:
    """What lies in ``.grad`` and what was found, from this process's part of the samples."""
    config = case.config
    torch.manual_seed(0)
    model = build_model(config.model, config.method, SHAPE, CLASSES).to(case.dtype)
    if case.frozen:
        next(prox_layers(model))[1].requires_grad_(False)
    problem = Problem(config, model, LOSSES[config.loss], 100, small.CPU, team)
    method = build_method(problem)
    for _, layer in prox_layers(model):
        if isinstance(layer.prox, SharedProx):
            layer.prox.exchange = case.exchange
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(case.samples, *SHAPE, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (case.samples,), generator=generator)
    own = team.part(torch.arange(case.samples))
    inputs, labels = inputs[own].to(case.dtype), labels[own]
    batch = Batch(own, inputs, targets(config.loss, inputs, labels), of=case.samples)
    return model, method.directions(batch, Position(0.1), record=case.record)


def compare(case: Case, team: Team) -> dict[str, Any]:
    expected, by_one = directions(case, ALONE)
    before = team.traffic.calls, team.traffic.summed, team.traffic.gathered
    found, by_all = directions(case, team)
    after = team.traffic.calls, team.traffic.summed, team.traffic.gathered
    errors = {"loss": _relative(by_all.loss, by_one.loss)}
    ones, others = _by_layer(expected), _by_layer(found)
    errors |= {name: _relative(others[name], one) for name, one in ones.items()}
    assert by_one.stats.keys() == by_all.stats.keys()
    for name, stats in by_one.stats.items():
        one, other = stats.to_host(), by_all.stats[name].to_host()
        assert other.iterations == one.iterations
        assert case.fails or other.stop_reason == one.stop_reason
        assert len(other.residuals) == len(one.residuals)
        for key in ("beta", "true_residual", "cosine"):
            errors[f"{name}.{key}"] = abs(getattr(other, key) - getattr(one, key))
        errors[f"{name}.residuals"] = max(
            (abs(a - b) for a, b in zip(other.residuals, one.residuals, strict=True)), default=0.0
        )
    # what is no number is no small one either, and max() might pass it over
    errors = {name: math.inf if math.isnan(error) else error for name, error in errors.items()}
    if case.fails:
        # the next layer's Gram just does not fail in float32, and has few digits
        errors = {"1": errors["1"]}
    # what lies on the others is what lies here
    here = torch.cat(list(others.values()))
    spread = here.clone()
    team.align([spread])
    (same_everywhere,) = team.sum([torch.tensor([float(torch.equal(spread, here))])])
    return {
        "case": case.name,
        "error": max(errors.values()),
        "worst": max(errors, key=lambda key: errors[key]),
        "tolerance": 1e-12 if case.dtype == torch.float64 else 1e-5,
        "method": case.method["name"],
        "exchange": case.exchange,
        "by_hand": case.by_hand,
        "rungs": [layer.ladder.take_counts() for _, layer in prox_layers(found)],
        "forecast": _forecast(case, team),
        "traffic": [new - old for new, old in zip(after, before, strict=True)],
        "same": float(same_everywhere) == team.size,
    }


def _forecast(case: Case, team: Team) -> list[int] | None:
    """Calls and bytes, where CG makes all iterations and nobody looks at the solvers."""
    early = (
        case.frozen
        or "tol" in case.method
        or ("damping" in case.method and case.exchange == "products")
    )
    if case.record or early or case.fails or case.samples < team.size:
        return None
    sizes = team.sizes(case.samples)
    prices = Prices.on(small.CPU)
    found = forecast(case.config, SHAPE, CLASSES, sizes, prices=prices, exchange=case.exchange)
    size = case.dtype.itemsize
    return [found.calls, size * found.summed, size * found.gathered]


def _by_layer(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Directions of weight and bias together."""
    layers = {
        name: [p.grad.flatten() for p in layer.parameters(recurse=False) if p.requires_grad]
        for name, layer in model.named_modules()
    }
    return {name: torch.cat(parts) for name, parts in layers.items() if parts}


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    scale = float(expected.norm())
    return float((found - expected).norm()) / (scale if scale > 0 else 1.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    group = Processes(launched())
    results = run(group)
    if group.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(results))
    group.numbers([0.0])
    group.leave()
