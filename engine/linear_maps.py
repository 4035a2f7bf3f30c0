"""The linear map of a layer, V -> A V, as an object.

A layer's output is linear in its free parameters: row r of A in R^{N x n} is what the parameters
of one output are multiplied with. For a linear layer the rows are the samples, for a convolution
the patches under every output position; a free bias is a last column of ones ([P] section 3).

Conventions: a direction V has the layout of the parameters, one row per output: ``(..., m, n)``.
Leading axes are groups, systems of equal shape with a matrix A each (grouped convolutions); a
layer without groups has none or one. Where a bias is frozen or absent there is no column of ones,
where a weight is frozen there is nothing but it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

Pair = tuple[int, int]

# Elements of the patch matrix unfolded at a time: 8 MiB in float32 stay near the processor.
_CHUNK_ELEMENTS = 2 * 1024 * 1024


class Direction(NamedTuple):
    """V by parts, so that a large weight's is never copied: ``(..., m, n_in)``, ``(..., m, 1)``.

    A part is ``None`` where that parameter is frozen or absent.
    """

    weight: Tensor | None
    bias: Tensor | None

    def joined(self) -> Tensor:
        """V as one matrix ``(..., m, n)``, the bias last."""
        if self.weight is None or self.bias is None:
            return self._only()
        return torch.cat([self.weight, self.bias], dim=-1)

    def to(self, dtype: torch.dtype) -> Direction:
        """The same in another precision."""
        return Direction(*(part if part is None else part.to(dtype) for part in self))

    def _only(self) -> Tensor:
        part = self.weight if self.weight is not None else self.bias
        if part is None:
            raise ValueError("a linear map needs a free weight or a free bias")
        return part


class LinearMap(Protocol):
    """V -> A V for the free parameters of one layer and one mini-batch."""

    @property
    def groups(self) -> int:
        """Number of independent matrices A."""
        ...

    @property
    def rows(self) -> int:
        """N: samples, for convolutions times output positions."""
        ...

    @property
    def columns(self) -> int:
        """n: free parameters of one output, its bias included."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type in which all products are formed."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the products are formed."""
        ...

    def apply(self, direction: Tensor) -> Tensor:
        """A V in the layout of the layer's output, from V ``(..., m, n)``."""
        ...

    def adjoint(self, cotangent: Tensor) -> Direction:
        """(A^T G)^T ``(..., m, n)`` by parts, from G in the layout of the layer's output."""
        ...

    def split(self, direction: Tensor) -> Direction:
        """V ``(..., m, n)`` by parts."""
        ...

    def gram(self) -> Tensor:
        """A^T A, ``(..., n, n)``."""
        ...

    def trace(self) -> Tensor:
        """tr(A^T A), ``(..., 1, 1)``."""
        ...

    def to(self, dtype: torch.dtype) -> Self:
        """The same map in another precision."""
        ...


@dataclass(frozen=True, slots=True)
class Dense:
    """A = [a, 1] with the matrix at hand.

    :ivar a: ``(..., N, n_in)``.
    :ivar weight: whether the columns of ``a`` belong to the map (the weight is free).
    :ivar bias: whether the column of ones does (the bias is free).
    """

    a: Tensor
    weight: bool = True
    bias: bool = True

    @property
    def groups(self) -> int:
        """Number of independent matrices A."""
        return math.prod(self.a.shape[:-2])

    @property
    def rows(self) -> int:
        """N."""
        return self.a.shape[-2]

    @property
    def columns(self) -> int:
        """n."""
        return self.weight * self.a.shape[-1] + self.bias

    @property
    def dtype(self) -> torch.dtype:
        """Type of the products."""
        return self.a.dtype

    @property
    def device(self) -> torch.device:
        """Device of the products."""
        return self.a.device

    def to(self, dtype: torch.dtype) -> Dense:
        """The same map in another precision."""
        return replace(self, a=self.a.to(dtype))

    def apply(self, direction: Tensor) -> Tensor:
        """A V, ``(..., N, m)``."""
        if not self.weight:
            return direction.mT.expand(*self.a.shape[:-1], direction.shape[-2])
        if not self.bias:
            return self.a @ direction.mT
        return self.a @ direction[..., :-1].mT + direction[..., -1:].mT

    def adjoint(self, cotangent: Tensor) -> Direction:
        """(A^T G)^T, ``(..., m, n)`` by parts, from G ``(..., N, m)``."""
        return Direction(
            cotangent.mT @ self.a if self.weight else None,
            cotangent.sum(dim=-2).unsqueeze(-1) if self.bias else None,
        )

    def split(self, direction: Tensor) -> Direction:
        """V ``(..., m, n)`` by parts."""
        return _split(direction, self.weight, self.bias)

    def gram(self) -> Tensor:
        """A^T A, ``(..., n, n)``."""
        if not self.weight:
            return self.a.new_full((*self.a.shape[:-2], 1, 1), self.rows)
        inner = self.a.mT @ self.a
        if not self.bias:
            return inner
        gram = self.a.new_empty(*self.a.shape[:-2], self.columns, self.columns)
        sums = self.a.sum(dim=-2)
        gram[..., :-1, :-1] = inner
        gram[..., -1, :-1] = sums
        gram[..., :-1, -1] = sums
        gram[..., -1, -1] = self.rows
        return gram

    def outer(self) -> Tensor:
        """K = A A^T, ``(..., N, N)``."""
        if not self.weight:
            return self.a.new_ones(*self.a.shape[:-1], self.rows)
        outer = self.a @ self.a.mT
        return outer.add_(1.0) if self.bias else outer

    def trace(self) -> Tensor:
        """tr(A^T A), ``(..., 1, 1)``."""
        trace = self.a.new_zeros(*self.a.shape[:-2], 1, 1)
        if self.weight:
            trace = trace + self.a.square().sum(dim=(-2, -1), keepdim=True)
        return trace + self.rows if self.bias else trace


@dataclass(frozen=True, slots=True)
class ConvPatches:
    """A for a convolution, never held whole: its rows are the patches of ``x``.

    :ivar x: input ``(B, c_in, H, W)``.
    :ivar kernel: kernel height and width; likewise ``stride``, ``padding`` (zeros on both sides)
        and ``dilation``.
    :ivar groups: blocks of channels that do not mix.
    """

    x: Tensor
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    weight: bool = True
    bias: bool = True

    @property
    def positions(self) -> Pair:
        """Height and width of the output."""
        height, width = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                self.x.shape[-2:],
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        )
        return height, width

    @property
    def patch_size(self) -> int:
        """Numbers under one kernel: c_in/groups k k."""
        return self.x.shape[1] // self.groups * math.prod(self.kernel)

    @property
    def rows(self) -> int:
        """N = B H' W'."""
        return self.x.shape[0] * math.prod(self.positions)

    @property
    def columns(self) -> int:
        """n."""
        return self.weight * self.patch_size + self.bias

    @property
    def dtype(self) -> torch.dtype:
        """Type of the products."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Device of the products."""
        return self.x.device

    def to(self, dtype: torch.dtype) -> ConvPatches:
        """The same map in another precision."""
        return replace(self, x=self.x.to(dtype))

    def apply(self, direction: Tensor) -> Tensor:
        """A V, ``(B, c_out, H', W')``, from V ``(groups, c_out/groups, n)``."""
        flat = direction.reshape(-1, self.columns)
        if not self.weight:
            return flat.reshape(1, -1, 1, 1).expand(self.x.shape[0], -1, *self.positions)
        weight = flat[:, :-1] if self.bias else flat
        return F.conv2d(
            self.x,
            weight.reshape(-1, self.x.shape[1] // self.groups, *self.kernel),
            flat[:, -1].contiguous() if self.bias else None,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )

    def adjoint(self, cotangent: Tensor) -> Direction:
        """(A^T G)^T ``(groups, c_out/groups, n)`` by parts, from G ``(B, c_out, H', W')``."""
        weight = bias = None
        if self.weight:
            shape = (cotangent.shape[1], self.x.shape[1] // self.groups, *self.kernel)
            weight = conv2d_weight(
                self.x, shape, cotangent, self.stride, self.padding, self.dilation, self.groups
            ).reshape(self.groups, -1, self.patch_size)
        if self.bias:
            bias = cotangent.sum(dim=(0, 2, 3)).reshape(self.groups, -1, 1)
        return Direction(weight, bias)

    def split(self, direction: Tensor) -> Direction:
        """V ``(groups, c_out/groups, n)`` by parts."""
        return _split(direction, self.weight, self.bias)

    def gram(self) -> Tensor:
        """A^T A, ``(groups, n, n)``, from a few samples' patches at a time."""
        gram = self.x.new_zeros(self.groups, self.columns, self.columns)
        if not self.weight:
            return gram.fill_(self.rows)
        elements = max(1, self.groups * self.columns * math.prod(self.positions))
        for x in self.x.split(max(1, _CHUNK_ELEMENTS // elements)):
            patches = self._unfold(x)
            gram.baddbmm_(patches, patches.mT)
        return gram

    def trace(self) -> Tensor:
        """tr(A^T A), ``(groups, 1, 1)``."""
        trace = self.x.new_zeros(self.groups, 1, 1)
        if self.weight:
            energy = self.x.square().unflatten(1, (self.groups, -1)).sum(dim=2)
            ones = self.x.new_ones(self.groups, 1, *self.kernel)
            windows = F.conv2d(
                energy, ones, None, self.stride, self.padding, self.dilation, self.groups
            )
            trace = trace + windows.sum(dim=(0, 2, 3)).reshape(self.groups, 1, 1)
        return trace + self.rows if self.bias else trace

    def dense(self) -> Dense:
        """The same map with all patches unfolded: only for few rows. Group axis first."""
        patches = self._unfold(self.x, bias=False) if self.weight else self._no_patches()
        return Dense(patches.mT, weight=self.weight, bias=self.bias)

    def rows_first(self, cotangent: Tensor) -> Tensor:
        """G ``(B, c_out, H', W')`` as ``(groups, N, c_out/groups)``, rows as in :meth:`dense`."""
        grouped = cotangent.unflatten(1, (self.groups, -1))
        rows: Tensor = grouped.permute(1, 0, 3, 4, 2).reshape(self.groups, self.rows, -1)
        return rows

    def _no_patches(self) -> Tensor:
        return self.x.new_empty(self.groups, 0, self.rows)

    def _unfold(self, x: Tensor, bias: bool | None = None) -> Tensor:
        """Patches of some samples, ``(groups, n, B H' W')``, the row of ones last."""
        batch, channels = x.shape[:2]
        (pad_y, pad_x), (height, width) = self.padding, self.positions
        padded = F.pad(x, (pad_x, pad_x, pad_y, pad_y)) if pad_x or pad_y else x
        in_batch, in_channel, in_y, in_x = padded.stride()
        # every patch as a view (c_in, k, k, B, H', W'); one copy makes the matrix
        windows = padded.as_strided(
            (channels, *self.kernel, batch, height, width),
            (
                in_channel,
                in_y * self.dilation[0],
                in_x * self.dilation[1],
                in_batch,
                in_y * self.stride[0],
                in_x * self.stride[1],
            ),
        )
        with_ones = self.bias if bias is None else bias
        patches = x.new_empty(self.groups, self.patch_size + with_ones, batch * height * width)
        target = patches[:, : self.patch_size]
        target.unflatten(2, (batch, height, width)).unflatten(
            1, (channels // self.groups, *self.kernel)
        ).copy_(windows.unflatten(0, (self.groups, -1)))
        if with_ones:
            patches[:, -1] = 1.0
        return patches


def _split(direction: Tensor, weight: bool, bias: bool) -> Direction:
    if not weight:
        return Direction(None, direction)
    if not bias:
        return Direction(direction, None)
    return Direction(direction[..., :-1], direction[..., -1:])
