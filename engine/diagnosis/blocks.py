"""A network as a chain of blocks z_b = F_b(W_b, z_{b-1}) (Zhang, Chen & Liu, 2018).

A block is a linear layer or a residual block as a whole, and what follows it up to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.conv_patches import ConvPatches
from engine.errors import ConfigError
from engine.linear_layers import LinearLayer, linear_layers
from engine.linear_maps import Dense

_LINEAR = (nn.Linear, nn.Conv2d)
_BY_FEATURE = (
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Identity,
    _BatchNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)
"""Modules that keep features (channels) apart."""


@dataclass(frozen=True, slots=True)
class Block:
    """F_b.

    :ivar name: of its first module with weights, in the network.
    :ivar module: the whole of it.
    :ivar linears: its layers with weights, by their names in ``module``.
    """

    name: str
    module: nn.Sequential
    linears: tuple[tuple[str, LinearLayer], ...]

    @property
    def label(self) -> str:
        """What it is made of: ``64 → 32, batch norm, relu``."""
        parts = [_label(part) for part in self.module]
        return ", ".join(part for part in parts if part)

    @property
    def couples_samples(self) -> bool:
        """Whether a sample's output depends on the others: by batch normalisation."""
        return any(isinstance(module, _BatchNorm) for module in self.module.modules())

    @property
    def keeps_features(self) -> bool:
        """Whether feature i of the output depends on row i of one weight matrix alone, so that H_W
        is block diagonal over features."""
        if len(self.linears) != 1 or _groups(self.linears[0][1]) != 1:
            return False
        *rest, last = [module for module in self.module.modules() if not list(module.children())]
        known = all(isinstance(module, (*_BY_FEATURE, *_LINEAR)) for module in rest)
        # flattening at the end keeps the channels apart, anywhere else it would mix them
        return known and isinstance(last, (*_BY_FEATURE, *_LINEAR, nn.Flatten))

    @property
    def is_linear(self) -> bool:
        """Whether nothing but a change of shape follows one linear layer."""
        first, *rest = self.module
        return isinstance(first, _LINEAR) and all(
            isinstance(part, nn.Flatten | nn.Identity) for part in rest
        )

    def after_linear(self, inputs: Tensor) -> Callable[[Tensor], Tensor]:
        """The block as a function of its only linear layer's output, ``inputs`` held fixed."""
        _, linear = self.linears[0]

        def tail(output: Tensor) -> Tensor:
            handle = linear.register_forward_hook(lambda *_: output)
            try:
                result: Tensor = self.module(inputs)
            finally:
                handle.remove()
            return result

        return tail


def split(model: nn.Module) -> tuple[nn.Sequential, list[Block]]:
    """What comes before the first block, and the blocks; modules are the network's own.

    :raises ConfigError: the network is no sequence of modules.
    """
    if not isinstance(model, nn.Sequential):
        raise ConfigError("diagnose needs a network that is a sequence of layers or blocks")
    parts = list(_flat(model))
    heads = [index for index, (_, part) in enumerate(parts) if any(linear_layers(part))]
    ends = [*heads[1:], len(parts)]
    blocks = []
    for begin, end in zip(heads, ends, strict=True):
        module = nn.Sequential(*(part for _, part in parts[begin:end]))
        blocks.append(Block(parts[begin][0], module, tuple(linear_layers(module))))
    return nn.Sequential(*(part for _, part in parts[: heads[0]])), blocks


def detach_statistics(model: nn.Module) -> nn.Module:
    """Let batch normalisation use the batch's statistics and keep none, as a function of its input
    alone, in place; gives the model."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return model.train()


@torch.no_grad()
def block_inputs(stem: nn.Module, blocks: list[Block], inputs: Tensor) -> list[Tensor]:
    """z_{b-1} of every block."""
    found = [stem(inputs)]
    for block in blocks[:-1]:
        found.append(block.module(found[-1]))
    return found


def linear_map(layer: LinearLayer, inputs: Tensor) -> Dense | ConvPatches:
    """A of a layer, from its input, with a column of ones where it has a bias.

    :raises ConfigError: a convolution whose padding is not zeros around.
    """
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return Dense(inputs.flatten(0, -2), bias=bias)
    try:
        return ConvPatches.of(layer, inputs, bias=bias)
    except ValueError as error:
        raise ConfigError(f"diagnose: {error}") from None


def small_gram(rows: Dense | ConvPatches) -> Tensor:
    """A^T A or A A^T, whichever is smaller, ``(groups, k, k)``; their other eigenvalues are
    zero."""
    if rows.rows >= rows.columns:
        gram = rows.gram()
    else:
        gram = (rows.dense() if isinstance(rows, ConvPatches) else rows).outer()
    return gram.reshape(-1, *gram.shape[-2:])


def _flat(model: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, part in model.named_children():
        if type(part) is nn.Sequential:
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _groups(layer: LinearLayer) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def _label(part: nn.Module) -> str:
    match part:
        case nn.Linear():
            return f"{part.in_features} → {part.out_features}"
        case nn.Conv2d():
            kernel = "x".join(map(str, part.kernel_size))
            return f"conv {kernel} {part.in_channels} → {part.out_channels}"
        case _BatchNorm():
            return "batch norm"
        case nn.Flatten() | nn.Identity():
            return ""
        case nn.MaxPool2d() | nn.AvgPool2d() | nn.AdaptiveAvgPool2d():
            return "pool"
    labels = [_label(linear) for _, linear in linear_layers(part)]
    if not labels:
        return type(part).__name__.lower()
    norm = any(isinstance(module, _BatchNorm) for module in part.modules())
    return f"{type(part).__name__.lower()}({'; '.join(labels)}{'; batch norm' if norm else ''})"
