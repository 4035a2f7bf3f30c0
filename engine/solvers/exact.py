"""The exact proximal direction by a Cholesky factorisation, primal or dual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from engine.linear_maps import Dense, Direction
from engine.solvers.eigen import eigh, is_finite, is_of_factorisation
from engine.solvers.ladder import Ladder, Rung
from engine.solvers.solution import Form, Solution, SolverStats, cheapest, quality
from engine.solvers.system import ProximalSystem

# Up to this order an explicit inverse is made.
_INVERT_UP_TO = 2048
# From the right-hand side, A^T G (primal) or G (dual), the solution, V^T or U with V = A^T U, and
# whether that failed as a 0-d boolean tensor.
Attempt = Callable[[ProximalSystem, Form, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Exact:
    """V = (A^T A + beta I)^{-1} A^T G, to rounding.

    Primal (n <= N) factorises A^T A + beta I; dual (N < n) uses the push-through identity
    V = A^T (A A^T + beta I)^{-1} G, where the product with A^T takes the place of BackProp's
    weight gradient. The cheaper one is chosen by its count of operations.
    """

    @property
    def name(self) -> str:
        """Short name."""
        return "exact"

    def products(self, system: ProximalSystem) -> dict[Form, float]:
        """Multiplications of every form beyond BackProp's: Gram, inverse, product with it."""
        rows, columns, outputs = system.map.rows, system.map.columns, system.outputs
        groups = system.map.groups
        outer = (
            system.map.outer_products
            if isinstance(system.map, Dense)
            else (groups * rows**2 * columns)
        )
        return {
            "primal": system.map.gram_products + groups * columns**2 * (columns + outputs),
            "dual": outer + groups * rows**2 * (rows + outputs),
        }

    def solve(
        self,
        system: ProximalSystem,
        ladder: Ladder,
        *,
        record: bool = False,
        form: Form | None = None,
    ) -> Solution:
        """Solve the system; see :class:`~engine.solvers.base.Solver`."""
        costs = self.products(system)
        form = form or cheapest(costs)
        dense = system.unfolded() if form == "dual" else system
        rung, direction = self._climb(dense, form, ladder)
        if not record:
            return Solution(direction)
        residual, cosine = quality(dense, direction)
        stats = SolverStats(
            solver=self.name,
            form=form,
            size=system.map.rows if form == "dual" else system.map.columns,
            beta=system.beta,
            products=costs[form],
            rung=int(rung),
            iterations=0,
            converged=True,
            residuals=(),
            true_residual=residual,
            cosine=cosine,
        )
        return Solution(direction, stats)

    def _climb(self, system: ProximalSystem, form: Form, ladder: Ladder) -> tuple[Rung, Direction]:
        device = system.map.device.type
        precise, right = system, _right(system, form)
        for rung, attempt in _RUNGS:
            if rung < ladder.start or (rung > Rung.CHOLESKY and device == "mps"):
                continue  # MPS has no float64
            if rung > Rung.CHOLESKY and precise is system:
                # anew from A: what was rounded to float32 can not be mended
                precise = system.to(torch.float64)
                right = _right(precise, form)
                if device == "cpu" and not (is_finite(right) and is_finite(precise.map.trace())):
                    break  # no rung can mend that
            try:
                solution, failed = attempt(precise, form, right)
            except RuntimeError as error:
                if not is_of_factorisation(error):
                    raise
                continue
            if device != "cpu":
                ladder.defer(failed)
                solution = torch.where(failed, _safe_gradient(precise, right), solution)
            elif failed or not is_finite(solution):
                continue
            else:
                ladder.count(rung)
            return rung, _direction(precise, form, solution).to(system.map.dtype)
        ladder.count(Rung.GRADIENT)
        solution = _safe_gradient(system, _right(system, form))
        return Rung.GRADIENT, _direction(system, form, solution)


def _cholesky(
    system: ProximalSystem, form: Form, right: Tensor, jitter: float = 0.0
) -> tuple[Tensor, Tensor]:
    matrix = _gram(system, form)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    if jitter:
        diagonal += jitter * diagonal.mean(dim=-1, keepdim=True)
    diagonal += _beta_for_diagonal(system.beta)
    order, columns = right.shape[-2:]
    if order > _INVERT_UP_TO or order > 2 * columns:
        factor, info = torch.linalg.cholesky_ex(matrix)
        return torch.cholesky_solve(right, factor), (info != 0).any()
    # One product with an inverse is 2.5 times faster than two triangular substitutions. Made in
    # float64, which costs little at these orders, it is also more accurate than they are.
    double = matrix.double() if system.map.device.type == "cpu" else matrix
    factor, info = torch.linalg.cholesky_ex(double)
    failed = (info != 0).any()
    if factor.device.type == "cpu" and failed:
        return right, failed  # a zero on the diagonal of what is left would raise
    inverse = torch.cholesky_inverse(factor).to(matrix.dtype)
    return inverse @ right, failed


def _eigh(system: ProximalSystem, form: Form, right: Tensor) -> tuple[Tensor, Tensor]:
    matrix = _gram(system, form)
    found = eigh(matrix)
    if found is None:
        return right, torch.ones((), dtype=torch.bool, device=right.device)
    values, vectors = found
    # eigenvalues within rounding of zero carry no information, only noise
    floor = values[..., -1:] * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
    damped = values.clamp_min(0.0) + _beta_for_diagonal(system.beta) + floor
    solution = vectors @ ((vectors.mT @ right) / damped.unsqueeze(-1))
    return solution, ~torch.isfinite(solution).all()


def _right(system: ProximalSystem, form: Form) -> Tensor:
    """The right-hand side: G, or (primal) A^T G ``(..., n, m)``."""
    return system.cotangent if form == "dual" else system.gradient().mT


def _gram(system: ProximalSystem, form: Form) -> Tensor:
    """The Gram of the form, without damping."""
    if form == "dual" and isinstance(system.map, Dense):
        return system.map.outer()
    return system.map.gram()


def _direction(system: ProximalSystem, form: Form, solution: Tensor) -> Direction:
    return system.from_dual(solution) if form == "dual" else system.map.split(solution.mT)


def _safe_gradient(system: ProximalSystem, right: Tensor) -> Tensor:
    """The gradient in the form's terms, at a length that does not increase
    |A V - G|^2/2 + beta |V|^2/2, since the trace bounds the largest eigenvalue."""
    return right / (system.map.trace() + system.beta)


def _beta_for_diagonal(beta: float | Tensor) -> float | Tensor:
    return beta.squeeze(-1) if isinstance(beta, Tensor) and beta.ndim else beta


_RUNGS: tuple[tuple[Rung, Attempt], ...] = (
    (Rung.CHOLESKY, _cholesky),
    (Rung.FLOAT64, _cholesky),
    *((Rung.JITTER, partial(_cholesky, jitter=10.0**exponent)) for exponent in range(-6, 1)),
    (Rung.EIGH, _eigh),
)
