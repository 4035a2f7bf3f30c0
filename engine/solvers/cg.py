"""The inexact proximal direction by a few conjugate gradient iterations from zero."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.linear_maps import Dense, Direction
from engine.solvers.ladder import Ladder
from engine.solvers.solution import Form, Solution, SolverStats, quality
from engine.solvers.system import ProximalSystem


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

    def form(self, system: ProximalSystem) -> Form:
        """The cheapest form by multiplications, for all iterations together."""
        rows, columns, outputs = system.map.rows, system.map.columns, system.outputs
        groups = system.map.groups
        iterations = self.max_iterations
        costs: dict[Form, float] = {
            "operator": 2 * groups * rows * columns * outputs * iterations,
            "primal": system.map.gram_products + groups * columns**2 * outputs * iterations,
        }
        if isinstance(system.map, Dense):
            # A^T U at its end stands for A^T G at the beginning of the others
            costs["dual"] = groups * rows**2 * (columns + outputs * iterations)
        return min(costs, key=lambda form: costs[form])

    def solve(self, system: ProximalSystem, ladder: Ladder, *, record: bool = False) -> Solution:
        """Solve the system; see :class:`~engine.solvers.base.Solver`."""
        form = self.form(system)
        # flattened: all outputs (and groups) are one vector; else every output has its own
        flat = not isinstance(system.map, Dense) and not self.per_filter
        solve = _solve_dual if form == "dual" else _solve_primal
        direction, steps = solve(self, system, form, flat=flat, record=record)
        if not record:
            return Solution(direction)
        residual, cosine = quality(system, direction)
        stats = SolverStats(
            solver=self.name,
            form=form,
            size=system.map.rows if form == "dual" else system.map.columns,
            beta=system.beta,
            rung=0,
            iterations=steps.iterations,
            converged=~steps.running,
            residuals=steps.relative_residuals(),
            true_residual=residual,
            cosine=cosine,
        )
        return Solution(direction, stats)


@dataclass(slots=True)
class _Steps:
    """Step sizes of the columns, and when they stop. Never waits for a device.

    ``rho`` holds the squared residuals |A^T G - (A^T A + beta I) V_j|^2.
    """

    settings: CG
    rho: Tensor
    record: bool
    threshold: Tensor = field(init=False)
    floor: Tensor = field(init=False)
    running: Tensor = field(init=False)
    iterations: Tensor = field(init=False)
    history: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        machine = torch.finfo(self.rho.dtype).eps
        self.threshold = self.settings.tol**2 * self.rho.mean()
        self.floor = self.rho * machine**2
        # the rule of the published code at the start too: zero residuals need no iteration
        self.running = self.rho.max() > 0
        self.iterations = torch.zeros((), dtype=torch.long, device=self.rho.device)
        self._note()

    def length(self, curvature: Tensor) -> Tensor:
        """alpha = rho/curvature; zero where a column (or everything) has stopped."""
        if self.settings.eps is not None:
            return torch.where(self.running, self.rho / (curvature + self.settings.eps), 0.0)
        live = self.running & (self.rho > self.floor) & (curvature > 0)
        return torch.where(live, self.rho / torch.where(live, curvature, 1.0), 0.0)

    def advance(self, rho: Tensor) -> Tensor:
        """Take the new squared residuals; gives the ratio for the next search direction."""
        if self.settings.eps is not None:
            ratio = rho / (self.rho + self.settings.eps)
        else:
            live = self.rho > self.floor
            ratio = torch.where(live, rho / torch.where(live, self.rho, 1.0), 0.0)
        if self.record:
            self.iterations = self.iterations + self.running.long()
        self.rho = torch.where(self.running, rho, self.rho)
        self.running = self.running & (self.rho.max() >= self.threshold) & (self.rho.max() > 0)
        self._note()
        return ratio

    @property
    def done(self) -> bool:
        """Whether the loop may end early: asked on the host only, where it costs nothing."""
        return self.running.device.type == "cpu" and not self.running

    def relative_residuals(self) -> Tensor:
        """Relative residual per iteration, the start (1) first."""
        squares = torch.stack(self.history).clamp_min(0.0)
        return (squares / squares[0].clamp_min(torch.finfo(squares.dtype).tiny)).sqrt()

    def _note(self) -> None:
        if self.record:
            self.history.append(self.rho.sum())


def _solve_primal(
    settings: CG, system: ProximalSystem, form: Form, *, flat: bool, record: bool
) -> tuple[Direction, _Steps]:
    """CG on V ``(..., m, n)`` itself, by the Gram or by products with A and A^T."""
    gram = system.map.gram() if form == "primal" else None

    def normal(direction: Tensor) -> Tensor:
        if gram is None:
            return system.normal(direction)
        return (direction @ gram).add_(direction * system.beta)

    def inner(left: Tensor, right: Tensor) -> Tensor:
        product = left * right
        return product.sum() if flat else product.sum(dim=-1, keepdim=True)

    residual = system.gradient()
    search = residual.clone()
    direction = torch.zeros_like(residual)
    steps = _Steps(settings, inner(residual, residual), record)
    for _ in range(settings.max_iterations):
        if steps.done:
            break
        product = normal(search)
        alpha = steps.length(inner(search, product))
        direction += alpha * search
        residual -= alpha * product
        ratio = steps.advance(inner(residual, residual))
        search = residual + ratio * search
    return system.map.split(direction), steps


def _solve_dual(
    settings: CG, system: ProximalSystem, form: Form, *, flat: bool, record: bool
) -> tuple[Direction, _Steps]:
    """The same iterates as V = A^T U with U ``(..., N, m)``: residuals and search directions of
    the primal CG lie in the range of A^T, where inner products are those of K = A A^T. One
    product with K an iteration, against a Gram of n x n or two products with A."""
    assert isinstance(system.map, Dense)
    assert not flat
    outer = system.map.outer()
    residual = system.cotangent.clone()  # of the primal system: A^T residual
    k_residual = outer @ residual
    search, k_search = residual.clone(), k_residual.clone()
    weights = torch.zeros_like(residual)
    steps = _Steps(settings, (residual * k_residual).sum(dim=-2, keepdim=True), record)
    for iteration in range(settings.max_iterations):
        if steps.done:
            break
        product = k_search + system.beta * search
        alpha = steps.length((product * k_search).sum(dim=-2, keepdim=True))
        weights += alpha * search
        if iteration + 1 == settings.max_iterations and not record:
            break  # the last residual has no use but to be shown
        residual -= alpha * product
        k_residual = outer @ residual
        ratio = steps.advance((residual * k_residual).sum(dim=-2, keepdim=True))
        search = residual + ratio * search
        k_search = k_residual + ratio * k_search
    return system.map.adjoint(weights), steps
