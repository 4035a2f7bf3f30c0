"""Sweeps as CSV: one row a run, or the grid as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from engine.atomic_files import replacing, storage_errors
from engine.cells import CellState
from engine.export import csv_text, csv_writer
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
    "val_accuracy",
    "first_bad_step",
    "cause",
)
_USER_FILE = 0o666


def export_sweep(
    sweep: Sweep, states: Sequence[CellState], out: Path | TextIO, *, grid: bool = False
) -> int:
    """Write a sweep.

    The long form has a row per run. The grid has a row per row of the sweep and a column per step
    size with the median training loss over the seeds that did not diverge; ``diverged K/N`` where
    any did, empty where nothing is known; then best step size, stable width in decades and level.

    :param states: one per cell of the sweep.
    :param out: a stream, or the path of a file that is replaced when all is written.
    :returns: rows written, the header not counted.
    :raises StorageError: the file can not be written.
    """
    write = _grid if grid else _long
    if not isinstance(out, Path):
        return write(sweep, states, out)
    with storage_errors(out), replacing(out, mode=_USER_FILE) as stream:
        return write(sweep, states, stream)


def _long(sweep: Sweep, states: Sequence[CellState], stream: TextIO) -> int:
    writer = csv_writer(stream)
    writer.writerow(COLUMNS)
    for cell, state in zip(sweep.cells, states, strict=True):
        writer.writerow(
            [
                cell.run or "",
                csv_text(cell.label),
                cell.method,
                cell.tau,
                "" if cell.tau_theta is None else cell.tau_theta,
                cell.seed,
                state.status,
                state.epoch,
                "" if state.train_loss is None else state.train_loss,
                "" if state.val_accuracy is None else state.val_accuracy,
                "" if state.first_bad_step is None else state.first_bad_step,
                csv_text(state.cause),
            ]
        )
    return len(sweep.cells)


def _grid(sweep: Sweep, states: Sequence[CellState], stream: TextIO) -> int:
    found = summarize_sweep(sweep, states)
    writer = csv_writer(stream)
    writer.writerow(["row", *found.taus, "best_tau", "stable_width_decades", "level"])
    for row in found.rows:
        writer.writerow(
            [
                csv_text(row.label),
                *(_number(found.cells.get((row.label, tau))) for tau in found.taus),
                "" if row.best_tau is None else row.best_tau,
                "" if row.width is None else row.width,
                "" if found.level is None else found.level,
            ]
        )
    return len(found.rows)


def _number(cell: CellSummary | None) -> str | float:
    if cell is None:
        return ""
    if cell.diverged:
        return f"diverged {cell.diverged}/{cell.seeds}"
    return "" if cell.loss is None else cell.loss
