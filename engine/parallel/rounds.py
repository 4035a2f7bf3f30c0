"""Computations side by side that need sums and rows of all processes now and then.

Each is a generator that asks and gets an answer. What all of them ask for at the same time goes
between the processes together: the gradients of a network, the Grams of its layers, or one CG
iteration of each.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.parallel.team import Team


@dataclass(frozen=True, slots=True)
class Sum:
    """Asks for the sums over all processes."""

    tensors: Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class Rows:
    """Asks for the rows of all processes, one or more a sample, ``(samples, ...)`` each."""

    tensors: Sequence[Tensor]


Asking = Generator[Sum | Rows, list[Tensor], None]
"""Leaves what it finds where it belongs."""


def side_by_side(team: Team, parts: Sequence[Asking], sizes: Sequence[int]) -> None:
    """Run them to their ends.

    :param parts: the same on every process, asking the same in every round.
    :param sizes: samples of every process.
    """
    asked = [(part, ask) for part in parts if (ask := next(part, None)) is not None]
    while asked:
        sums = iter(team.sum(_of_kind(Sum, asked)))
        rows = iter(team.gather(_of_kind(Rows, asked), sizes))
        going, asked = asked, []
        for part, ask in going:
            told = sums if isinstance(ask, Sum) else rows
            try:
                asked.append((part, part.send([next(told) for _ in ask.tensors])))
            except StopIteration:
                continue


def _of_kind(kind: type[Sum | Rows], asked: Sequence[tuple[Asking, Sum | Rows]]) -> list[Tensor]:
    return [tensor for _, ask in asked if isinstance(ask, kind) for tensor in ask.tensors]
