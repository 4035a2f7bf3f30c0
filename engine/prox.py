"""The proximal step of one layer: damping, precision, solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from engine.conv_patches import ConvPatches
from engine.linear_maps import Dense, Direction, LinearMap
from engine.precision import full
from engine.solvers import Exact, Ladder, ProximalSystem, Solver, SolverStats

Damping = Literal["sum", "mean", "trace"]
Observer = Callable[[SolverStats], None]


class Step(Protocol):
    """What a layer makes of its inputs and the gradient at its output."""

    def direction(
        self,
        linear_map: Dense | ConvPatches,
        cotangent: Tensor,
        ladder: Ladder,
        observer: Observer | None = None,
    ) -> Direction:
        """V ``(..., m, n)`` by parts of one mini-batch; parameters as in :meth:`Prox.direction`."""
        ...


@dataclass(frozen=True, slots=True)
class Explicit:
    """BackProp's direction A^T G, for layers that need more than ``nn.Linear`` and ``nn.Conv2d``
    can do. It solves nothing, and so has no statistics."""

    def direction(
        self,
        linear_map: Dense | ConvPatches,
        cotangent: Tensor,
        ladder: Ladder,
        observer: Observer | None = None,
    ) -> Direction:
        """A^T G, in the precision of the code around."""
        return linear_map.adjoint(cotangent)


@dataclass(frozen=True, slots=True)
class Prox:
    """The proximal step of a layer's parameters ([P] Eq. 13 with tau taken out):

    V = argmin_V |A V - G|^2/2 + beta |V|^2/2 = (A^T A + beta I)^{-1} A^T G,

    with A ``(N, n)`` the layer's inputs (and a column of ones for the bias) and G the gradient of
    the mean loss at its output. The optimiser's learning rate is the paper's tau.

    :ivar tau_theta: proximal step size, > 0.
    :ivar solver: :class:`~engine.solvers.Exact` or :class:`~engine.solvers.CG`.
    :ivar damping: beta: ``"sum"`` 1/tau_theta, the paper's, whose strength relative to the data
        shrinks with the batch, since A^T A is a sum over its N rows; ``"mean"`` N/tau_theta;
        ``"trace"`` tr(A^T A)/(n tau_theta).
    :raises ValueError: for settings out of range.
    """

    tau_theta: float = 1.0
    solver: Solver = Exact()
    damping: Damping = "sum"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not (0 < self.tau_theta < float("inf")):
            raise ValueError(f"tau_theta must be positive and finite, not {self.tau_theta}")
        if self.damping not in ("sum", "mean", "trace"):
            raise ValueError(f"damping must be 'sum', 'mean' or 'trace', not {self.damping!r}")

    def beta(self, linear_map: LinearMap) -> float | Tensor:
        """What is added to the diagonal of A^T A; a tensor ``(..., 1, 1)`` for ``"trace"``."""
        match self.damping:
            case "sum":
                return 1.0 / self.tau_theta
            case "mean":
                return linear_map.rows / self.tau_theta
            case "trace":
                scale = linear_map.trace() / (linear_map.columns * self.tau_theta)
                # all inputs zero: any damping gives the direction zero
                return scale.clamp_min(torch.finfo(scale.dtype).tiny)

    def direction(
        self,
        linear_map: Dense | ConvPatches,
        cotangent: Tensor,
        ladder: Ladder,
        observer: Observer | None = None,
    ) -> Direction:
        """V ``(..., m, n)`` by parts of one mini-batch.

        :param cotangent: G in the layout of the layer's output.
        :param ladder: where the layer's failures are counted.
        :param observer: called with the solver's statistics, which cost a few products more.
        """
        if linear_map.rows == 0:
            return linear_map.adjoint(cotangent)
        with full(cotangent.device) as around:
            system = ProximalSystem(linear_map, cotangent, self.beta(linear_map), around)
            solution = self.solver.solve(system, ladder, record=observer is not None)
        if observer is not None and solution.stats is not None:
            observer(solution.stats)
        return solution.direction


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type in which a step is computed for parameters of a type: float32 or better."""
    return torch.promote_types(dtype, torch.float32)
