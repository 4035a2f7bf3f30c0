"""The linear system of one proximal step."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.conv_patches import ConvPatches
from engine.linear_maps import Dense, Direction, LinearMap
from engine.precision import Around


@dataclass(frozen=True, slots=True)
class ProximalSystem:
    """(A^T A + beta I) V = A^T G ([P] Eq. 13 with tau taken out).

    :ivar map: V -> A V.
    :ivar cotangent: G, gradient of the loss at the layer's output, in the output's layout.
    :ivar beta: damping, a number or a tensor that broadcasts to ``(..., 1, 1)``.
    :ivar around: makes a block with the precision of the code around the solver.
    """

    map: LinearMap
    cotangent: Tensor
    beta: float | Tensor
    around: Around = nullcontext

    @property
    def outputs(self) -> int:
        """m: outputs of one group."""
        if isinstance(self.map, Dense):
            return self.cotangent.shape[-1]
        return self.cotangent.shape[1] // self.map.groups

    def gradient(self) -> Tensor:
        """A^T G, the direction of BackProp, ``(..., m, n)``."""
        return self.map.adjoint(self.cotangent).joined()

    def from_dual(self, weights: Tensor) -> Direction:
        """V = A^T U, the end of a dual form. It stands for BackProp's product A^T G, and nothing
        is solved with it: so it is made in the precision of the code around."""
        with self.around():
            return self.map.adjoint(weights)

    def normal(self, direction: Tensor) -> Tensor:
        """(A^T A + beta I) V by products with A and A^T, ``(..., m, n)``."""
        product = self.map.adjoint(self.map.apply(direction)).joined()
        return product.add_(direction * self.beta)

    def to(self, dtype: torch.dtype) -> ProximalSystem:
        """The same system in another precision."""
        beta = self.beta.to(dtype) if isinstance(self.beta, Tensor) else self.beta
        return replace(self, map=self.map.to(dtype), cotangent=self.cotangent.to(dtype), beta=beta)

    def unfolded(self) -> ProximalSystem:
        """The same system with the map's matrix at hand, and G as ``(..., N, m)``."""
        if not isinstance(self.map, ConvPatches):
            return self
        cotangent = self.map.rows_first(self.cotangent)
        return replace(self, map=self.map.dense(), cotangent=cotangent)
