"""The proximal step of a layer whose mini-batch is spread over the processes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from torch import Tensor

from engine.conv_patches import ConvPatches
from engine.linear_maps import Dense, Direction
from engine.parallel import costs
from engine.parallel.costs import Exchange
from engine.parallel.reduced import Reduced, of_length, pack
from engine.parallel.rounds import Rows, Sum
from engine.parallel.team import Team
from engine.precision import full
from engine.prox import Observer, Prox
from engine.solvers import CG, Ladder, ProximalSystem, Solution

T = TypeVar("T")
Finding = Generator[Sum | Rows, list[Tensor], T]


@dataclass(frozen=True, slots=True)
class _Noted:
    map: Dense | ConvPatches
    cotangent: Tensor
    ladder: Ladder
    observer: Observer | None


@dataclass(slots=True)
class SharedProx:
    """Stands for a layer's :class:`~engine.prox.Prox` while processes share its batch.

    The backward pass only notes A and G and leaves nothing in ``.grad``; :meth:`direction_of_all`
    then finds what a single process would have left there from all rows. The inputs of all layers
    are kept until then.

    :ivar prox: the step.
    :ivar exchange: what goes between the processes; None: what takes the least time.
    """

    prox: Prox
    team: Team
    exchange: Exchange | None = None
    _noted: _Noted | None = field(default=None, repr=False)
    _chosen: dict[int, Exchange] = field(default_factory=dict, repr=False)

    @property
    def has_noted(self) -> bool:
        """Whether there was a backward pass whose direction was not asked for."""
        return self._noted is not None

    def direction(
        self,
        linear_map: Dense | ConvPatches,
        cotangent: Tensor,
        ladder: Ladder,
        observer: Observer | None = None,
    ) -> Direction:
        """Nothing yet. See :class:`~engine.prox.Step`.

        :raises ValueError: the layer is used twice in one forward pass.
        """
        if self._noted is not None:
            raise ValueError("a layer that is used twice can not be trained by several processes")
        self._noted = _Noted(linear_map, cotangent, ladder, observer)
        return Direction(None, None)

    def direction_of_all(self, samples: int) -> Finding[Direction]:
        """V ``(..., m, n)`` by parts of the whole mini-batch, the same on every process.

        :param samples: of all processes.
        :raises ValueError: there was no backward pass.
        """
        noted, self._noted = self._noted, None
        if noted is None:
            raise ValueError("a layer had no backward pass since its last direction")
        if self._exchange_for(noted, samples) == "rows":
            return (yield from self._by_rows(noted))
        with full(noted.cotangent.device) as around:
            gradient = noted.map.adjoint(noted.cotangent).joined()
            ask = [gradient]
            by_gram = self._exchange_for(noted, samples) == "gram"
            if by_gram:
                ask.append(pack(noted.map.gram()))
            if self.prox.damping == "trace":
                ask.append(noted.map.trace())
        told = iter((yield Sum(ask)))
        linear_map = Reduced(
            noted.map,
            of_length(noted.map, samples),
            self.team,
            noted.cotangent,
            next(told),
            next(told) if by_gram else None,
            next(told, None),
        )
        system = ProximalSystem(linear_map, noted.cotangent, self.prox.beta(linear_map), around)
        if by_gram:
            with full(noted.cotangent.device):
                record = noted.observer is not None
                solution = self.prox.solver.solve(
                    system, noted.ladder, record=record, form="primal"
                )
        else:
            solution = yield from self._by_products(noted, system)
        if noted.observer is not None and solution.stats is not None:
            noted.observer(solution.stats)
        return solution.direction

    def _by_rows(self, noted: _Noted) -> Finding[Direction]:
        """The step of a single process, on every process."""
        whole: Dense | ConvPatches
        if isinstance(noted.map, Dense):
            a, cotangent = yield Rows([noted.map.a, noted.cotangent])
            whole = replace(noted.map, a=a)
        else:
            x, cotangent = yield Rows([noted.map.x, noted.cotangent])
            whole = replace(noted.map, x=x)
        return self.prox.direction(whole, cotangent, noted.ladder, noted.observer)

    def _by_products(self, noted: _Noted, system: ProximalSystem) -> Finding[Solution]:
        """CG, every iteration of which asks for one sum."""
        solver = self.prox.solver
        assert isinstance(solver, CG)
        device = noted.cotangent.device
        going = solver.recurrence(system, record=noted.observer is not None)
        try:
            search = next(going)
            while True:
                with full(device):
                    own = noted.map.adjoint(noted.map.apply(search)).joined()
                (product,) = yield Sum([own])
                search = going.send(product.add_(search * system.beta))
        except StopIteration as end:
            direction, steps = end.value
        with full(device):
            return solver.solution(system, "operator", system.map.split(direction), steps)

    def _exchange_for(self, noted: _Noted, samples: int) -> Exchange:
        if self.exchange is not None:
            return self.exchange
        if samples not in self._chosen:
            sizes = self.team.sizes(samples)
            found = costs.costs(self.prox, noted.map, noted.cotangent, sizes)
            prices = costs.Prices.on(noted.cotangent.device)
            self._chosen[samples] = costs.cheapest(found, prices, self.team.size)
        return self._chosen[samples]
