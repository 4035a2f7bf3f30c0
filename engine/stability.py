"""How stable methods are in the step size: the cells of a sweep, summed up over seeds.

Pure functions of a sweep and the states of its runs; nothing here looks at the disk.

The measure of stability is *stable width*: with a level of the training loss that is common to all
methods, a step size is stable where every seed was trained to its end, none diverged, and every
one ends with a training loss at or below the level; the width is log10(largest / smallest) over
the widest unbroken stretch of stable step sizes, in decades. A level relative to each method's own
best would count a method as stable that learns badly everywhere.

While runs of a row are still to come, its cells are judged by those seeds that are finished by
now, so that a cell with one seed of three counts too: best step size, width and level are
provisional then (``complete`` is false), and the same numbers as above once all is done.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from engine.cells import ENDED, CellState, Status
from engine.sweeps import Cell, Sweep

SHARE = 0.5
"""How far down from the initial loss to the best cell's the common level lies."""

_STILL_TO_COME: tuple[Status, ...] = ("waiting", "running", "paused", "interrupted", "unreadable")


@dataclass(frozen=True, slots=True)
class CellSummary:
    """The seeds of one row at one step size."""

    row: str
    method: str
    tau: float
    tau_theta: float | None
    statuses: tuple[Status, ...]
    """One a seed."""
    words: tuple[str, ...]
    """The same as people are told."""
    runs: tuple[str, ...]
    """Ids of those runs that were made already."""
    losses: tuple[float, ...]
    """Training losses of the finished seeds that did not diverge; where there are none yet, the
    latest ones of those that were evaluated: a seed that has just begun moves no median."""
    loss: float | None
    """Median of those; None where there are none."""
    accuracy: float | None
    """Median validation accuracy of the same seeds, a fraction; None where there are no classes."""
    diverged: int
    """Seeds that diverged."""
    first_bad_step: int | None
    """Least over the diverged seeds."""
    cause: str
    """What was not finite there; of an unreadable run, what is wrong."""
    epochs: float
    """Epochs trained so far, of the seed that trained least among those of ``losses``."""
    limit: int = 0
    """Epochs its runs are trained for at most."""
    val_loss: float | None = None
    """Median validation loss of the same seeds."""

    @property
    def seeds(self) -> int:
        """Runs in all, made or not."""
        return len(self.statuses)

    @property
    def final(self) -> bool:
        """Whether every seed was trained to its end."""
        return all(status == "finished" for status in self.statuses) and not self.diverged

    @property
    def judged(self) -> bool:
        """Whether a seed was trained to its end and none diverged: ``losses`` are final ones."""
        return "finished" in self.statuses and not self.diverged

    @property
    def over(self) -> bool:
        """Whether nothing more is to come: finished, stopped or diverged."""
        return not any(status in _STILL_TO_COME for status in self.statuses)

    @property
    def complete(self) -> bool:
        """Whether every seed is finished or diverged: one that was stopped can go on."""
        return all(status in ENDED for status in self.statuses)

    @property
    def running(self) -> bool:
        """Whether a seed is being trained."""
        return "running" in self.statuses


@dataclass(frozen=True, slots=True)
class RowSummary:
    """What a row of the grid comes to."""

    label: str
    best_tau: float | None
    """Step size of the least median final loss; None where no cell has one."""
    best_loss: float | None
    width: float | None
    """Stable width in decades; None where no step size is stable."""
    at_edge: bool
    """Whether the stable step sizes reach an end of the grid: the true width may be larger."""
    over: bool
    """Whether nothing more is to come in the row."""
    complete: bool
    """Whether every run of the row is finished or diverged, so that best and width are final."""


@dataclass(frozen=True, slots=True)
class Stability:
    """The whole grid."""

    taus: tuple[float, ...]
    """Columns, largest first."""
    rows: tuple[RowSummary, ...]
    """In the order of the sweep."""
    cells: Mapping[tuple[str, float], CellSummary] = field(default_factory=dict)
    """By row and tau; a place the sweep leaves out is missing."""
    epochs: int = 0
    """Epochs a run is trained for at most."""
    length: str = ""
    """How long the runs are trained, in words: ``20 epochs``."""
    level: float | None = None
    """Final training loss at or below which a step size is stable; None: nothing is known yet."""

    @property
    def complete(self) -> bool:
        """Whether every run is finished or diverged, so that the level is final too."""
        return all(row.complete for row in self.rows)

    @property
    def done(self) -> int:
        """Cells of which nothing more is to come."""
        return sum(cell.over for cell in self.cells.values())


def summarize_sweep(sweep: Sweep, states: Sequence[CellState]) -> Stability:
    """The grid of a sweep.

    :param states: one per cell of the sweep, in its order.
    """
    groups: dict[tuple[str, float], list[tuple[Cell, CellState]]] = {}
    for cell, state in zip(sweep.cells, states, strict=True):
        groups.setdefault((cell.label, cell.tau), []).append((cell, state))
    limits = {cell.label: _limit(sweep, cell.label) for cell in sweep.cells}
    cells = {key: summarize_cell(group, limits[key[0]]) for key, group in groups.items()}
    initial = _median([s.initial_loss for s in states if s.initial_loss is not None])
    level = common_level(initial, cells.values())
    if sweep.level is not None:
        # what ends where it began has learned nothing, whatever the level
        level = sweep.level if initial is None else min(sweep.level, initial)
    rows = tuple(
        summarize_row([cell for cell in cells.values() if cell.row == row], level)
        for row in dict.fromkeys(cell.label for cell in sweep.cells)
    )
    taus = tuple(sorted({cell.tau for cell in sweep.cells}, reverse=True))
    return Stability(taus, rows, cells, sweep.epochs, training_length(sweep), level)


def training_length(sweep: Sweep) -> str:
    """How long the runs of a sweep are trained, in words that can follow "after".

    ``20 epochs``; ``1 to 2 epochs`` where rows differ; ``at most 20 epochs, 0.05 s a run`` where
    a time limit may end them earlier.
    """
    rows = list(dict.fromkeys(cell.label for cell in sweep.cells))
    epochs = [_limit(sweep, row) for row in rows] or [sweep.epochs]
    text = f"{_range(epochs)} epoch{'' if set(epochs) == {1} else 's'}"
    limits = [sweep.configs.get(row, {}).get("max_seconds") for row in rows]
    known = [limit for limit in limits if isinstance(limit, int | float)]
    if not known:
        return text
    some = "" if len(known) == len(limits) else "of some rows "
    return f"at most {text}, {some}{_range(known)} s a run"


def summarize_cell(seeds: Sequence[tuple[Cell, CellState]], limit: int = 0) -> CellSummary:
    """One row at one step size; seeds that diverged count as that and in no median.

    :param seeds: at least one run, all of the same row and tau.
    :param limit: epochs they are trained for at most.
    """
    first = seeds[0][0]
    states = [state for _, state in seeds]
    sound = [state for state in states if not state.diverged]
    told = [state for state in sound if state.status == "finished"] or sound
    bad = [state for state in states if state.diverged]
    steps = [state.first_bad_step for state in bad if state.first_bad_step is not None]
    worst = min(bad, key=lambda state: _or_infinity(state.first_bad_step), default=None)
    if worst is None:
        worst = next((state for state in states if state.status == "unreadable"), None)
    losses = tuple(state.train_loss for state in told if state.train_loss is not None)
    return CellSummary(
        row=first.label,
        method=first.method,
        tau=first.tau,
        tau_theta=first.tau_theta,
        statuses=tuple(state.status for state in states),
        words=tuple(state.word for state in states),
        runs=tuple(cell.run for cell, state in seeds if cell.run is not None and state.made),
        losses=losses,
        loss=_median(losses),
        accuracy=_median([s.val_accuracy for s in told if s.val_accuracy is not None]),
        diverged=len(bad),
        first_bad_step=min(steps, default=None),
        cause=worst.cause if worst else "",
        epochs=min((state.epoch for state in told if state.train_loss is not None), default=0.0),
        limit=limit,
        val_loss=_median([s.val_loss for s in told if s.val_loss is not None]),
    )


def common_level(initial: float | None, cells: Iterable[CellSummary]) -> float | None:
    """Greatest median final loss at which a cell counts as having learned.

    It lies :data:`SHARE` of the way down from the loss before training to the least median final
    loss of the whole sweep, so that all methods are held to the same measure, whatever the classes
    and however short the training. None where nothing is known or nothing was learned.

    :param initial: median training loss before the first step.
    """
    finals = [cell.loss for cell in cells if cell.judged and cell.loss is not None]
    if initial is None or not finals or not min(finals) < initial:
        return None
    return initial - SHARE * (initial - min(finals))


def summarize_row(cells: Sequence[CellSummary], level: float | None) -> RowSummary:
    """Best step size and stable width of one row.

    The *best* tau has the least median final training loss among the taus where no seed diverged
    and every one was trained to its end, or, while the row is not complete, at least one; of
    equals the larger. For the stable width see the top of this module: 0.0 where one tau alone is
    stable, None where none is.

    :param cells: at least one, all of the same row.
    :param level: common to all rows; None: no step size is stable.
    """
    ordered = sorted(cells, key=lambda cell: cell.tau, reverse=True)
    stable = [_is_stable(cell, level) for cell in ordered]
    finals = [
        (cell.loss, i) for i, cell in enumerate(ordered) if cell.judged and cell.loss is not None
    ]
    best_loss, best = min(finals, default=(None, None))
    stretches = [
        [i for i, _ in group]
        for is_stable, group in groupby(enumerate(stable), key=lambda pair: pair[1])
        if is_stable
    ]
    width, at_edge = None, False
    for found in stretches:
        # the quotient of two allowed numbers may overflow, the difference can not
        length = math.log10(ordered[found[0]].tau) - math.log10(ordered[found[-1]].tau)
        if width is None or length > width:
            width = length
            at_edge = found[0] == 0 or found[-1] == len(ordered) - 1
    return RowSummary(
        label=ordered[0].row,
        best_tau=None if best is None else ordered[best].tau,
        best_loss=best_loss,
        width=width,
        at_edge=at_edge,
        over=all(cell.over for cell in ordered),
        complete=all(cell.complete for cell in ordered),
    )


def _is_stable(cell: CellSummary, level: float | None) -> bool:
    known = cell.judged and len(cell.losses) == cell.statuses.count("finished")
    return known and level is not None and all(loss <= level for loss in cell.losses)


def _limit(sweep: Sweep, row: str) -> int:
    """Epochs of a row; a sweep that was written without configurations has but one number."""
    epochs = sweep.configs.get(row, {}).get("epochs")
    return epochs if isinstance(epochs, int) else sweep.epochs


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.10g}" if low == high else f"{low:.10g} to {high:.10g}"


def _median(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else None


def _or_infinity(step: int | None) -> float:
    return math.inf if step is None else step
