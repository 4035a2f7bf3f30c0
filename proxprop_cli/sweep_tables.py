"""Sweeps and comparisons as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from engine.cells import CellState
from engine.comparison import Comparison, RowResult, Statistic, knows_classes, score
from engine.numbers import format_number, short_number
from engine.stability import CellSummary, RowSummary, Stability
from engine.sweeps import Sweep
from proxprop_cli.output import duration, percent

_SHOWN = 5


def grid_columns(grid: Stability) -> list[str]:
    """Heads of :func:`grid_rows`."""
    return ["method", *map(short_number, grid.taus), "best", "width"]


def grid_rows(grid: Stability) -> list[list[str]]:
    """A line per row of the sweep: median training losses, best step size, stable width."""
    return [
        [
            row.label,
            *(_cell(grid.cells.get((row.label, tau))) for tau in grid.taus),
            best_text(row),
            width_text(row),
        ]
        for row in grid.rows
    ]


def best_text(row: RowSummary) -> str:
    """The best step size of a row; ``1…`` while it may change, ``…`` where none is known yet."""
    return _so_far("" if row.best_tau is None else short_number(row.best_tau), row)


def width_text(row: RowSummary) -> str:
    """The stable width of a row in decades, likewise; ``≥`` where the grid ends first."""
    if row.width is None:
        return _so_far("", row)
    return _so_far(f"{'≥' if row.at_edge else ''}{row.width:.1f}", row)


def grid_legend(grid: Stability) -> str:
    """What the numbers of the grid are."""
    seeds = max((cell.seeds for cell in grid.cells.values()), default=1)
    over = f", median of {seeds} seeds" if seeds > 1 else ""
    level = ""
    if grid.level is not None:
        level = f" with every seed at or below {format_number(grid.level)}"
    level += "" if grid.complete else " so far"
    unfinished = "" if grid.complete else "; … not complete"
    return (
        f"training loss after {grid.length}{over}; ✖ k/n diverged; "
        f"width: decades of tau{level}, ≥ where the grid ends first{unfinished}"
    )


def sweep_document(
    sweep: Sweep, states: Sequence[CellState], grid: Stability, best: Comparison
) -> dict[str, Any]:
    """A sweep for ``--json``.

    :param best: its runs at the best step size of each row.
    """
    figures = {row.label: row.figures for row in best.rows}
    return {
        "sweep": sweep.id,
        "preset": sweep.preset,
        "epochs": sweep.epochs,
        "ended": sum(state.ended for state in states),
        "complete": grid.complete,
        "tau": list(grid.taus),
        "level": grid.level,
        "cells": [
            {
                "run": cell.run,
                "row": cell.label,
                "method": cell.method,
                "tau": cell.tau,
                "tau_theta": cell.tau_theta,
                "seed": cell.seed,
                "status": state.status,
                "diverged": state.diverged,
                "epoch": state.epoch,
                "train_loss": state.train_loss,
                "val_loss": state.val_loss,
                "val_accuracy": state.val_accuracy,
                "first_bad_step": state.first_bad_step,
                "cause": state.cause,
            }
            for cell, state in zip(sweep.cells, states, strict=True)
        ],
        "common_train_loss": best.loss,
        "methods": {
            row.label: {
                "best_tau": row.best_tau,
                "best_loss": row.best_loss,
                "stable_width": row.width,
                "at_edge": row.at_edge,
                "complete": row.complete,
                **{key: asdict(value) for key, value in figures.get(row.label, {}).items()},
            }
            for row in grid.rows
        },
    }


def comparison_columns(found: Comparison) -> list[str]:
    """Heads of :func:`comparison_rows`."""
    loss = "" if knows_classes(found.rows) else " loss"
    return ["method", "tau", "n", "train loss", "sd", f"val{loss}", "sd", f"test{loss}", "sd"]


def comparison_rows(found: Comparison) -> list[list[str]]:
    """A line per variant: where it ended, mean, 95 % interval and standard deviation over its
    finished seeds."""
    return [
        [
            row.label,
            short_number(row.tau),
            _count(row),
            _plus_minus(row.figures.get("train_loss"), format_number),
            _deviation(row.figures.get("train_loss"), format_number),
            *_score(row, "val_{}"),
            *_score(row, "test_{}"),
        ]
        for row in found.rows
    ]


def time_columns(found: Comparison) -> list[str]:
    """Heads of :func:`time_rows`."""
    loss = "" if knows_classes(found.rows) else " loss"
    return ["method", "epochs", "time", "sd", f"best val{loss}", "sd", "after", "sd"]


def time_rows(found: Comparison) -> list[list[str]]:
    """A line per variant: how long it was trained, and after how long it was at its best."""
    return [
        [
            row.label,
            _mean(row.figures.get("epochs"), format_number),
            *_duration(row.figures.get("seconds")),
            *_score(row, "best_val_{}"),
            *_duration(row.figures.get("seconds_to_best")),
        ]
        for row in found.rows
    ]


def at_loss_columns(found: Comparison) -> list[str]:
    """Heads of :func:`at_loss_rows`."""
    loss = "" if knows_classes(found.rows) else " loss"
    return ["method", "n", "epochs", "time", "sd", f"val{loss}", "sd", f"test{loss}", "sd"]


def at_loss_rows(found: Comparison) -> list[list[str]]:
    """A line per variant: where it had the common training loss."""
    return [
        [
            row.label,
            _reached(row),
            _plus_minus(row.figures.get("epochs_at_loss"), format_number),
            *_duration(row.figures.get("seconds_at_loss")),
            *_score(row, "val_{}_at_loss"),
            *_score(row, "test_{}_at_loss"),
        ]
        for row in found.rows
    ]


def comparison_document(sweep: Sweep, found: Comparison) -> dict[str, Any]:
    """A comparison for ``--json``."""
    return {
        "comparison": sweep.id,
        "preset": sweep.preset,
        "ended": sum(row.ended for row in found.rows),
        "complete": all(row.complete for row in found.rows),
        "common_train_loss": found.loss,
        "methods": [
            {
                "method": row.label,
                "tau": row.tau,
                "runs": list(row.runs),
                "statuses": [state.status for state in row.states],
                "diverged": row.diverged,
                "ended": row.ended,
                "complete": row.complete,
                **{key: asdict(value) for key, value in row.figures.items()},
            }
            for row in found.rows
        ],
    }


def left_out(sweep: Sweep, states: Sequence[CellState]) -> list[str]:
    """A line for each of the first runs that are in no table, and how many more there are."""
    lines = [
        f"warning: run {cell.run} is left out: {state.cause}"
        for cell, state in zip(sweep.cells, states, strict=True)
        if state.status == "unreadable"
    ]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"… and {more} more runs"] if more > 0 else [])


def _cell(cell: CellSummary | None) -> str:
    if cell is None:
        return ""
    if cell.diverged:
        return f"✖ {cell.diverged}/{cell.seeds}"
    if cell.loss is None:
        return "…" if cell.running else "·"
    return format_number(cell.loss) + ("" if cell.final else "…")


def _so_far(text: str, row: RowSummary) -> str:
    return (text or "-") if row.complete else f"{text}…"


def _count(row: RowResult) -> str:
    """``2/3``: the seeds in the means, of all."""
    figure = row.figures.get("train_loss")
    text = f"{figure.n if figure else 0}/{len(row.runs)}"
    text += f" (✖ {row.diverged})" if row.diverged else ""
    return text if row.complete else f"{text}…"


def _reached(row: RowResult) -> str:
    figure = row.figures.get("seconds_at_loss")
    return f"{figure.n if figure else 0}/{len(row.runs)}"


def _score(row: RowResult, key: str) -> tuple[str, str]:
    """Mean with its interval, and the deviation."""
    value, is_accuracy = score(row.figures, key)
    form = percent if is_accuracy else format_number
    return _plus_minus(value, form), _deviation(value, form)


def _duration(value: Statistic | None) -> tuple[str, str]:
    """Mean and deviation."""
    return _mean(value, duration), _deviation(value, duration)


def _plus_minus(value: Statistic | None, form: Callable[[float], str]) -> str:
    mean = _mean(value, form)
    if value is None or not math.isfinite(value.ci95):
        return mean
    return f"{mean.removesuffix(' %')} ± {form(value.ci95)}"


def _deviation(value: Statistic | None, form: Callable[[float], str]) -> str:
    if value is None or not math.isfinite(value.std):
        return "-"
    return form(value.std).removesuffix(" %")


def _mean(value: Statistic | None, form: Callable[[float], str]) -> str:
    return "-" if value is None else form(value.mean)
