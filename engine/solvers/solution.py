"""What a solver answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engine.linear_maps import Direction
from engine.solvers.system import ProximalSystem

Form = Literal["primal", "dual", "operator"]


@dataclass(frozen=True, slots=True)
class SolverStats:
    """How a system was solved. Tensors stay on the device until :meth:`to_host`.

    :ivar solver: name of the solver.
    :ivar form: ``primal`` (Gram A^T A), ``dual`` (Gram A A^T) or ``operator`` (no Gram).
    :ivar size: order of the system solved, n or N.
    :ivar beta: damping.
    :ivar products: multiplications that the form was expected to take beyond BackProp's, by which
        it was chosen.
    :ivar rung: what answered: 0 is the plain method, see :class:`~engine.solvers.ladder.Rung`.
    :ivar iterations: CG iterations made; 0 for a direct solution.
    :ivar converged: whether the stop criterion was met (direct solutions: always).
    :ivar residuals: relative residual per iteration as the recurrence has it, the start first:
        root of the sum of squares over all columns, relative to that of A^T G.
    :ivar true_residual: the same of the returned direction, computed anew.
    :ivar cosine: cosine of the angle between direction and gradient.
    """

    solver: str
    form: Form
    size: int
    beta: float | Tensor
    products: float
    rung: int
    iterations: int | Tensor
    converged: bool | Tensor
    residuals: tuple[float, ...] | Tensor
    true_residual: float | Tensor
    cosine: float | Tensor

    def to_host(self) -> SolverStats:
        """The same with plain numbers; waits for the device once per tensor."""
        residuals = self.residuals
        if isinstance(residuals, Tensor):
            residuals = tuple(float(value) for value in residuals.tolist())
        iterations = int(self.iterations)
        beta = self.beta
        return SolverStats(
            solver=self.solver,
            form=self.form,
            size=self.size,
            beta=float(beta.mean()) if isinstance(beta, Tensor) else beta,
            products=self.products,
            rung=self.rung,
            iterations=iterations,
            converged=bool(self.converged),
            residuals=residuals[: iterations + 1],
            true_residual=float(self.true_residual),
            cosine=float(self.cosine),
        )

    @property
    def stop_reason(self) -> str:
        """Why the solver stopped, in words; on the host only."""
        if self.rung:
            from engine.solvers.ladder import Rung

            return Rung(self.rung).label
        if not self.residuals or self.solver == "exact":
            return "direct"
        return "converged" if self.converged else "max iterations"


@dataclass(frozen=True, slots=True)
class Solution:
    """A direction and, where asked for, how it was found.

    :ivar direction: V ``(..., m, n)`` by parts, in the layout of the parameters.
    :ivar stats: statistics, when they were to be recorded.
    """

    direction: Direction
    stats: SolverStats | None = None


def cheapest(products: Mapping[Form, float]) -> Form:
    """The form with the fewest multiplications."""
    return min(products, key=lambda form: products[form])


def quality(system: ProximalSystem, solution: Direction) -> tuple[Tensor, Tensor]:
    """Relative residual of a direction, and the cosine of its angle with the gradient."""
    direction, gradient = solution.joined(), system.gradient()
    tiny = torch.finfo(gradient.dtype).tiny
    scale = torch.linalg.vector_norm(gradient).clamp_min(tiny)
    residual = torch.linalg.vector_norm(system.normal(direction) - gradient) / scale
    length = torch.linalg.vector_norm(direction).clamp_min(tiny)
    return residual, ((gradient / scale) * (direction / length)).sum()
