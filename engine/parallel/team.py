"""What processes that train together do together; and a process alone, for which it is nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from engine.parallel.launch import SINGLE, Launch

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(slots=True)
class Traffic:
    """What has gone between the processes for steps and evaluations.

    :ivar calls: collective operations.
    :ivar summed: bytes of the buffers that were summed, as long on every process.
    :ivar gathered: bytes of the buffers with the parts of all processes, padding included.
    """

    calls: int = 0
    summed: int = 0
    gathered: int = 0


class Team:
    """The processes of a job, as one of them sees them; here: a process alone.

    All methods are to be called by every process, in the same order.

    :ivar launch: this process among them.
    :ivar traffic: what has gone between them so far.
    """

    def __init__(self, launch: Launch = SINGLE) -> None:
        self.launch = launch
        self.traffic = Traffic()

    @property
    def rank(self) -> int:
        """Number of this process; 0 leads."""
        return self.launch.rank

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.launch.size

    def sizes(self, count: int) -> tuple[int, ...]:
        """How many of so many samples each process has: the first ones one more than the last."""
        each, more = divmod(count, self.size)
        return tuple(each + (rank < more) for rank in range(self.size))

    def part(self, samples: Tensor) -> Tensor:
        """This process's part of samples in a row; empty where there are too few."""
        if self.size == 1:
            return samples
        sizes = self.sizes(len(samples))
        first = sum(sizes[: self.rank])
        return samples[first : first + sizes[self.rank]]

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over all processes, the same to the bit on each, in one operation per type.

        What was given stays as it is.
        """
        return list(tensors)

    def gather(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """The rows of all processes, in order, in one operation per type.

        :param tensors: each with this process's rows first, ``(sizes[rank], ...)``.
        :param sizes: rows of every process.
        """
        return list(tensors)

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes what rank 0 has, in place."""

    def numbers(self, own: Sequence[float]) -> tuple[float, ...]:
        """Rank 0's numbers, in float64; as many on every process."""
        return tuple(own)

    def content(self, own: bytes) -> bytes:
        """Rank 0's bytes."""
        return own

    def in_turn(self, action: Callable[[], T]) -> T:
        """Do something on every machine by its first process first: what that leaves on the disk,
        the others find there."""
        return action()

    def conclude(self, code: int) -> int | None:
        """Come to an end, with an exit code; gives that of the process that came to one before, if
        any: only the first is to say why."""
        return None

    def leave(self) -> None:
        """Let go of the others, when all is done or nothing can be."""


ALONE = Team()
"""One process. It counts nothing."""
