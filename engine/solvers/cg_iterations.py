"""The iterations of conjugate gradients on (A^T A + beta I) V = A^T G, in three forms.

All give the same iterates. Large arrays are made once and updated in place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.linear_maps import Dense, Direction
from engine.solvers.eigen import eigh
from engine.solvers.ladder import Ladder, Rung
from engine.solvers.solution import Form
from engine.solvers.system import ProximalSystem


@dataclass(slots=True)
class StepSizes:
    """Step sizes of the columns, and when they stop. Never waits for a device. Comparisons are
    written so that NaN goes on and shows itself.

    ``rho`` holds the squared residuals |A^T G - (A^T A + beta I) V_j|^2 of the columns, ``tol``
    and ``eps`` are those of :class:`~engine.solvers.cg.CG`.
    """

    rho: Tensor
    tol: float
    eps: float | None
    record: bool = field(kw_only=True)
    threshold: Tensor = field(init=False)
    floor: Tensor = field(init=False)
    running: Tensor = field(init=False)
    iterations: Tensor = field(init=False)
    history: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        machine = torch.finfo(self.rho.dtype).eps
        self.threshold = self.tol**2 * self.rho.mean()
        self.floor = self.rho * machine**2
        # the rule of the published code at the start too: zero residuals need no iteration
        self.running = ~(self.rho.max() <= 0)
        self.iterations = torch.zeros((), dtype=torch.long, device=self.rho.device)
        self._note()

    def length(self, curvature: Tensor) -> Tensor:
        """alpha = rho/curvature; zero where a column (or everything) has stopped."""
        if self.eps is not None:
            return torch.where(self.running, self.rho / (curvature + self.eps), 0.0)
        live = self.running & ~(self.rho <= self.floor) & ~(curvature <= 0)
        return torch.where(live, self.rho / torch.where(live, curvature, 1.0), 0.0)

    def advance(self, rho: Tensor) -> Tensor:
        """Take the new squared residuals; gives the ratio for the next search direction."""
        if self.eps is not None:
            ratio = rho / (self.rho + self.eps)
        else:
            live = ~(self.rho <= self.floor)
            ratio = torch.where(live, rho / torch.where(live, self.rho, 1.0), 0.0)
        if self.record:
            self.iterations = self.iterations + self.running.long()
        self.rho = torch.where(self.running, rho, self.rho)
        largest = self.rho.max()
        self.running = self.running & ~(largest < self.threshold) & ~(largest <= 0)
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


MakeSteps = Callable[[Tensor], StepSizes]
Recurrence = Generator[Tensor, Tensor, tuple[Tensor, StepSizes]]
"""Asks for (A^T A + beta I) P of every search direction P, ``(..., m, n)``; ends with V."""


def iterate_primal(
    system: ProximalSystem, form: Form, iterations: int, make_steps: MakeSteps, *, flat: bool
) -> tuple[Direction, StepSizes]:
    """On V ``(..., m, n)`` itself, by the Gram or by products with A and A^T.

    :param flat: one recurrence for all outputs together instead of one each.
    """
    gram = system.map.gram() if form == "primal" else None
    going = recurrence(system.gradient(), iterations, make_steps, flat=flat)
    try:
        search = next(going)
        while True:
            if gram is None:
                product = system.normal(search)
            else:
                product = (search @ gram).add_(search * system.beta)
            search = going.send(product)
    except StopIteration as end:
        direction, steps = end.value
    return system.map.split(direction), steps


def recurrence(
    gradient: Tensor, iterations: int, make_steps: MakeSteps, *, flat: bool
) -> Recurrence:
    """The iterations on V, for whoever makes the products.

    :param gradient: A^T G, which becomes the residual, in place.
    """

    def inner(left: Tensor, right: Tensor) -> Tensor:
        product = left * right
        return product.sum() if flat else product.sum(dim=-1, keepdim=True)

    residual = gradient
    search = residual.clone()
    direction = torch.zeros_like(residual)
    steps = make_steps(inner(residual, residual))
    for _ in range(iterations):
        if steps.done:
            break
        product = yield search
        alpha = steps.length(inner(search, product))
        direction.addcmul_(search, alpha)
        residual.addcmul_(product, alpha, value=-1)
        ratio = steps.advance(inner(residual, residual))
        torch.addcmul(residual, search, ratio, out=search)
    return direction, steps


def iterate_dual(
    system: ProximalSystem, iterations: int, make_steps: MakeSteps
) -> tuple[Direction, StepSizes]:
    """As V = A^T U with U ``(..., N, m)``: residuals and search directions of the primal CG lie in
    the range of A^T, where inner products are those of K = A A^T. One product with K an
    iteration, against a Gram of n x n or two products with A."""
    assert isinstance(system.map, Dense)
    outer = system.map.outer()
    residual = system.cotangent.clone()  # of the primal system: A^T residual
    k_residual = outer @ residual
    search, k_search = residual.clone(), k_residual.clone()
    weights = torch.zeros_like(residual)
    scratch = residual * k_residual
    steps = make_steps(scratch.sum(dim=-2, keepdim=True))
    for iteration in range(iterations):
        if steps.done:
            break
        product = torch.mul(search, system.beta, out=scratch).add_(k_search)
        alpha = steps.length((product * k_search).sum(dim=-2, keepdim=True))
        weights.addcmul_(search, alpha)
        if iteration + 1 == iterations and not steps.record:
            break  # the last residual has no use but to be shown
        residual.addcmul_(product, alpha, value=-1)
        torch.matmul(outer, residual, out=k_residual)
        torch.mul(residual, k_residual, out=scratch)
        ratio = steps.advance(scratch.sum(dim=-2, keepdim=True))
        torch.addcmul(residual, search, ratio, out=search)
        torch.addcmul(k_residual, k_search, ratio, out=k_search)
    return system.from_dual(weights), steps


def iterate_in_eigenbasis(
    system: ProximalSystem, iterations: int, make_steps: MakeSteps, ladder: Ladder
) -> tuple[Direction, StepSizes]:
    """The dual form with K = Q diag(values) Q^T, where products with K are elementwise; by products
    with K where it has no eigenvectors, because it is not finite or LAPACK finds none."""
    assert isinstance(system.map, Dense)
    found = eigh(system.map.outer(), ladder)
    if found is None:
        ladder.count(Rung.PRODUCTS)
        return iterate_dual(system, iterations, make_steps)
    values, vectors = found
    values = values.clamp_min(0.0).unsqueeze(-1)
    damped = values + system.beta
    residual = vectors.mT @ system.cotangent
    search = residual.clone()
    weights = torch.zeros_like(residual)
    scratch = residual.square()
    steps = make_steps(values.mT @ scratch)
    for iteration in range(iterations):
        if steps.done:
            break
        torch.mul(search, search, out=scratch)
        alpha = steps.length((values * damped).mT @ scratch)
        weights.addcmul_(search, alpha)
        if iteration + 1 == iterations and not steps.record:
            break
        torch.mul(search, damped, out=scratch)
        residual.addcmul_(scratch, alpha, value=-1)
        torch.mul(residual, residual, out=scratch)
        ratio = steps.advance(values.mT @ scratch)
        torch.addcmul(residual, search, ratio, out=search)
    return system.from_dual(vectors @ weights), steps
