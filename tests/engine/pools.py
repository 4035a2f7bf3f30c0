"""Pools without processes: one that trains in this process, and one whose outcomes are scripted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engine.control import Desired, Word
from engine.data.dataset import KeptDataset
from engine.pool import Outcome, train_run
from engine.run import Run
from engine.session import Sitting


@dataclass(slots=True)
class InProcessPool:
    """Train the runs one after the other in this process; takes the place of ``Workers``.

    :ivar count: runs that can be given before one is trained.
    """

    count: int
    root: Path
    data_dir: Path
    allow_inexact: bool = False
    _waiting: deque[str] = field(default_factory=deque)
    _word: Word = field(default_factory=Word)
    _kept: KeptDataset = field(default_factory=KeptDataset)

    def __enter__(self) -> InProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(self._waiting)

    @property
    def idle(self) -> int:
        return self.count - len(self._waiting)

    def give(self, run: str) -> None:
        self._waiting.append(run)

    def tell(self, desired: Desired, reason: str = "") -> None:
        self._word.hear(desired, reason)

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._waiting:
            return []
        assert self._word.desired() is not Desired.PAUSED, "there is nobody to let it go on"
        threads = torch.get_num_threads()
        sitting = Sitting(
            control=self._word,
            listener=lambda event: None,
            data_dir=self.data_dir,
            load=self._kept.load,
            side_by_side=self.count,
            allow_inexact=self.allow_inexact,
        )
        try:
            return [train_run(Run(self.root / self._waiting.popleft()), sitting)]
        finally:
            torch.set_num_threads(threads)


@dataclass(slots=True)
class ScriptedPool:
    """Answer with outcomes from a script, in its order, for whichever run was given first.

    :ivar script: called with the id of a run; returns how it ended, or None while it is trained.
    """

    script: Callable[[str], Iterable[Outcome]]
    count: int = 1
    given: list[str] = field(default_factory=list)
    told: list[Desired] = field(default_factory=list)
    _outcomes: dict[str, deque[Outcome]] = field(default_factory=dict)

    def __enter__(self) -> ScriptedPool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(self._outcomes)

    @property
    def idle(self) -> int:
        return self.count - len(self._outcomes)

    def give(self, run: str) -> None:
        self.given.append(run)
        self._outcomes[run] = deque(self.script(run))

    def tell(self, desired: Desired, reason: str = "") -> None:
        self.told.append(desired)

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._outcomes:
            return []
        run, outcomes = next(iter(self._outcomes.items()))
        outcome = outcomes.popleft()
        if not outcomes:
            del self._outcomes[run]
        return [outcome]
