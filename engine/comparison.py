"""What the runs of a comparison come to: means over seeds with intervals, at the end and at an
equal training loss. Runs that are not finished yet are in none of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.cells import UNREADABLE, CellState, read_cells
from engine.errors import StorageError
from engine.stability import Stability
from engine.store_reader import StoreReader
from engine.sweeps import Sweep

LAST = ("train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
"""Metrics of the latest evaluation."""
_OTHERS = LAST[1:]


@dataclass(frozen=True, slots=True)
class Statistic:
    """A figure over seeds."""

    mean: float
    std: float
    """Of the sample (n - 1); NaN for one seed."""
    n: int
    ci95: float
    """Half the width of the 95 % interval of the mean by Student's t; NaN for one seed."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Evaluations of one run, in their order."""

    epochs: tuple[float, ...]
    seconds: tuple[float, ...]
    """Of training."""
    values: Mapping[str, tuple[float, ...]]
    """By metric, NaN where there is none."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """A variant over its seeds. The figures are of those that are finished: one that diverged
    counts as that and in no mean, and so does one that is still to come."""

    label: str
    tau: float
    runs: tuple[str, ...]
    states: tuple[CellState, ...]
    figures: Mapping[str, Statistic]
    """``LAST``, ``seconds`` and ``epochs`` at the end; ``best_val_accuracy`` (where there are no
    classes, ``best_val_loss``), ``seconds_to_best``; at the common loss ``seconds_at_loss``,
    ``epochs_at_loss`` and, of those that were evaluated, ``val_accuracy_at_loss``,
    ``test_accuracy_at_loss``, ``val_loss_at_loss``, ``test_loss_at_loss``."""

    @property
    def diverged(self) -> int:
        """Seeds that diverged."""
        return sum(state.diverged for state in self.states)

    @property
    def finished(self) -> int:
        """Seeds that were trained to their end and are in the figures."""
        return sum(_is_finished(state) for state in self.states)

    @property
    def ended(self) -> int:
        """Seeds that are finished or diverged; one that was stopped can go on."""
        return sum(state.ended for state in self.states)

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        return self.ended == len(self.states)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows."""

    rows: tuple[RowResult, ...]
    loss: float | None
    """The training loss at which they meet; None: they have none in common."""


def compare(
    root: Path,
    sweep: Sweep,
    *,
    loss: float | None = None,
    states: Sequence[CellState] | None = None,
) -> Comparison:
    """Sum up the runs of a comparison or a sweep as they are now.

    A run whose store can not be read has the state ``unreadable``, and does not hide the others.

    :param root: folder of the runs.
    :param loss: training loss to meet at; default: the least that every finished seed has reached.
    :param states: one per cell; default: as they are now. Of a part of a sweep they are those that
        the whole has given, for by that is known which runs were trained on other data.
    """
    groups: dict[tuple[str, float], list[tuple[str, CellState, Curve | None]]] = {}
    cell_states = read_cells(root, sweep) if states is None else states
    for cell, state in zip(sweep.cells, cell_states, strict=True):
        run, curve = str(cell.run), None
        if _is_finished(state):
            try:
                curve = read_curve(root / run / "run.db")
                if not curve.values["train_loss"]:
                    raise StorageError(f"{run}: it is finished, but has no evaluation")
            except UNREADABLE as error:
                state, curve = CellState("unreadable", cause=str(error)), None
        groups.setdefault((cell.label, cell.tau), []).append((run, state, curve))
    curves = [curve for group in groups.values() for _, _, curve in group if curve is not None]
    if loss is None:
        loss = max(
            (min(found) for c in curves if (found := _finite(c.values["train_loss"]))), default=None
        )
    several = len({label for label, _ in groups}) < len(groups)
    rows = tuple(
        RowResult(
            label=f"{label} tau={tau:g}" if several else label,
            tau=tau,
            runs=tuple(run for run, _, _ in group),
            states=tuple(state for _, state, _ in group),
            figures=_figures([curve for _, _, curve in group if curve is not None], loss),
        )
        for (label, tau), group in groups.items()
    )
    return Comparison(rows, loss)


def at_best(sweep: Sweep, grid: Stability) -> Sweep:
    """The runs of a sweep at the best step size of their row: equal grids, each at its best.

    They were chosen by the training loss of these same runs, so that of a small grid is a little
    too good.
    """
    best = {row.label: row.best_tau for row in grid.rows}
    return replace(sweep, cells=tuple(c for c in sweep.cells if c.tau == best[c.label]))


def read_curve(database: Path) -> Curve:
    """The evaluations of a run.

    :raises StorageError: the store can not be read.
    """
    with StoreReader(database) as reader:
        steps = reader.series("train_loss")[0].tolist()
        found = {}
        for key in ("epoch", "time/train", *LAST):
            at, values = reader.series(key)
            by_step = dict(zip(at.tolist(), values.tolist(), strict=True))
            found[key] = tuple(by_step.get(step, math.nan) for step in steps)
    return Curve(found.pop("epoch"), found.pop("time/train"), found)


def at_loss(curve: Curve, loss: float) -> dict[str, float] | None:
    """Where a run first has a training loss: epochs, seconds, and losses and accuracies of the
    other parts of the data there; None where it never has. What was not evaluated is NaN.

    Interpolated between two evaluations along the logarithm of the training loss, other losses by
    their logarithms too: they fall along with it.
    """
    losses = curve.values["train_loss"]
    for i, value in enumerate(losses):
        if not value <= loss:
            continue
        part = 1.0
        if i and losses[i - 1] > value > 0 and math.isfinite(losses[i - 1]):
            above, below = math.log(losses[i - 1]), math.log(value)
            part = (above - math.log(loss)) / (above - below) if above > below else 1.0
        series = {"epochs": curve.epochs, "seconds": curve.seconds}
        series |= {key: curve.values[key] for key in _OTHERS if key in curve.values}
        if part == 1.0:
            return {key: found[i] for key, found in series.items()}
        return {
            key: _between(found[i - 1], found[i], part, geometric=key.endswith("_loss"))
            for key, found in series.items()
        }
    return None


def _between(before: float, after: float, part: float, *, geometric: bool) -> float:
    """What lies at a part of the way from one value to another."""
    if geometric and min(before, after) > 0:
        return math.exp(_between(math.log(before), math.log(after), part, geometric=False))
    return before + part * (after - before)


def score(figures: Mapping[str, Statistic], key: str) -> tuple[Statistic | None, bool]:
    """A figure over samples that were not trained on, and whether it is an accuracy: that where
    there are classes, else the loss.

    :param key: of ``RowResult.figures``, with ``{}`` for ``accuracy`` or ``loss``.
    """
    accuracy = figures.get(key.format("accuracy"))
    if accuracy is not None:
        return accuracy, True
    return figures.get(key.format("loss")), False


def knows_classes(rows: Sequence[RowResult]) -> bool:
    """Whether rows are to be told by their accuracies: some has one, or nothing is known yet."""
    known = {key for row in rows for key in row.figures}
    return not known or any("accuracy" in key for key in known)


def statistic(values: Sequence[float]) -> Statistic:
    """Mean, deviation and interval of at least one value."""
    n = len(values)
    mean = statistics.fmean(values)
    if n < 2:
        return Statistic(mean, math.nan, n, math.nan)
    from scipy.special import stdtrit

    std = statistics.stdev(values)
    return Statistic(mean, std, n, float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n))


def _figures(curves: Sequence[Curve], loss: float | None) -> dict[str, Statistic]:
    found: dict[str, list[float]] = {}
    for curve in curves:
        for key in LAST:
            found.setdefault(key, []).append(curve.values[key][-1])
        found.setdefault("seconds", []).append(curve.seconds[-1])
        found.setdefault("epochs", []).append(curve.epochs[-1])
        for key, best_of in (("val_accuracy", max), ("val_loss", min)):
            values = curve.values[key]
            if finite := _finite(values):
                best = best_of(finite)
                found.setdefault(f"best_{key}", []).append(best)
                found.setdefault("seconds_to_best", []).append(curve.seconds[values.index(best)])
                break  # by the accuracy where there is one, as the best checkpoint is
        there = None if loss is None else at_loss(curve, loss)
        for key, value in (there or {}).items():
            found.setdefault(f"{key}_at_loss", []).append(value)
    return {
        key: statistic(values)
        for key, values in found.items()
        if len(_finite(values)) == len(values)
    }


def _is_finished(state: CellState) -> bool:
    return state.status == "finished" and not state.diverged and state.train_loss is not None


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
