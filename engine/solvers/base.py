"""What every solver can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from engine.solvers.ladder import Ladder
from engine.solvers.solution import Form, Solution
from engine.solvers.system import ProximalSystem


class Solver(Protocol):
    """Settings of a way to solve the proximal system."""

    @property
    def name(self) -> str:
        """Short name, as in ``--method``."""
        ...

    def products(self, system: ProximalSystem) -> Mapping[Form, float]:
        """Multiplications of every form beyond BackProp's."""
        ...

    def solve(
        self,
        system: ProximalSystem,
        ladder: Ladder,
        *,
        record: bool = False,
        form: Form | None = None,
    ) -> Solution:
        """Solve (A^T A + beta I) V = A^T G.

        :param system: the system of one layer and one mini-batch.
        :param ladder: the layer's failure counts; what fails is counted there.
        :param record: keep statistics too, which costs a few products more.
        :param form: in which form; None: the one with the fewest multiplications.
        """
        ...
