"""The grid of a sweep as coloured cells."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from engine.errors import ConfigError
from engine.figures.style import (
    FONT_SIZE,
    MISSING,
    Look,
    log_axis,
    new_figure,
    plain_text,
)
from engine.numbers import short_number
from engine.stability import CellSummary, Stability

_ROW_HEIGHT = 0.36
_BESIDE = 1.7
"""Inches beside the cells, about."""
_CHARACTER = 0.72
"""Width of a bold digit, and what is around a number, in font sizes."""
_LEAST_SIZE = 3.5
_ROBUST = (5.0, 95.0)
"""Percentiles at which the colours end."""


def draw_heatmap(grid: Stability, *, look: Look = Look()) -> Figure:  # noqa: B008 - frozen
    """Rows and step sizes of the grid, largest first; the number is the median training loss.

    The best step size of a row is bold. Cells with a seed that diverged are hatched and say k/n;
    ``…`` marks those that were not trained to their end.

    :raises ConfigError: no run of the sweep was evaluated or diverged.
    """
    losses = [
        cell.loss
        for cell in grid.cells.values()
        if cell.loss is not None and cell.loss > 0 and not cell.diverged
    ]
    if not losses and not any(cell.diverged for cell in grid.cells.values()):
        raise ConfigError("no run of the sweep was evaluated yet")
    figure = new_figure(look, _ROW_HEIGHT * len(grid.rows) + 1.1)
    axes = figure.subplots()
    low, high = np.percentile(losses, _ROBUST) if losses else (0.1, 1.0)
    if not high > low * 1.01:
        low, high = low / 2, high * 2
    longest = max(len(_text(cell)) for cell in grid.cells.values())
    room = 72 * (look.width - _BESIDE) / len(grid.taus)
    size = max(_LEAST_SIZE, min(FONT_SIZE - 1, room / (_CHARACTER * longest)))
    norm = LogNorm(float(low), float(high), clip=True)
    colors = matplotlib.colormaps["viridis"]
    for y, row in enumerate(grid.rows):
        for x, tau in enumerate(grid.taus):
            cell = grid.cells.get((row.label, tau))
            if cell is None:
                continue
            face: tuple[float, float, float] = to_rgb(MISSING)
            if not cell.diverged and cell.loss is not None and cell.loss > 0:
                face = to_rgb(colors(norm(cell.loss)))
            _draw_cell(axes, x, y, cell, face, size, best=tau == row.best_tau)
    axes.set_xlim(-0.5, len(grid.taus) - 0.5)
    axes.set_ylim(len(grid.rows) - 0.5, -0.5)
    axes.set_xticks(range(len(grid.taus)), [short_number(tau) for tau in grid.taus])
    axes.set_yticks(range(len(grid.rows)), [plain_text(row.label, 40) for row in grid.rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Step size τ")
    if losses:
        mappable = matplotlib.cm.ScalarMappable(norm, colors)
        bar = figure.colorbar(
            mappable, ax=axes, extend="both" if len(losses) > 2 else "neither", aspect=14, pad=0.02
        )
        log_axis(bar.ax, "y")
        if high > 30 * low:
            bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.set_label("Training loss\nafter " + grid.length.replace(", ", ",\n"))
        bar.outline.set_visible(False)
    return figure


def _draw_cell(
    axes: Axes,
    x: int,
    y: int,
    cell: CellSummary,
    face: tuple[float, float, float],
    size: float,
    *,
    best: bool,
) -> None:
    axes.add_patch(
        Rectangle(
            (x - 0.5, y - 0.5),
            1,
            1,
            facecolor=face,
            edgecolor="white",
            linewidth=1.2,
            gid="diverged" if cell.diverged else "cell",
        )
    )
    if cell.diverged:
        hatched = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, linewidth=0, hatch="////")
        axes.add_patch(hatched)
    box = {"facecolor": MISSING, "linewidth": 0, "pad": 1.5} if cell.diverged else None
    axes.text(
        x,
        y,
        _text(cell),
        color="black" if _luminance(face) > 0.3 else "white",
        fontweight="bold" if best else "normal",
        horizontalalignment="center",
        verticalalignment="center_baseline",
        fontsize=size,
        bbox=box,
    )


def _text(cell: CellSummary) -> str:
    if cell.diverged:
        return f"✖ {cell.diverged}/{cell.seeds}"
    if cell.loss is None or not math.isfinite(cell.loss):
        return "…" if cell.running else "·"
    return short_number(cell.loss) + ("" if cell.final else "…")


def _luminance(color: tuple[float, float, float]) -> float:
    """Of a colour of sRGB, 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
