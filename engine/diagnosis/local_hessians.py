"""Local Hessians of back-matching, measured (Zhang, Chen & Liu, 2018).

Block b of a network computes z_b = F_b(W_b, z_{b-1}). Of its loss 1/2 |z_b^+ - F_b(W_b, z_{b-1})|^2
at a target z_b^+ near its output, H_W = J_W^T J_W and H_z = J_z^T J_z are the Hessians with respect
to its weights, summed over the mini-batch, and to its inputs, but for terms in the distance to the
target. Blocks with batch normalisation are taken with the statistics of the mini-batch, as in
training: their samples are coupled, and J_z is that of the whole batch; else every sample has a J_z
of its own, and H_z is block diagonal.

All in float64. Full spectra are from Grams, of whichever side of J is smaller; what is too large
for that is measured by Lanczos. Identities that save work: H_W = I (x) A^T A for a linear block;
diagonal blocks A^T S_i^T S_i A, one a feature, where features stay apart after the linear layer,
with S_i the Jacobian of what follows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from engine.conv_patches import ConvPatches
from engine.diagnosis.blocks import Block, linear_map, small_gram
from engine.diagnosis.jacobians import Jacobian, pushed, sample_jacobians
from engine.diagnosis.spectra import Extremes, Spectrum, lanczos, of_factors, of_grams


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a spectrum is not computed whole.

    :ivar side: order of a Gram.
    :ivar elements: numbers of a Jacobian, 8 bytes each.
    :ivar work: multiplications for the spectra of single samples; fewer samples are measured where
        it would take more.
    :ivar steps: of Lanczos, at most.
    """

    side: int = 4096
    elements: int = 48_000_000
    work: float = 4e11
    steps: int = 120


_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Measured:
    """A spectrum, and how many samples it is of."""

    spectrum: Spectrum | Extremes
    samples: int


def weight_hessian(block: Block, inputs: Tensor, limits: Limits = _LIMITS) -> Measured:
    """H_W over a mini-batch, for all weights and biases of the block's linear layers.

    :param inputs: z_{b-1}, float64 ``(B, ...)``.
    """
    samples = len(inputs)
    if block.is_linear and block.keeps_features:
        return Measured(_of_linear(block, inputs), samples)
    if block.keeps_features:
        by_feature = _by_feature(block, inputs, limits)
        if by_feature is not None:
            return Measured(by_feature, samples)
    weights = {
        f"{name}.{key}": value.detach()
        for name, layer in block.linears
        for key, value in layer.named_parameters()
    }
    shapes = [value.shape for value in weights.values()]
    sizes = [math.prod(shape) for shape in shapes]

    def outputs(flat: Tensor) -> Tensor:
        parts = [part.reshape(s) for part, s in zip(flat.split(sizes), shapes, strict=True)]
        result: Tensor = functional_call(
            block.module, dict(zip(weights, parts, strict=True)), (inputs,)
        )
        return result

    point = torch.cat([value.flatten() for value in weights.values()])
    return Measured(_whole(Jacobian(outputs, point), limits), samples)


def input_hessian(block: Block, inputs: Tensor, limits: Limits = _LIMITS) -> Measured:
    """H_z: of the whole mini-batch where samples are coupled, else of each sample.

    :param inputs: z_{b-1}, float64 ``(B, ...)``.
    """
    if block.couples_samples:
        return Measured(_whole(Jacobian(block.module, inputs), limits), len(inputs))
    with torch.no_grad():
        rows = block.module(inputs[:1]).numel()
    columns = inputs[0].numel()
    small, large = sorted((rows, columns))
    if small > limits.side or rows * columns > limits.elements:
        few = max(1, min(len(inputs), limits.elements // (limits.steps * small)))
        return Measured(_whole(Jacobian(block.module, inputs[:few]), limits), few)
    # J, its Gram, and the eigenvalues of that
    work = 2.0 * small * columns * rows + 2.0 * large * small**2 + 1.4 * small**3
    count = max(1, min(len(inputs), int(limits.work / work)))
    at_once = max(1, limits.elements // (rows * columns))
    found = [
        of_factors(sample_jacobians(block.module, part)) for part in inputs[:count].split(at_once)
    ]
    return Measured(_joined(found), count)


def _of_linear(block: Block, inputs: Tensor) -> Spectrum:
    """I_m (x) A^T A."""
    _, layer = block.linears[0]
    rows = linear_map(layer, inputs)
    return of_grams(
        small_gram(rows),
        order=rows.columns,
        size=max(rows.rows, rows.columns),
        copies=layer.weight.shape[0],
    )


def _by_feature(block: Block, inputs: Tensor, limits: Limits) -> Spectrum | None:
    """One diagonal block a feature; none where that is too large."""
    _, layer = block.linears[0]
    with torch.no_grad():
        output = layer(inputs)
        features, result = output.shape[1], block.module(inputs).numel()
    rows = linear_map(layer, inputs)
    small = min(rows.rows, rows.columns)
    if small * result > limits.elements or small > limits.side:
        return None
    tail = block.after_linear(inputs)
    dense = rows.dense() if isinstance(rows, ConvPatches) else rows

    def spread(column: Tensor) -> Tensor:
        """One number a row of A, the same for every feature, in the layout of the output."""
        if output.ndim == 2:
            return column.unsqueeze(1).expand_as(output)
        batch, _, height, width = output.shape
        return column.reshape(batch, 1, height, width).expand_as(output)

    def by_feature(images: Tensor) -> Tensor:
        """``(m, rows out, k)`` from ``(k, B, ...)``."""
        split = images.reshape(len(images), len(inputs), features, -1)
        return split.permute(2, 1, 3, 0).reshape(features, -1, len(images))

    if rows.rows < rows.columns:
        units = torch.eye(rows.rows, dtype=inputs.dtype, device=inputs.device)
        after = by_feature(pushed(tail, output, spread, units))
        grams = after @ dense.outer().reshape(rows.rows, rows.rows) @ after.mT
        size = max(after.shape[1], rows.columns)
        return of_grams(grams, order=rows.columns, size=size)
    matrix = dense.a.reshape(rows.rows, -1)
    if dense.bias:
        matrix = torch.cat([matrix, torch.ones_like(matrix[:, :1])], dim=1)
    factors = by_feature(pushed(tail, output, spread, matrix.mT.contiguous()))
    return of_factors(factors)


def _whole(jacobian: Jacobian, limits: Limits) -> Spectrum | Extremes:
    """Of one Jacobian."""
    small = min(jacobian.rows, jacobian.columns)
    if small <= limits.side and jacobian.rows * jacobian.columns <= limits.elements:
        return of_factors(jacobian.dense().unsqueeze(0))
    steps = max(8, min(limits.steps, limits.elements // small))
    draw = torch.Generator().manual_seed(0)

    def random(size: int) -> Tensor:
        return torch.randn(size, generator=draw, dtype=torch.float64).to(jacobian.device)

    if jacobian.rows <= jacobian.columns:
        return lanczos(
            lambda u: jacobian.times(jacobian.transposed(u)),
            jacobian.times(random(jacobian.columns)),
            order=jacobian.columns,
            steps=steps,
        )
    return lanczos(
        lambda v: jacobian.transposed(jacobian.times(v)),
        jacobian.transposed(random(jacobian.rows)),
        order=jacobian.columns,
        steps=steps,
    )


def _joined(found: list[Spectrum]) -> Spectrum:
    values = np.concatenate([one.eigenvalues for one in found])
    fallbacks = sum(one.fallbacks for one in found)
    return Spectrum(values, found[0].order, found[0].resolution, found[0].copies, fallbacks)
