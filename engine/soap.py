"""SOAP of the package pytorch-optimizer with eigenvectors that are checked.

Imported only where the package is known to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_optimizer import SOAP
from torch import Tensor

from engine.solvers import Ladder, Rung, eigh, is_finite

Basis = Tensor | list[Tensor]
"""Of one axis of a parameter, ``(n, n)``; an empty list for an axis without one."""


class CheckedSoap(SOAP):
    """The library's optimiser, to the bit as long as its factorisations succeed.

    Where a first basis is not found, its axis keeps the parameter's own axes, as in Adam; where a
    later one is not finite, the basis from before serves on. The library itself raises, or goes on
    with NaN, in these cases.

    :ivar ladder: where both are counted.
    """

    ladder: Ladder

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.ladder = Ladder()

    def get_orthogonal_matrix(  # type: ignore[override] # the library's types are wrong
        self, mat: Sequence[Basis]
    ) -> list[Basis]:
        """Return the eigenvectors of the factors of a parameter, in falling order."""
        return [self._basis(factor) if isinstance(factor, Tensor) else [] for factor in mat]

    def get_orthogonal_matrix_qr(
        self, state: dict[str, Any], *args: Any, **settings: Any
    ) -> list[Basis]:
        """Return the next bases of a parameter, by one power iteration from those it has."""
        before, squares = state["Q"], state["exp_avg_sq"]
        found: list[Basis] = super().get_orthogonal_matrix_qr(state, *args, **settings)
        if all(is_finite(basis) for basis in found if isinstance(basis, Tensor)):
            return found
        self.ladder.count(Rung.OTHER_BASIS)
        state["exp_avg_sq"] = squares  # in the order of that basis
        kept: list[Basis] = before
        return kept

    def _basis(self, factor: Tensor) -> Tensor:
        unit = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        found = eigh(factor + 1e-30 * unit, self.ladder)
        if found is None:
            self.ladder.count(Rung.OTHER_BASIS)
            return unit
        return found[1].flip(1)
