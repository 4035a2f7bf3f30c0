"""A data-parallel team whose processes are threads of the test.

One thread runs at a time, until it needs the others. What is global to a process, such as torch's
random numbers, behaves as in processes of their own, and each test runs the same way every time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from engine.errors import TeamError
from engine.parallel.launch import Launch
from engine.parallel.team import Team

PATIENCE = 60.0
"""Seconds that a process waits for its turn."""

T = TypeVar("T")


class Group:
    """State that the processes of a team share.

    :ivar tables: contributions by rank, of two exchanges: rank 0 may start the next one before the
        last rank has read this one.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.tables: list[list[Any]] = [[None] * size, [None] * size]
        self.failure: BaseException | None = None
        self._turns = [threading.Semaphore(int(rank == 0)) for rank in range(size)]

    def wait_for_turn(self, rank: int) -> None:
        """Wait until all others wait.

        :raises TeamError: another process has failed, or has left without this one.
        """
        if not self._turns[rank].acquire(timeout=PATIENCE) or self.failure is not None:
            raise TeamError("another process has ended")

    def pass_turn(self, rank: int) -> None:
        """Let the next process run."""
        self._turns[(rank + 1) % self.size].release()

    def fail(self, error: BaseException) -> None:
        """End all processes; the first error counts."""
        self.failure = self.failure or error
        for turn in self._turns:
            turn.release()


class ThreadTeam(Team):
    """What :class:`engine.parallel.processes.Processes` is to a process of torchrun."""

    def __init__(self, rank: int, group: Group) -> None:
        super().__init__(Launch(rank, group.size, rank, group.size))
        self._group = group
        self._exchanges = 0

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        contributions = self._exchange([tensor.detach().clone() for tensor in tensors])
        self.traffic.calls += len({tensor.dtype for tensor in tensors})
        self.traffic.summed += sum(tensor.nbytes for tensor in tensors)
        return [torch.stack(parts).sum(0) for parts in zip(*contributions, strict=True)]

    def gather(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        own = [tensor.detach()[: sizes[self.rank]].clone() for tensor in tensors]
        contributions = self._exchange(own)
        self.traffic.calls += len({tensor.dtype for tensor in tensors})
        for tensor in tensors:
            row = math.prod(tensor.shape[1:]) * tensor.itemsize
            self.traffic.gathered += self.size * max(sizes) * row
        return [torch.cat(parts) for parts in zip(*contributions, strict=True)]

    def align(self, tensors: Sequence[Tensor]) -> None:
        leader, *_ = self._exchange([tensor.detach().clone() for tensor in tensors])
        with torch.no_grad():
            for tensor, wanted in zip(tensors, leader, strict=True):
                tensor.copy_(wanted)

    def numbers(self, own: Sequence[float]) -> tuple[float, ...]:
        leader, *_ = self._exchange(tuple(own))
        return tuple(leader)

    def content(self, own: bytes) -> bytes:
        leader, *_ = self._exchange(own)
        return bytes(leader)

    def _exchange(self, own: Any) -> list[Any]:
        """Return what all processes contribute, by rank."""
        table = self._group.tables[self._exchanges % 2]
        self._exchanges += 1
        table[self.rank] = own
        self._group.pass_turn(self.rank)
        self._group.wait_for_turn(self.rank)
        return list(table)


def run(size: int, work: Callable[[Team], T]) -> list[T]:
    """Have each process of a team do the work; return the results by rank."""
    group = Group(size)

    def process(rank: int) -> T | None:
        try:
            group.wait_for_turn(rank)
            result = work(ThreadTeam(rank, group))
            group.pass_turn(rank)
        except BaseException as error:  # noqa: BLE001 - raised below
            group.fail(error)
            return None
        return result

    with ThreadPoolExecutor(size) as pool:
        results = list(pool.map(process, range(size)))
    if group.failure is not None:
        raise group.failure
    return results  # type: ignore[return-value]
