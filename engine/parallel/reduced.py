"""The linear map of a layer whose rows are spread over the processes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.conv_patches import ConvPatches
from engine.linear_maps import Dense, Direction
from engine.parallel.team import Team

_BLOCKS = 8  # of a symmetric matrix: 9/16 of its numbers go between the processes


@dataclass(frozen=True, slots=True)
class Reduced:
    """A of the whole batch, of which every process has some rows. A
    :class:`~engine.linear_maps.LinearMap` whose adjoint, Gram and trace are sums over processes.

    What is known from a round with other layers costs nothing; all else is an operation of its own,
    which every process comes to alike, because what leads there is the same on all of them.

    :ivar local: this process's rows.
    :ivar whole: the shapes of all rows; its numbers mean nothing.
    :ivar cotangent: this process's G, and ``gradient`` the whole A^T G, ``(..., m, n)``.
    :ivar packed: the whole Gram by :func:`pack`.
    :ivar known_trace: tr(A^T A), ``(..., 1, 1)``.
    """

    local: Dense | ConvPatches
    whole: Dense | ConvPatches
    team: Team
    cotangent: Tensor | None = None
    gradient: Tensor | None = None
    packed: Tensor | None = None
    known_trace: Tensor | None = None

    @property
    def groups(self) -> int:
        """Number of independent matrices A."""
        return self.local.groups

    @property
    def is_dense(self) -> bool:
        """Whether rows are samples."""
        return self.local.is_dense

    @property
    def rows(self) -> int:
        """N of the whole batch."""
        return self.whole.rows

    @property
    def columns(self) -> int:
        """n."""
        return self.local.columns

    @property
    def dtype(self) -> torch.dtype:
        """Type of the products."""
        return self.local.dtype

    @property
    def device(self) -> torch.device:
        """Device of the products."""
        return self.local.device

    @property
    def gram_products(self) -> int:
        """Those of all processes together."""
        return self.whole.gram_products

    def apply(self, direction: Tensor) -> Tensor:
        """This process's rows of A V."""
        return self.local.apply(direction)

    def adjoint(self, cotangent: Tensor) -> Direction:
        """(A^T G)^T ``(..., m, n)`` by parts, from this process's rows of G."""
        if self.gradient is not None and cotangent is self.cotangent:
            return self.split(self.gradient.clone())
        (whole,) = self.team.sum([self.local.adjoint(cotangent).joined()])
        return self.split(whole)

    def split(self, direction: Tensor) -> Direction:
        """V ``(..., m, n)`` by parts."""
        return self.local.split(direction)

    def gram(self) -> Tensor:
        """A^T A, ``(..., n, n)``, anew at every call."""
        packed = self.packed
        if packed is None:
            (packed,) = self.team.sum([pack(self.local.gram())])
        return unpack(packed, self.columns)

    def trace(self) -> Tensor:
        """tr(A^T A), ``(..., 1, 1)``."""
        if self.known_trace is not None:
            return self.known_trace
        if self.packed is not None:
            diagonal = self.gram().diagonal(dim1=-2, dim2=-1)
            return diagonal.sum(dim=-1)[..., None, None]
        (whole,) = self.team.sum([self.local.trace()])
        return whole

    def to(self, dtype: torch.dtype) -> Reduced:
        """The same map in another precision, with nothing known of it."""
        if dtype == self.dtype:
            return self
        return Reduced(self.local.to(dtype), self.whole.to(dtype), self.team)


def pack(symmetric: Tensor) -> Tensor:
    """A symmetric matrix ``(..., n, n)`` as ``(..., numbers)``: blocks of rows up to the block's
    last column."""
    blocks = [
        symmetric[..., start:end, :end].flatten(-2) for start, end in _blocks(symmetric.shape[-1])
    ]
    return torch.cat(blocks, dim=-1)


def unpack(packed: Tensor, order: int) -> Tensor:
    """What :func:`pack` was given."""
    matrix = packed.new_empty(*packed.shape[:-1], order, order)
    first = 0
    for start, end in _blocks(order):
        numbers = (end - start) * end
        rows = packed[..., first : first + numbers].unflatten(-1, (end - start, end))
        matrix[..., start:end, :end] = rows
        matrix[..., :start, start:end] = rows[..., :start].mT
        first += numbers
    return matrix


def packed_numbers(order: int) -> int:
    """How many :func:`pack` leaves of n^2."""
    return sum((end - start) * end for start, end in _blocks(order))


def of_length(linear_map: Dense | ConvPatches, samples: int) -> Dense | ConvPatches:
    """The shape of a map with so many samples. It takes no memory, and its numbers mean nothing."""
    if isinstance(linear_map, Dense):
        return replace(linear_map, a=shape_of(linear_map.a, samples))
    return replace(linear_map, x=shape_of(linear_map.x, samples))


def shape_of(tensor: Tensor, samples: int) -> Tensor:
    """The same for a tensor ``(B, ...)``."""
    return tensor.new_empty(1, *tensor.shape[1:]).expand(samples, *tensor.shape[1:])


def _blocks(order: int) -> list[tuple[int, int]]:
    ends = [order * block // _BLOCKS for block in range(_BLOCKS + 1)]
    return [(start, end) for start, end in itertools.pairwise(ends) if end > start]
