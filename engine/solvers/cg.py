"""The inexact proximal direction by a few conjugate gradient iterations from zero."""

from __future__ import annotations

from dataclasses import dataclass

from engine.linear_maps import Dense, Direction
from engine.solvers.cg_iterations import (
    MakeSteps,
    Recurrence,
    StepSizes,
    iterate_dual,
    iterate_in_eigenbasis,
    iterate_primal,
    recurrence,
)
from engine.solvers.ladder import Ladder
from engine.solvers.solution import Form, Solution, SolverStats, cheapest, quality
from engine.solvers.system import ProximalSystem

# An eigendecomposition of order N takes as long as about so many N^3 multiplications of a product.
_EIGH = 6.5


@dataclass(frozen=True, slots=True)
class CG:
    """V from at most ``max_iterations`` conjugate gradient iterations, starting at zero.

    A linear layer has one CG per output, all side by side; a convolution one for the whole
    flattened layer, or one per filter. Any number of iterations gives a descent direction
    ([P] Prop. 5); one is the gradient with exact line search.

    :ivar max_iterations: iterations at most, >= 1.
    :ivar tol: stops when every squared residual is below tol^2 times the mean initial one, as the
        published code does.
    :ivar eps: constant added to both denominators. 1e-6 is the published code's arithmetic and
        changes the iterates a lot, since gradients are that small. Default: none; a column whose
        residual has fallen to rounding error is left alone instead.
    :ivar per_filter: convolutions: one CG per filter.
    :raises ValueError: for settings out of range.
    """

    max_iterations: int = 3
    tol: float = 1e-2
    eps: float | None = None
    per_filter: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, not {self.max_iterations}")
        if not 0 <= self.tol < 1:
            raise ValueError(f"tol must be in [0, 1), not {self.tol}")
        if self.eps is not None and not self.eps > 0:
            raise ValueError(f"eps must be positive or None, not {self.eps}")

    @property
    def name(self) -> str:
        """Short name."""
        return f"cg{self.max_iterations}"

    def products(self, system: ProximalSystem) -> dict[Form, float]:
        """Multiplications of every form beyond BackProp's, for all iterations together."""
        rows, columns, outputs = system.map.rows, system.map.columns, system.outputs
        groups = system.map.groups
        iterations = self.max_iterations
        costs: dict[Form, float] = {
            "operator": 2 * groups * rows * columns * outputs * iterations,
            "primal": system.map.gram_products + groups * columns**2 * outputs * iterations,
        }
        if isinstance(system.map, Dense):
            # A^T U at its end stands for A^T G at the beginning of the others
            diagonal = self._diagonalises(system)
            products = 2 * outputs + _EIGH * rows if diagonal else iterations * outputs
            costs["dual"] = system.map.outer_products + groups * rows**2 * products
        return costs

    def solve(
        self,
        system: ProximalSystem,
        ladder: Ladder,
        *,
        record: bool = False,
        form: Form | None = None,
    ) -> Solution:
        """Solve the system; see :class:`~engine.solvers.base.Solver`."""
        form = form or cheapest(self.products(system))
        direction, steps = self._iterate(system, form, ladder, record=record)
        return self.solution(system, form, direction, steps)

    def recurrence(self, system: ProximalSystem, *, record: bool = False) -> Recurrence:
        """The iterations of the operator form, for whoever makes the products themselves; with what
        they end :meth:`solution` makes a solution."""
        steps = self._make_steps(record=record)
        return recurrence(system.gradient(), self.max_iterations, steps, flat=self._is_flat(system))

    def solution(
        self, system: ProximalSystem, form: Form, direction: Direction, steps: StepSizes
    ) -> Solution:
        """A direction, and where the iterations were recorded how it was found."""
        if not steps.record:
            return Solution(direction)
        residual, cosine = quality(system, direction)
        stats = SolverStats(
            solver=self.name,
            form=form,
            size=system.map.rows if form == "dual" else system.map.columns,
            beta=system.beta,
            products=self.products(system)[form],
            rung=0,
            iterations=steps.iterations,
            converged=~steps.running,
            residuals=steps.relative_residuals(),
            true_residual=residual,
            cosine=cosine,
        )
        return Solution(direction, stats)

    def _diagonalises(self, system: ProximalSystem) -> bool:
        """Whether the dual form goes to the eigenbasis and back instead of one product with the
        Gram an iteration. On an accelerator it would have to wait for the decomposition."""
        if system.map.device.type != "cpu":
            return False
        saved = (self.max_iterations - 2) * system.outputs
        return saved > _EIGH * system.map.rows

    def _iterate(
        self, system: ProximalSystem, form: Form, ladder: Ladder, *, record: bool
    ) -> tuple[Direction, StepSizes]:
        steps = self._make_steps(record=record)
        if form == "dual":
            if self._diagonalises(system):
                return iterate_in_eigenbasis(system, self.max_iterations, steps, ladder)
            return iterate_dual(system, self.max_iterations, steps)
        flat = self._is_flat(system)
        return iterate_primal(system, form, self.max_iterations, steps, flat=flat)

    def _make_steps(self, *, record: bool) -> MakeSteps:
        return lambda rho: StepSizes(rho, self.tol, self.eps, record=record)

    def _is_flat(self, system: ProximalSystem) -> bool:
        """Whether all outputs (and groups) are one vector; else every output has its own."""
        return not system.map.is_dense and not self.per_filter
