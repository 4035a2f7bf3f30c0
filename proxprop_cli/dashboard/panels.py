"""The texts of the live screen's tables: layers of one run, or the runs of an overlay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from proxprop_cli.dashboard.palette import color_of, glyph_of
from proxprop_cli.dashboard.views import RunView, series_of
from proxprop_cli.dashboard.widgets.run_header import STATUS
from proxprop_cli.dashboard.widgets.table import Column, Row
from proxprop_cli.output import duration, number, score

LAYER_COLUMNS = (
    Column("layer", left=True),
    Column("system", rank=2, left=True),
    Column("solver", rank=3, left=True),
    Column("iter"),
    Column("residual"),
    Column("angle", rank=1),
    Column("end", left=True),
    Column("fallbacks", rank=4),
)
RUN_COLUMNS = (
    Column("", left=True),
    Column("run", left=True),
    Column("method", left=True),
    Column("tau"),
    Column("status", rank=2, left=True),
    Column("epoch", rank=2),
    Column("loss"),
    Column("val", rank=1),
    Column("time", rank=3),
)
_ANGLE, _FALLBACKS = 5, 7
MEMBER_COLUMNS = tuple(
    replace(column, rank=4) if column.title in ("method", "tau") else column
    for column in RUN_COLUMNS
)
"""Of the runs of a sweep, whose rows tell method and step size."""


_ENDS = {"converged": "tol", "max iterations": "max"}
"""Why a solver ended, in the room of a column; what is not here is short enough."""


def layer_rows(view: RunView) -> list[Row]:
    """A row per layer with a solver, as of the latest traced step."""
    rows = []
    for trace in view.traces:
        fallbacks = view.fallbacks.get(trace.layer, 0)
        cosine = trace.descent_cosine
        known = not math.isnan(cosine)
        angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) if known else math.nan
        cells = (
            trace.layer,
            f"{trace.size:,} {trace.form}",
            trace.solver,
            str(trace.iterations) if trace.residuals else "-",
            f"{trace.true_residual:.1e}",
            f"{angle:.1f}°" if known else "NaN",
            _ENDS.get(trace.stop_reason, trace.stop_reason),
            str(fallbacks),
        )
        bad = ((_ANGLE, not cosine > 0), (_FALLBACKS, fallbacks > 0))
        rows.append(Row(trace.layer, cells, tuple((i, "bold red") for i, is_bad in bad if is_bad)))
    return rows


def layers_titles(view: RunView) -> tuple[str, ...]:
    """What is above the layers, in less and less room: of which step they tell."""
    if not view.traces:
        return ("3 Layers",)
    step = view.traces[0].step
    before = view.step - step
    if view.status == "diverged" and before > 0:
        # far from what went wrong, a table of healthy layers must not look like the end
        told = f"at step {step:,}, {before:,} before the end"
        return f"3 Layers · {told}", f"3 Layers · step {step:,} of {view.step:,}"
    return (f"3 Layers · step {step:,}",)


def layers_captions(view: RunView) -> tuple[str, ...]:
    """The line under the layers, in less and less room: fallbacks, throughput, cost."""
    fallbacks = sum(view.fallbacks.values())
    plain = view.method == "backprop"
    # more digits would only flicker
    rate = f"{float(f'{view.rate:.3g}'):,.0f}" if view.rate else ""
    work = "" if view.work_per_step is None or plain else f"{view.work_per_step:.2f}x"
    told = f"{fallbacks:,} fallback{'' if fallbacks == 1 else 's'}" if fallbacks else ""
    none = "" if fallbacks or plain else "no fallbacks"
    found = (
        (told, rate and f"{rate} samples/s", work and f"{work} BackProp's work", none),
        (told, rate and f"{rate} samples/s", work and f"{work} work", none),
        (told, rate and f"{rate} samples/s", work and f"{work} work"),
        (told, rate and f"{rate}/s", work and f"{work} work"),
        (told, rate and f"{rate}/s", work),
    )
    return tuple(" · ".join(filter(None, parts)) for parts in found)


def run_rows(views: Sequence[RunView], *, banded: bool = False) -> list[Row]:
    """A row per run of an overlay, with the mark and colour of its curve.

    :param banded: whether that is the one of its row in a sweep.
    """
    rows = []
    for index, view in zip(series_of(views, banded=banded), views, strict=True):
        status_glyph, status_color = STATUS.get(view.word, ("?", "red"))
        tau = view.config.get("tau")
        metrics = view.metrics
        cells = (
            glyph_of(index),
            # the glyph of the status is seen at every width
            f"{status_glyph} {view.short if view.place else view.config.get('name') or view.id}",
            view.method,
            "-" if tau is None else f"{tau:g}",
            view.word,
            f"{view.epoch:.1f}" if view.epoch % 1 else f"{view.epoch:.0f}",
            "✖" if view.status == "diverged" else number(metrics.get("train_loss"), 3),
            score(metrics, "val", 3),
            duration(metrics.get("time/train")),
        )
        styles = [(0, color_of(index)), (4, status_color)]
        if status_color == "red":
            styles.append((1, status_color))
        rows.append(Row(view.id, cells, tuple(styles)))
    return rows
