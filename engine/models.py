"""Networks built from the configuration: plain torch modules, made proximal by the method."""

from __future__ import annotations

import math

from torch import nn

from engine.config import (
    AutoencoderConfig,
    ConvNetConfig,
    MethodConfig,
    MLPConfig,
    ModelConfig,
    ResNetConfig,
    VGG13Config,
)
from engine.layers import proxify
from engine.linear_layers import linear_layers
from engine.networks import Shape, convnet, mlp, resnet, vgg13
from engine.prox import Explicit, Prox
from engine.solvers import CG, Exact


def build_model(config: ModelConfig, method: MethodConfig, shape: Shape, outputs: int) -> nn.Module:
    """The network of a run, its linear layers plain (BackProp) or proximal.

    Weights and biases start uniform in +-1/sqrt(fan_in), torch's default and the paper's, or
    orthogonal (:func:`make_orthogonal`), drawn in the same order for every method: one seed, one
    start.

    :param shape: channels, height and width of a sample.
    :param outputs: width of the last layer; an autoencoder's has as many as a sample has pixels.
    :raises ConfigError: when the network does not fit the samples.
    """
    model: nn.Sequential
    match config:
        case MLPConfig():
            model = mlp(config, shape, outputs)
        case AutoencoderConfig():
            model = mlp(config, shape, math.prod(shape))
        case ConvNetConfig():
            model = convnet(config, shape, outputs)
        case VGG13Config():
            model = vgg13(config, shape, outputs)
        case ResNetConfig():
            model = resnet(config, shape, outputs)
    if config.init == "orthogonal":
        make_orthogonal(model)
    prox = prox_of(method)
    # a plain layer can neither send gradients through updated weights nor fit another cotangent
    explicit = Explicit() if method.order == "gauss-seidel" else None
    last = (prox or Explicit()) if method.last_layer == "prox" else explicit
    return proxify(model, prox or explicit, last)


def prox_of(method: MethodConfig) -> Prox | None:
    """The proximal step of a method; none for those whose layers leave gradients."""
    if method.name == "back-matching" and method.back_matching.weight_solver == "prox":
        return Prox(method.tau_theta, Exact(), method.damping)
    if not method.is_proximal:
        return None
    iterations = method.cg_iterations
    solver = (
        Exact() if iterations is None else CG(iterations, method.tol, method.eps, method.per_filter)
    )
    return Prox(method.tau_theta, solver, method.damping)


def make_orthogonal(model: nn.Module) -> None:
    """Draw the weights of all linear layers anew, with orthonormal rows or, where there are more
    rows than columns, columns; biases are zero.

    Rows are the outputs; a convolution's weight is taken as the matrix ``(c_out, c_in k k)``.
    """
    for _, layer in linear_layers(model):
        nn.init.orthogonal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
