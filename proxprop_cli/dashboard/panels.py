"""The texts of the live screen's tables: layers of one run, or the runs of an overlay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from proxprop_cli.dashboard.palette import color_of, glyph_of
from proxprop_cli.dashboard.views import RunView, series_of
from proxprop_cli.dashboard.widgets.run_header import STATUS
from proxprop_cli.dashboard.widgets.table import Column, Row
from proxprop_cli.output import duration, number, percent

LAYER_COLUMNS = (
    Column("layer", left=True),
    Column("system", rank=2, left=True),
    Column("solver", rank=1, left=True),
    Column("iter"),
    Column("residual"),
    Column("angle", rank=1),
    Column("ended by", rank=3, left=True),
    Column("fallbacks", rank=4),
)
RUN_COLUMNS = (
    Column("", left=True),
    Column("run", left=True),
    Column("method", left=True),
    Column("tau"),
    Column("status", rank=1, left=True),
    Column("epoch", rank=2),
    Column("loss"),
    Column("val", rank=1),
    Column("time", rank=3),
)
MEMBER_COLUMNS = tuple(
    replace(column, rank=4) if column.title in ("method", "tau") else column
    for column in RUN_COLUMNS
)
"""Of the runs of a sweep, whose rows tell method and step size."""


def layer_rows(view: RunView) -> list[Row]:
    """A row per layer with a solver, as of the latest traced step."""
    rows = []
    for trace in view.traces:
        fallbacks = view.fallbacks.get(trace.layer, 0)
        angle = math.degrees(math.acos(max(-1.0, min(1.0, trace.descent_cosine))))
        cells = (
            trace.layer,
            f"{trace.size:,} {trace.form}",
            trace.solver,
            str(trace.iterations) if trace.residuals else "-",
            f"{trace.true_residual:.1e}",
            "-" if math.isnan(angle) else f"{angle:.1f}°",
            trace.stop_reason,
            str(fallbacks),
        )
        bad = trace.descent_cosine <= 0 or fallbacks
        rows.append(Row(trace.layer, cells, ((5, "bold red"), (7, "bold red")) if bad else ()))
    return rows


def layers_caption(view: RunView) -> str:
    """The line under the layers: fallbacks, throughput, cost."""
    parts = [f"fallbacks {sum(view.fallbacks.values())}"]
    if view.traces:
        parts.insert(0, f"step {view.traces[0].step:,}")
    if view.rate:
        parts.append(f"{view.rate:,.0f} samples/s")
    if view.work_per_step is not None and view.method != "backprop":
        parts.append(f"{view.work_per_step:.2f}x work")
    return " · ".join(parts)


def run_rows(views: Sequence[RunView], *, banded: bool = False) -> list[Row]:
    """A row per run of an overlay, with the mark and colour of its curve.

    :param banded: whether that is the one of its row in a sweep.
    """
    rows = []
    for index, view in zip(series_of(views, banded=banded), views, strict=True):
        status_glyph, status_color = STATUS.get(view.status, ("?", "red"))
        tau = view.config.get("tau")
        metrics = view.metrics
        cells = (
            glyph_of(index),
            view.short if view.place else str(view.config.get("name") or view.id),
            view.method,
            "-" if tau is None else f"{tau:g}",
            f"{status_glyph} {view.status}",
            f"{view.epoch:.1f}" if view.epoch % 1 else f"{view.epoch:.0f}",
            "✖" if view.status == "diverged" else number(metrics.get("train_loss"), 3),
            percent(metrics.get("val_accuracy")),
            duration(metrics.get("time/train")),
        )
        rows.append(Row(view.id, cells, ((0, color_of(index)), (4, status_color))))
    return rows
