"""Seconds of training until a loss is reached: BackProp under several optimisers, and ProxProp.

All contenders take turns, the one with the fewest seconds of training so far next, one epoch at a
time; so a slow hour of the machine slows all of them. Every family of contenders has a grid of
step sizes, all grids of one size, and is as fast as its fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from engine.config import RunConfig
from engine.data.dataset import Dataset, load_dataset
from engine.events import EpochDone, Event, RunEnded
from engine.training import Trainer

INPUTS = ("unit", "standardize")
_NESTEROV = {"optimizer.name": "sgd", "optimizer.momentum": 0.95, "optimizer.nesterov": True}
_MUON = {**_NESTEROV, "optimizer.name": "muon"}

Outcome = Literal["reached", "diverged", "slower", "epochs"]
Build = Callable[[str, Mapping[str, Any]], RunConfig]
"""Makes a configuration of a method and dotted overrides."""


@dataclass(frozen=True, slots=True)
class Family:
    """A method under an optimiser, with a grid of step sizes.

    :ivar settings: dotted keys of the configuration.
    :ivar taus: the grid.
    """

    name: str
    method: str
    settings: Mapping[str, Any]
    taus: tuple[float, ...]


FAMILIES = (
    Family("backprop Nesterov", "backprop", _NESTEROV, (0.01, 0.03, 0.1)),
    Family("backprop Adam", "backprop", {"optimizer.name": "adam"}, (1e-4, 3e-4, 1e-3)),
    Family(
        "backprop Muon", "backprop", {**_NESTEROV, "optimizer.name": "muon"}, (1e-3, 3e-3, 1e-2)
    ),
    Family("exact Nesterov", "exact", _NESTEROV, (1.0, 2.0, 4.0)),
    Family("cg3 Nesterov", "cg3", _NESTEROV, (1.0, 2.0, 4.0)),
)
"""What races; tau_theta of the proximal ones is the preset's."""


@dataclass(slots=True)
class Entry:
    """One contender: a family at one step size, on inputs prepared in one way.

    :ivar seconds: of training so far, without evaluation.
    :ivar epochs: trained so far.
    :ivar loss: full-batch training loss after those.
    :ivar outcome: how it ended; ``None`` while it runs.
    """

    family: Family
    inputs: str
    tau: float
    events: Iterator[Event] = field(repr=False)
    seconds: float = 0.0
    epochs: float = 0.0
    loss: float = math.inf
    outcome: Outcome | None = None

    def advance(self, target: float) -> None:
        """Train to the next evaluation."""
        for event in self.events:
            if isinstance(event, EpochDone):
                self.seconds = event.metrics["time/train"]
                self.epochs = event.epoch
                self.loss = event.metrics["train_loss"]
                if self.loss <= target:
                    self.outcome = "reached"
                if self.epochs or self.outcome is not None:
                    return
            elif isinstance(event, RunEnded):
                self.outcome = "diverged" if event.status == "diverged" else "epochs"
                return


@dataclass(frozen=True, slots=True)
class Standing:
    """How a family did on inputs prepared in one way.

    :ivar tau: step size of its fastest entry; of that with the least loss, when none arrived.
    :ivar seconds: until the loss was reached, or a lower bound of that.
    :ivar reached: which of the two.
    :ivar outcomes: of every step size of the grid, in its order.
    """

    inputs: str
    family: str
    tau: float
    epochs: float
    seconds: float
    loss: float
    reached: bool
    outcomes: tuple[Outcome, ...]


def race(
    build: Build,
    *,
    target: float,
    inputs: Sequence[str],
    families: Sequence[Family],
    max_epochs: int,
    patience: float,
    data_dir: Path,
    device: torch.device,
    progress: Callable[[str, int, int | None], None],
) -> list[Standing]:
    """Let all families train until each has reached the loss, or is out of the race.

    :param target: full-batch training loss to reach.
    :param inputs: values of ``data.normalize``; races of their own.
    :param max_epochs: of an entry.
    :param patience: an entry is out once it has trained this many times the winner's seconds.
    :raises ConfigError: the settings do not fit together, or not to the data.
    :raises DataError: the data are not there.
    """
    standings: list[Standing] = []
    for kind in inputs:
        configs = [
            (family, tau, build(family.method, _overrides(family, tau, kind, max_epochs)))
            for family in families
            for tau in family.taus
        ]
        data = configs[0][2].data
        dataset = load_dataset(data, device=device, cache_dir=data_dir, progress=progress)
        entries = [
            Entry(family, kind, tau, _start(config, dataset, device))
            for family, tau, config in configs
        ]
        _run(entries, target, patience, progress)
        standings += [
            _standing([entry for entry in entries if entry.family is family]) for family in families
        ]
    return standings


def _overrides(family: Family, tau: float, kind: str, max_epochs: int) -> dict[str, Any]:
    return {
        **family.settings,
        "data.normalize": kind,
        "method.tau": tau,
        "epochs": max_epochs,
        "log.trace_every": 0,
    }


def _start(config: RunConfig, dataset: Dataset, device: torch.device) -> Iterator[Event]:
    # made when its turn comes: an entry that never has one takes no memory
    yield from Trainer(config, dataset, device).events()


def _run(
    entries: Sequence[Entry],
    target: float,
    patience: float,
    progress: Callable[[str, int, int | None], None],
) -> None:
    total = len(entries)
    while running := [entry for entry in entries if entry.outcome is None]:
        entry = min(running, key=lambda entry: entry.seconds)
        arrived = [other.seconds for other in entries if other.outcome == "reached"]
        siblings = (other for other in entries if other.family is entry.family)
        best = min((s.seconds for s in siblings if s.outcome == "reached"), default=math.inf)
        limit = min(patience * min(arrived, default=math.inf), best)
        if entry.seconds >= limit:
            entry.outcome = "slower"
        else:
            entry.advance(target)
        if entry.outcome is not None:
            entry.events = iter(())  # its network and optimiser are not needed any more
        running_now = sum(other.outcome is None for other in entries)
        progress(f"{entry.inputs} inputs", total - running_now, total)


def _standing(entries: Sequence[Entry]) -> Standing:
    arrived = [entry for entry in entries if entry.outcome == "reached"]
    if arrived:
        best = min(arrived, key=lambda entry: entry.seconds)
    else:
        # the bound is that of the one that came closest; one that diverged bounds nothing
        there = [entry for entry in entries if entry.outcome != "diverged"] or entries
        best = min(there, key=lambda entry: entry.loss)
    return Standing(
        inputs=best.inputs,
        family=best.family.name,
        tau=best.tau,
        epochs=best.epochs,
        seconds=best.seconds,
        loss=best.loss,
        reached=bool(arrived),
        outcomes=tuple(entry.outcome for entry in entries if entry.outcome is not None),
    )
