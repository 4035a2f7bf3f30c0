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

import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

_BLOCKS = 4  # of a symmetric product


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
    def is_dense(self) -> bool:
        """Whether every row is a sample of its own, as in a linear layer."""
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

    @property
    def gram_products(self) -> int:
        """Multiplications that :meth:`gram` takes."""
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
    def is_dense(self) -> bool:
        """Rows are samples."""
        return True

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

    @property
    def gram_products(self) -> int:
        """N n^2 per group, less what symmetry saves."""
        return self.groups * _symmetric_products(self.columns, self.rows, self.device)

    @property
    def outer_products(self) -> int:
        """Multiplications that :meth:`outer` takes: N^2 n per group, less what symmetry saves."""
        return self.groups * _symmetric_products(self.rows, self.columns, self.device)

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
        return split_columns(direction, self.weight, self.bias)

    def gram(self) -> Tensor:
        """A^T A, ``(..., n, n)``."""
        if not self.weight:
            return self.a.new_full((*self.a.shape[:-2], 1, 1), self.rows)
        inner = symmetric_product(self.a.mT)
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
        outer = symmetric_product(self.a)
        return outer.add_(1.0) if self.bias else outer

    def trace(self) -> Tensor:
        """tr(A^T A), ``(..., 1, 1)``."""
        trace = self.a.new_zeros(*self.a.shape[:-2], 1, 1)
        if self.weight:
            trace = trace + self.a.square().sum(dim=(-2, -1), keepdim=True)
        return trace + self.rows if self.bias else trace


def symmetric_product(a: Tensor) -> Tensor:
    """A A^T ``(..., N, N)`` from A ``(..., N, n)``, on a CPU with 5/8 of a product's work: four
    blocks of rows, each times the rows up to its own last, and the rest mirrored."""
    order = a.shape[-2]
    if not _in_blocks(order, a.device):
        return a @ a.mT
    product = a.new_empty(*a.shape[:-1], order)
    ends = [order * block // _BLOCKS for block in range(_BLOCKS + 1)]
    for start, end in itertools.pairwise(ends):
        left, below = a[..., start:end, :], product[..., start:end, :]
        torch.matmul(left, a[..., :end, :].mT, out=below[..., :end])
        product[..., :start, start:end] = below[..., :start].mT
    return product


def _in_blocks(order: int, device: torch.device) -> bool:
    return device.type == "cpu" and order >= 8 * _BLOCKS


def _symmetric_products(order: int, inner: int, device: torch.device) -> int:
    share = (_BLOCKS + 1) / (2 * _BLOCKS) if _in_blocks(order, device) else 1
    return round(share * order**2 * inner)


def split_columns(direction: Tensor, weight: bool, bias: bool) -> Direction:
    """V ``(..., m, n)`` by parts, for a map with free weight, bias or both."""
    if not weight:
        return Direction(None, direction)
    if not bias:
        return Direction(direction, None)
    return Direction(direction[..., :-1], direction[..., -1:])
