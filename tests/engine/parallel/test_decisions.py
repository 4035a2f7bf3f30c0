"""Processes whose clocks disagree decide alike, and one that is to stop stops all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from engine.control import Desired, Word
from engine.parallel.decisions import Shared
from engine.parallel.launch import Launch
from engine.parallel.team import Team

PROCESSES = 3


class Threads(Team):
    """A team whose processes are threads of this one."""

    def __init__(self, rank: int, meeting: threading.Barrier, table: list[list[Tensor]]) -> None:
        super().__init__(Launch(rank, PROCESSES))
        self._meeting = meeting
        self._table = table

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self.traffic.calls += 1
        self._table[self.rank] = list(tensors)
        self._meeting.wait(10)
        found = [torch.stack(parts).sum(0) for parts in zip(*self._table, strict=True)]
        self._meeting.wait(10)
        return found


class Clock:
    """Decisions of one process: its own word, seconds and log."""

    def __init__(self, seconds: float, due: bool) -> None:
        self.word = Word()
        self._seconds, self._due = seconds, due

    def desired(self) -> Desired:
        return self.word.desired()

    def stop_reason(self) -> str:
        return self.word.stop_reason()

    def seconds(self) -> float:
        return self._seconds

    def log_is_due(self) -> bool:
        return self._due


def decided(act: Callable[[Shared, Clock], object]) -> list[object]:
    """What every process comes to; the clock of rank 0 says 1 s, the others' 1,000 s and more."""
    meeting, table = threading.Barrier(PROCESSES), [[] for _ in range(PROCESSES)]

    def process(rank: int) -> object:
        own = Clock(1.0 if rank == 0 else 1000.0 * rank, due=rank > 0)
        team = Threads(rank, meeting, table)
        return act(Shared(team, own, SimpleNamespace(full=False)), own)

    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(process, range(PROCESSES)))


def test_the_clock_and_the_log_of_rank_0_count():
    def act(shared: Shared, own: Clock) -> object:
        found = []
        for _ in range(50):
            found.append((shared.desired(), shared.seconds(), shared.log_is_due()))
        return found

    first, *others = decided(act)
    assert all(other == first for other in others)
    assert set(first) == {(Desired.RUNNING, 1.0, False)}


@pytest.mark.parametrize("rank", range(PROCESSES))
@pytest.mark.parametrize("pause", [False, True])
def test_a_stop_anywhere_is_one_everywhere(rank: int, pause: bool) -> None:
    def act(shared: Shared, own: Clock) -> object:
        mine = shared._team.rank
        assert shared.desired() is Desired.RUNNING
        if pause and mine == 0:
            own.word.hear(Desired.PAUSED, "")
        if mine == rank:
            own.word.hear(Desired.STOPPED, "SIGTERM")
        asked = 0
        while shared.desired() is not Desired.STOPPED:
            asked += 1
            assert asked < 100_000
        return asked, shared.stop_reason() if mine == 0 else "SIGTERM", shared.desired()

    found = decided(act)
    assert len(set(found)) == 1
    assert found[0][1:] == ("SIGTERM", Desired.STOPPED)


def test_a_person_s_stop_keeps_its_reason() -> None:
    def act(shared: Shared, own: Clock) -> object:
        if shared._team.rank == 0:
            own.word.hear(Desired.STOPPED, "asked to stop")
        return shared.desired(), shared.stop_reason() if shared._team.rank == 0 else ""

    assert decided(act)[0] == (Desired.STOPPED, "asked to stop")
