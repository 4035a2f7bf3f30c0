"""How stable methods are in the step size: the cells of a sweep, summed up over seeds.

Pure functions of a sweep and the states of its runs; nothing here looks at the disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.sweeps import Cell, CellState, Status, Sweep

_STILL_TO_COME: tuple[Status, ...] = ("waiting", "running", "paused", "interrupted", "unreadable")


@dataclass(frozen=True, slots=True)
class CellSummary:
    """The seeds of one method at one step size."""

    method: str
    tau: float
    tau_theta: float | None
    statuses: tuple[Status, ...]
    """One a seed."""
    runs: tuple[str, ...]
    """Ids of those runs that were made already."""
    losses: tuple[float, ...]
    """Latest training losses of the seeds that did not diverge and were evaluated."""
    loss: float | None
    """Mean of those; None where there are none."""
    accuracy: float | None
    """Mean validation accuracy of the same seeds, a fraction."""
    diverged: int
    """Seeds that diverged."""
    first_bad_step: int | None
    """Least over the diverged seeds."""
    cause: str
    """What was not finite there; of an unreadable run, what is wrong."""
    epochs: float
    """Epochs trained so far, of the seed that trained least among those of ``losses``."""

    @property
    def seeds(self) -> int:
        """Runs in all, made or not."""
        return len(self.statuses)

    @property
    def final(self) -> bool:
        """Whether every seed was trained to its end."""
        return all(status == "finished" for status in self.statuses) and not self.diverged

    @property
    def over(self) -> bool:
        """Whether nothing more is to come: finished, stopped or diverged."""
        return not any(status in _STILL_TO_COME for status in self.statuses)

    @property
    def running(self) -> bool:
        """Whether a seed is being trained."""
        return "running" in self.statuses


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """What a row of the grid comes to."""

    method: str
    best_tau: float | None
    """Step size of the least final mean loss; None where no cell is final."""
    best_loss: float | None
    width: float | None
    """Stable width in decades; None where no step size is stable."""
    at_edge: bool
    """Whether the stable step sizes reach an end of the grid: the true width may be larger."""
    over: bool
    """Whether nothing more is to come in the row."""


@dataclass(frozen=True, slots=True)
class Stability:
    """The whole grid."""

    taus: tuple[float, ...]
    """Columns, largest first."""
    methods: tuple[MethodSummary, ...]
    """Rows, in the order of the sweep."""
    cells: Mapping[tuple[str, float], CellSummary] = field(default_factory=dict)
    """By method and tau; a place the sweep leaves out is missing."""
    epochs: int = 0
    """Epochs every run is trained for."""

    @property
    def done(self) -> int:
        """Cells of which nothing more is to come."""
        return sum(cell.over for cell in self.cells.values())


def summarize_sweep(sweep: Sweep, states: Sequence[CellState], *, share: float = 0.5) -> Stability:
    """The grid of a sweep.

    :param states: one per cell of the sweep, in its order.
    :param share: see :func:`summarize_method`.
    """
    groups: dict[tuple[str, float], list[tuple[Cell, CellState]]] = {}
    for cell, state in zip(sweep.cells, states, strict=True):
        groups.setdefault((cell.method, cell.tau), []).append((cell, state))
    cells = {key: summarize_cell(group) for key, group in groups.items()}
    initial = _mean([s.initial_loss for s in states if s.initial_loss is not None])
    threshold = learned_threshold(initial, cells.values(), share)
    methods = tuple(
        summarize_method([cell for cell in cells.values() if cell.method == method], threshold)
        for method in dict.fromkeys(cell.method for cell in sweep.cells)
    )
    taus = tuple(sorted({cell.tau for cell in sweep.cells}, reverse=True))
    return Stability(taus, methods, cells, sweep.epochs)


def summarize_cell(seeds: Sequence[tuple[Cell, CellState]]) -> CellSummary:
    """One method at one step size; seeds that diverged count as that and in no mean.

    :param seeds: at least one run, all of the same method and tau.
    """
    first = seeds[0][0]
    states = [state for _, state in seeds]
    sound = [state for state in states if not state.diverged]
    bad = [state for state in states if state.diverged]
    steps = [state.first_bad_step for state in bad if state.first_bad_step is not None]
    worst = min(bad, key=lambda state: _or_infinity(state.first_bad_step), default=None)
    if worst is None:
        worst = next((state for state in states if state.status == "unreadable"), None)
    losses = tuple(state.train_loss for state in sound if state.train_loss is not None)
    return CellSummary(
        method=first.method,
        tau=first.tau,
        tau_theta=first.tau_theta,
        statuses=tuple(state.status for state in states),
        runs=tuple(cell.run for cell, _ in seeds if cell.run is not None),
        losses=losses,
        loss=_mean(losses),
        accuracy=_mean([s.val_accuracy for s in sound if s.val_accuracy is not None]),
        diverged=len(bad),
        first_bad_step=min(steps, default=None),
        cause=worst.cause if worst else "",
        epochs=min((state.epoch for state in sound if state.train_loss is not None), default=0.0),
    )


def learned_threshold(
    initial: float | None, cells: Iterable[CellSummary], share: float
) -> float | None:
    """Greatest mean final loss at which a cell counts as having learned.

    It lies ``share`` of the way down from the loss before training to the least mean final loss of
    the whole sweep, so that all methods are held to the same measure, whatever the classes and
    however short the training. None where nothing is known or nothing was learned.

    :param initial: mean training loss before the first step.
    """
    finals = [cell.loss for cell in cells if cell.final and cell.loss is not None]
    if initial is None or not finals or not min(finals) < initial:
        return None
    return initial - share * (initial - min(finals))


def summarize_method(cells: Sequence[CellSummary], threshold: float | None) -> MethodSummary:
    """Best step size and stable width of one method.

    The *best* tau has the least mean final training loss among the taus where every seed finished
    and none diverged; of equals the larger. A tau is *stable* if every seed finished, none
    diverged, and the mean final training loss is at most ``threshold`` (:func:`learned_threshold`:
    half of what the sweep's best cell achieved, unless told otherwise). The *stable width* is
    log10(largest / smallest) over the stable taus that lie around the best one without a gap among
    the method's own taus: 0.0 where that is one tau alone, None where the best one is not stable.

    :param cells: at least one, all of the same method.
    """
    ordered = sorted(cells, key=lambda cell: cell.tau, reverse=True)
    stable = [_is_stable(cell, threshold) for cell in ordered]
    finals = [
        (cell.loss, i) for i, cell in enumerate(ordered) if cell.final and cell.loss is not None
    ]
    best_loss, best = min(finals, default=(None, None))
    width, at_edge = None, False
    if best is not None and stable[best]:
        first = last = best
        while first > 0 and stable[first - 1]:
            first -= 1
        while last < len(ordered) - 1 and stable[last + 1]:
            last += 1
        # the quotient of two allowed numbers may overflow, the difference can not
        width = math.log10(ordered[first].tau) - math.log10(ordered[last].tau)
        at_edge = first == 0 or last == len(ordered) - 1
    return MethodSummary(
        method=ordered[0].method,
        best_tau=None if best is None else ordered[best].tau,
        best_loss=best_loss,
        width=width,
        at_edge=at_edge,
        over=all(cell.over for cell in ordered),
    )


def _is_stable(cell: CellSummary, threshold: float | None) -> bool:
    return cell.final and threshold is not None and cell.loss is not None and cell.loss <= threshold


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    # divided first: the sum of a few huge losses would be infinite
    return math.fsum(value / len(finite) for value in finite) if finite else None


def _or_infinity(step: int | None) -> float:
    return math.inf if step is None else step
