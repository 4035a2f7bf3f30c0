"""Metrics of runs against epochs, time or work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from engine.errors import ConfigError
from engine.figures.seeds import Array, Band, Group, combine, describe
from engine.figures.style import (
    Look,
    color,
    dash,
    legend_below,
    log_axis,
    marker,
    new_figure,
    plain_text,
)

MAX_LINES = 28
"""Most lines whose colour and dashes differ."""

_PANEL_HEIGHT = 2.1
_LEGEND_ROW = 0.2
_MARKERS_A_LINE = 8
_METRICS = {
    "batch_loss": "Loss of the mini-batch",
    "direction_norm": "Norm of the direction",
    "tau": "Step size τ",
    "train_loss": "Training loss",
    "train_accuracy": "Training accuracy",
    "val_loss": "Validation loss",
    "val_accuracy": "Validation accuracy",
    "test_loss": "Test loss",
    "test_accuracy": "Test accuracy",
    "time/epoch": "Training time of the epoch (s)",
}
_X_AXES = {
    "epoch": "Epoch",
    "step": "Step",
    "wall": "Wall time",
    "train": "Training time",
    "work": "Work (epochs of BackProp)",
}
_TIMES = ("wall", "train")


@dataclass(frozen=True, slots=True)
class Scales:
    """Which axes are logarithmic."""

    log_x: bool = False
    log_y: bool | None = None
    """None: losses are."""


def draw_curves(
    groups: Sequence[Group],
    xs: Sequence[str],
    metrics: Sequence[str],
    *,
    scales: Scales = Scales(),
    look: Look = Look(),  # noqa: B008 - frozen
) -> Figure:
    """A line per group, with a band over its seeds.

    One x axis gives a row of panels, one a metric; several give a row per metric and a column per
    x axis. A seed that diverged is in no mean: it is drawn as a line of its own, which ends in a
    cross at its last finite value. Not finite values are gaps.

    :param xs: of ``epoch``, ``step``, ``wall``, ``train``, ``work``.
    :param metrics: keys of the store; accuracies are drawn in per cent.
    :raises ConfigError: there is nothing to draw, or too many lines.
    """
    if len(groups) > MAX_LINES:
        raise ConfigError(
            f"{len(groups)} lines can not be told apart; expected at most {MAX_LINES}: name fewer "
            "runs, or draw the best step size of each row (--best)"
        )
    rows, columns = (len(metrics), len(xs)) if len(xs) > 1 else (1, len(metrics))
    height = rows * _PANEL_HEIGHT + 0.5 + _LEGEND_ROW * len(groups) / 2
    figure = new_figure(look, height + (0.6 if columns == 1 else 0.0))
    grid = figure.subplots(
        rows, columns, squeeze=False, sharey="row" if len(xs) > 1 else False, sharex=False
    )
    places = [(x, metric) for metric in metrics for x in xs]
    labels = [group.label for group in groups]
    for number, ((x, metric), axes) in enumerate(zip(places, grid.flat, strict=True)):
        bands = _panel(axes, groups, x, metric, scales)
        if number == 0:
            labels = [describe(group, band) for group, band in zip(groups, bands, strict=True)]
        if len(xs) > 1 and number % columns:
            axes.set_ylabel("")
        if rows > 1 and number < columns * (rows - 1):
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
    legend_below(figure, [_handle(group) for group in groups], labels)
    figure.align_labels()
    return figure


def _panel(axes: Axes, groups: Sequence[Group], x: str, metric: str, scales: Scales) -> list[Band]:
    log_y = metric.endswith("loss") if scales.log_y is None else scales.log_y
    unit, seconds = _unit(groups, x, metric)
    factor = 100.0 if metric.endswith("accuracy") else 1.0
    # no fraction is less than 0 or more than 1, though its interval may say so
    bounds = (0.0, 100.0) if factor != 1.0 else (-np.inf, np.inf)
    drawn, bands = False, []
    for group in groups:
        found = [
            (run, run.series.get((x, metric), (np.empty(0), np.empty(0)))) for run in group.runs
        ]
        found = [(run, (at / seconds, factor * values)) for run, (at, values) in found]
        band = combine([curve for run, curve in found if not run.diverged])
        bands.append(band)
        middle = _visible(band.x, band.middle, scales.log_x, log_y)
        drawn |= bool(np.isfinite(middle).any())
        _draw_band(axes, group, band, middle, bounds)
        for run, (at, values) in found:
            if run.diverged:
                shown = _visible(at, values, scales.log_x, log_y)
                drawn |= bool(np.isfinite(shown).any())
                _draw_diverged(axes, group, at, shown)
    if not drawn:
        raise ConfigError(f"no values of {metric!r} that could be drawn against {x!r}")
    if scales.log_x:
        log_axis(axes, "x")
    elif x in ("epoch", "step"):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if log_y:
        log_axis(axes, "y")
    axes.set_xlabel(_X_AXES[x] + (f" ({unit})" if unit else ""))
    name = _METRICS.get(metric, plain_text(metric, 60))
    axes.set_ylabel(f"{name} (%)" if factor != 1.0 else name)
    axes.margins(x=0.03)
    return bands


def _draw_band(
    axes: Axes, group: Group, band: Band, middle: Array, bounds: tuple[float, float]
) -> None:
    if not band.n:
        return
    axes.plot(band.x, middle, markevery=_every(len(band.x), group), gid="line", **_style(group))
    if band.kind != "line":
        low = np.where(np.isfinite(middle), band.low, np.nan)
        axes.fill_between(
            band.x,
            low.clip(*bounds),
            band.high.clip(*bounds),
            color=color(group.hue),
            alpha=0.2,
            linewidth=0,
            gid="band",
        )


def _draw_diverged(axes: Axes, group: Group, x: Array, y: Array) -> None:
    known = np.flatnonzero(np.isfinite(y))
    if not len(known):
        return
    style = _style(group) | {"marker": "", "linewidth": 1.0}
    axes.plot(x, y, gid="diverged", **style)
    end = known[-1]
    axes.plot(
        x[end : end + 1],
        y[end : end + 1],
        gid="cross",
        color=color(group.hue),
        marker="x",
        markersize=7,
        markeredgewidth=1.6,
        linestyle="",
        zorder=5,
    )


def _style(group: Group) -> dict[str, Any]:
    return {
        "color": color(group.hue),
        "linestyle": dash(group.dash),
        "marker": marker(group.dash),
        "markerfacecolor": "white",
    }


def _every(points: int, group: Group) -> tuple[int, int]:
    """Where a line has markers: few, and not where its neighbours have them."""
    step = max(1, points // _MARKERS_A_LINE)
    return (group.dash * step // 3) % step, step


def _handle(group: Group) -> Any:
    line = Line2D([], [], **_style(group))
    if len(group.runs) == 1:
        return line
    return (Patch(facecolor=color(group.hue), alpha=0.2, linewidth=0), line)


def _visible(x: Array, y: Array, log_x: bool, log_y: bool) -> Array:
    """The values with NaN where there is no place for them."""
    shown = np.isfinite(x) & np.isfinite(y)
    if log_y:
        shown &= y > 0
    if log_x:
        shown &= x > 0
    return np.where(shown, y, np.nan)


def _unit(groups: Sequence[Group], x: str, metric: str) -> tuple[str, float]:
    """Unit of a time axis and its seconds; no unit and 1 for other axes."""
    if x not in _TIMES:
        return "", 1.0
    ends = [
        float(np.nanmax(run.series[x, metric][0]))
        for group in groups
        for run in group.runs
        if (x, metric) in run.series and np.isfinite(run.series[x, metric][0]).any()
    ]
    longest = max(ends, default=0.0)
    if longest < 180:
        return "s", 1.0
    return ("min", 60.0) if longest < 3 * 3600 else ("h", 3600.0)
