"""Processes whose clocks disagree decide alike, and one that is to stop stops all."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from engine.control import Desired, Word
from engine.parallel.decisions import Shared
from engine.parallel.team import Team
from tests.engine.parallel import threads

PROCESSES = 3


class Clock:
    """Decisions of one process: its own word, seconds and log."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.word = Word()

    def desired(self) -> Desired:
        return self.word.desired()

    def stop_reason(self) -> str:
        return self.word.stop_reason()

    def seconds(self) -> float:
        return 1000.0 * self.rank or 1.0

    def log_is_due(self) -> bool:
        return self.rank > 0


def decided(act: Callable[[Shared, Clock], object]) -> list[object]:
    """What every process comes to; the clock of rank 0 says 1 s, the others' 1,000 s and more."""

    def process(team: Team) -> object:
        own = Clock(team.rank)
        return act(Shared(team, own, SimpleNamespace(full=False)), own)

    return threads.run(PROCESSES, process)


def test_the_clock_and_the_log_of_rank_0_count():
    def act(shared: Shared, own: Clock) -> object:
        return [(shared.desired(), shared.seconds(), shared.log_is_due()) for _ in range(50)]

    first, *others = decided(act)
    assert all(other == first for other in others)
    assert set(first) == {(Desired.RUNNING, 1.0, False)}


@pytest.mark.parametrize("rank", range(PROCESSES))
@pytest.mark.parametrize("pause", [False, True])
def test_a_stop_anywhere_is_one_everywhere(rank: int, pause: bool) -> None:
    def act(shared: Shared, own: Clock) -> object:
        assert shared.desired() is Desired.RUNNING
        if pause and own.rank == 0:
            own.word.hear(Desired.PAUSED, "")
        if own.rank == rank:
            own.word.hear(Desired.STOPPED, "SIGTERM")
        asked = 0
        while shared.desired() is not Desired.STOPPED:
            asked += 1
            assert asked < 100_000
        return asked, shared.stop_reason() if own.rank == 0 else "SIGTERM", shared.desired()

    results = decided(act)
    assert len(set(results)) == 1
    assert results[0][1:] == ("SIGTERM", Desired.STOPPED)


def test_a_person_s_stop_keeps_its_reason() -> None:
    def act(shared: Shared, own: Clock) -> object:
        if own.rank == 0:
            own.word.hear(Desired.STOPPED, "asked to stop")
        return shared.desired(), shared.stop_reason() if own.rank == 0 else ""

    assert decided(act)[0] == (Desired.STOPPED, "asked to stop")
