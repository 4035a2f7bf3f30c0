"""Angles between the directions of a method and the gradient, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.config import RunConfig
from engine.diagnosis.blocks import linear_map, small_gram
from engine.layers import prox_layers
from engine.linear_layers import linear_layers
from engine.losses import LOSSES
from engine.methods import Batch, Position, Problem, build_method
from engine.prox import Prox
from engine.solvers import Ladder, eigvalsh

_Bounds = dict[str, tuple[float | None, float | None]]


def descent_angles(
    config: RunConfig, model: nn.Module, plain: nn.Module, batch: Batch, samples: int
) -> tuple[list[tuple[str, float, float | None, float | None]], list[str]]:
    """Name, cosine, bound and beta of every linear layer, on one mini-batch; and in words which
    layers' solvers or eigenvalues fell back to something else.

    The bound is lambda_min/lambda_max of M^-1 = (A^T A + beta I)^-1, that is
    (s_min + beta)/(s_max + beta) with s the eigenvalues of A^T A: what Prop. 4 of Frerix et al.
    says of exact steps. It is 1 for explicit layers, whose M is the identity, and not given where
    the direction is none of the paper's or the eigenvalues are not found.

    :param model: of the method, in training mode; its directions are left in it.
    :param plain: the same network of ordinary layers, with the same weights.
    :param samples: training samples in all.
    :raises ConfigError: the method does not go with the network.
    """
    method = build_method(Problem(config, model, LOSSES[config.loss], samples, batch.inputs.device))
    with _inputs_of(model) as inputs:
        method.directions(batch, Position(config.method.tau), record=False)
    LOSSES[config.loss](plain(batch.inputs), batch.targets).mean().backward()
    directions, gradients = _by_layer(model), _by_layer(plain)
    bounds, fallbacks = _bounds(config, model, inputs)
    layers = {name: layer.ladder for name, layer in prox_layers(model)}
    for name, ladder in (layers | dict(method.ladders())).items():
        for rung, times in ladder.take_counts().items():
            fallbacks.append(f"layer {name}: solver fell back ({times}x {rung.label})")
    return [
        (name, _cosine(directions[name], gradients[name]), *bounds.get(name, (None, None)))
        for name in gradients
    ], fallbacks


def _bounds(
    config: RunConfig, model: nn.Module, inputs: dict[str, Tensor]
) -> tuple[_Bounds, list[str]]:
    settings = config.method
    is_paper = settings.name == "backprop" or settings.is_proximal
    as_published = (settings.order, settings.last_layer, settings.envelope)
    if not is_paper or as_published != ("jacobi", "explicit", "none"):
        return {}, []
    bounds: _Bounds = {name: (1.0, None) for name, _ in linear_layers(model)}
    fallbacks = []
    for name, layer in prox_layers(model):
        rows = linear_map(layer, inputs[name].double())
        assert isinstance(layer.prox, Prox)  # variants have returned above
        beta = float(torch.as_tensor(layer.prox.beta(rows)).max())
        ladder = Ladder()
        found = eigvalsh(small_gram(rows), ladder)
        if found is None:
            bounds[name] = (None, beta)
            fallbacks.append(f"layer {name}: no bound, the eigenvalues were not found")
            continue
        if ladder.take_counts():
            fallbacks.append(f"layer {name}: eigenvalues found at the second attempt, scaled")
        values = found.clamp_min(0)
        least = float(values.min()) if rows.rows >= rows.columns else 0.0
        bounds[name] = ((least + beta) / (float(values.max()) + beta), beta)
    return bounds, fallbacks


def _cosine(direction: Tensor, gradient: Tensor) -> float:
    lengths = torch.linalg.vector_norm(direction) * torch.linalg.vector_norm(gradient)
    return float(direction @ gradient / lengths) if float(lengths) > 0 else math.nan


def _by_layer(model: nn.Module) -> dict[str, Tensor]:
    """What lies in ``.grad``, float64, weight and bias of a layer as one vector."""
    found = {}
    for name, layer in linear_layers(model):
        parts = [
            torch.zeros_like(value) if value.grad is None else value.grad
            for value in layer.parameters()
        ]
        found[name] = torch.cat([part.double().flatten() for part in parts])
    return found


@contextmanager
def _inputs_of(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inputs of all proximal layers in the first forward pass within the block."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            found.setdefault(name, given[0].detach())

        return hook

    handles = [
        layer.register_forward_pre_hook(keep(name))  # type: ignore[arg-type]
        for name, layer in prox_layers(model)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
