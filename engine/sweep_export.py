"""Sweeps as CSV: one row a run, or the grid as it is printed; comparisons: the means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from engine.cells import CellState
from engine.comparison import Comparison, Statistic
from engine.export import TextSink, csv_text, csv_writer, writing
from engine.stability import CellSummary, summarize_sweep
from engine.sweeps import Sweep

COLUMNS = (
    "run",
    "row",
    "method",
    "tau",
    "tau_theta",
    "seed",
    "status",
    "epochs",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
    "first_bad_step",
    "cause",
)
"""Of the long form."""
MEANS_COLUMNS = (
    "row",
    "tau",
    "seeds",
    "diverged",
    "figure",
    "mean",
    "sd",
    "ci95",
    "n",
    "common_train_loss",
    "complete",
)
"""Of :func:`export_means`."""


def export_sweep(
    sweep: Sweep, states: Sequence[CellState], out: Path | TextSink, *, grid: bool = False
) -> int:
    """Write a sweep.

    The long form has a row per run; its seconds are those of training, without evaluation. The
    grid has a row per row of the sweep and a column per step size with the median final training
    loss over the seeds; ``diverged K/N`` where any diverged, empty where a seed is not at its end
    yet (the long form has what is known of it). Then come the best step size, the stable width in
    decades, whether the grid ends before the stable step sizes do (so that the true width may be
    larger), the level, and whether every run of the row is finished or diverged: where that is
    ``false``, best and width may still change.

    Numbers are the shortest text that gives the same float64, or ``nan``, ``inf`` and ``-inf``.

    :param states: one per cell of the sweep.
    :param out: a stream, or the path of a file that is replaced when all is written.
    :returns: rows written, the header not counted.
    :raises StorageError: the file can not be written.
    """
    write = _grid if grid else _long
    if not isinstance(out, Path):
        return write(sweep, states, out)
    with writing(out) as stream:
        return write(sweep, states, stream)


def export_means(found: Comparison, out: Path | TextSink) -> int:
    """Write what the rows of a comparison come to: a row per variant and figure, with mean,
    standard deviation of the sample and half the 95 % interval of the mean, over n of the seeds.

    ``complete`` says whether all its runs have ended. ``common_train_loss`` is the loss of the
    figures that end on ``_at_loss``. A variant that has no figure, for no run of it is finished,
    has one row without.

    :param out: as for :func:`export_sweep`.
    :returns: rows written, the header not counted.
    :raises StorageError: the file can not be written.
    """
    if isinstance(out, Path):
        with writing(out) as stream:
            return export_means(found, stream)
    writer = csv_writer(out)
    writer.writerow(MEANS_COLUMNS)
    count = 0
    for row in found.rows:
        begin = [csv_text(row.label), _number(row.tau), len(row.runs), row.diverged]
        end = [_number(found.loss), str(row.complete).lower()]
        figures = row.figures.items() or [("", None)]
        for key, value in figures:
            numbers = ("", "", "", 0) if value is None else (*_spread(value), value.n)
            writer.writerow([*begin, key, *numbers, *end])
        count += len(figures)
    return count


def _spread(value: Statistic) -> tuple[str | float, ...]:
    """Empty where one seed has none."""
    return float(value.mean), *("" if math.isnan(x) else x for x in (value.std, value.ci95))


def _long(sweep: Sweep, states: Sequence[CellState], stream: TextSink) -> int:
    writer = csv_writer(stream)
    writer.writerow(COLUMNS)
    for cell, state in zip(sweep.cells, states, strict=True):
        writer.writerow(
            [
                cell.run or "",
                csv_text(cell.label),
                cell.method,
                _number(cell.tau),
                _number(cell.tau_theta),
                cell.seed,
                state.status,
                state.epoch,
                _number(state.train_loss),
                _number(state.val_loss),
                _number(state.val_accuracy),
                _number(state.test_loss),
                _number(state.test_accuracy),
                _number(state.seconds),
                state.first_bad_step,
                csv_text(state.cause),
            ]
        )
    return len(sweep.cells)


def _grid(sweep: Sweep, states: Sequence[CellState], stream: TextSink) -> int:
    found = summarize_sweep(sweep, states)
    taus = [_number(tau) for tau in found.taus]
    writer = csv_writer(stream)
    writer.writerow(
        ["row", *taus, "best_tau", "stable_width_decades", "at_edge", "level", "complete"]
    )
    for row in found.rows:
        writer.writerow(
            [
                csv_text(row.label),
                *(_loss(found.cells.get((row.label, tau))) for tau in found.taus),
                _number(row.best_tau),
                _number(row.width),
                "" if row.width is None else str(row.at_edge).lower(),
                _number(found.level),
                str(row.complete).lower(),
            ]
        )
    return len(found.rows)


def _loss(cell: CellSummary | None) -> str | float | None:
    if cell is None:
        return None
    if cell.diverged:
        return f"diverged {cell.diverged}/{cell.seeds}"
    return _number(cell.loss) if cell.final else None


def _number(value: float | None) -> float | None:
    """What JSON has without a point is an int here, but one column has one kind of number."""
    return None if value is None else float(value)
