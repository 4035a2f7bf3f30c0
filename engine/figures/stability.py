"""The final training loss against the step size: Table 1 of the paper as a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETUPBASE
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from engine.errors import ConfigError
from engine.figures.style import (
    FONT_SIZE,
    GREY,
    Look,
    color,
    dash,
    legend_below,
    log_axis,
    marker,
    new_figure,
    plain_text,
)
from engine.numbers import short_number
from engine.stability import CellSummary, Stability

_HEIGHT = 3.4
_STRIP_ROW = 0.22
"""Inches of a row of crosses."""
_TICK_ROOM = 0.3
"""Least inches between two step sizes that both have a label."""
_TOP = 1e3
"""Losses above this many times the level are drawn at the edge."""


def draw_stability(
    grid: Stability,
    *,
    log_y: bool = True,
    look: Look = Look(),  # noqa: B008 - frozen
) -> Figure:
    """A line per row: median over seeds, and a band from the least to the greatest.

    A step size at which a seed diverged has no median: a cross stands for it in the strip at the
    top, with k/n. One that was not trained to its end yet has a small mark that no line joins.
    The dashed line is the level common to all rows. The logarithmic axis ends three decades above
    it; a median beyond is a triangle at the edge.

    :raises ConfigError: no run of the sweep was evaluated or diverged.
    """
    cells = {
        row.label: [
            cell
            for tau in reversed(grid.taus)
            if (cell := grid.cells.get((row.label, tau))) is not None
        ]
        for row in grid.rows
    }
    known = [cell for row in cells.values() for cell in row]
    if not any(cell.diverged or _is_drawable(cell.loss) for cell in known):
        raise ConfigError("no run of the sweep was evaluated yet")
    lost = [row for row, found in cells.items() if any(cell.diverged for cell in found)]
    hues = {row: number for number, row in enumerate(cells)}
    strip = _STRIP_ROW * len(lost)
    figure = new_figure(look, _HEIGHT + strip + 0.1 * len(cells))
    axes, top = _panels(figure, strip)
    for row, found in cells.items():
        _draw_row(axes, found, hues[row])
    handles: list[Any] = [_line(hue) for hue in hues.values()]
    labels = list(cells)
    seeds = max(cell.seeds for cell in known)
    if seeds > 1:
        handles.append((Patch(facecolor=GREY, alpha=0.25, linewidth=0), Line2D([], [], color=GREY)))
        labels.append(f"median, min–max of {seeds} seeds")
    if grid.level is not None:
        level = axes.axhline(
            grid.level, color=GREY, linestyle=(0, (5, 3)), linewidth=1, gid="level"
        )
        handles.append(level)
        labels.append(f"common level {short_number(grid.level)}")
    if any(not cell.final and not cell.diverged and _is_drawable(cell.loss) for cell in known):
        handles.append(Line2D([], [], color=GREY, marker=".", linestyle=""))
        labels.append("not trained to its end")
    _scale(axes, grid, log_y, look.width)
    if grid.level is not None and log_y:
        _mark_beyond(axes, list(cells.values()), _TOP * grid.level)
    if top is not None:
        handles.append(Line2D([], [], color=GREY, marker="x", linestyle="", markeredgewidth=1.6))
        labels.append("diverged: k/n seeds")
        _draw_strip(top, {row: cells[row] for row in lost}, hues, _least_gap(grid.taus, look.width))
    legend_below(figure, handles, labels)
    return figure


def _panels(figure: Figure, strip: float) -> tuple[Axes, Axes | None]:
    if not strip:
        return figure.subplots(), None
    main = figure.get_figheight() - strip - 1.0
    top, axes = figure.subplots(
        2, 1, sharex=True, height_ratios=[strip, max(main, strip)], gridspec_kw={"hspace": 0}
    )
    engine: Any = figure.get_layout_engine()
    engine.set(h_pad=0.03, hspace=0)
    return axes, top


def _draw_row(axes: Axes, cells: list[CellSummary], hue: int) -> None:
    xs = [cell.tau for cell in cells]
    joined = [cell if cell.final and _is_drawable(cell.loss) else None for cell in cells]
    middle = [math.nan if cell is None else _place(cell.loss) for cell in joined]
    style = {"color": color(hue), "linestyle": dash(hue), "marker": marker(hue)}
    axes.plot(xs, middle, markerfacecolor="white", gid="line", zorder=3, **style)
    if any(cell is not None and len(cell.losses) > 1 for cell in joined):
        low = [math.nan if cell is None else _place(min(cell.losses)) for cell in joined]
        high = [math.nan if cell is None else _place(max(cell.losses)) for cell in joined]
        axes.fill_between(xs, low, high, color=color(hue), alpha=0.2, linewidth=0, gid="band")
        # a step size between two that diverged would have no area
        axes.vlines(xs, low, high, color=color(hue), alpha=0.35, linewidth=2.5, gid="range")
    for cell in cells:
        if not cell.final and not cell.diverged and _is_drawable(cell.loss):
            place = _place(cell.loss)
            axes.plot([cell.tau], [place], color=color(hue), marker=".", gid="unfinished")


def _mark_beyond(axes: Axes, rows: Sequence[list[CellSummary]], limit: float) -> None:
    """Let the axis end where losses say nothing any more, with a triangle for each beyond."""
    bottom, top = axes.get_ylim()
    if top <= limit:
        return
    axes.set_ylim(bottom, limit)
    for hue, cells in enumerate(rows):
        for cell in cells:
            if cell.final and cell.loss is not None and cell.loss > limit:
                axes.plot(
                    [cell.tau],
                    [limit],
                    color=color(hue),
                    marker=CARETUPBASE,
                    markersize=7,
                    clip_on=False,
                    gid="beyond",
                )


def _draw_strip(
    axes: Axes, rows: Mapping[str, list[CellSummary]], hues: Mapping[str, int], gap: float
) -> None:
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [plain_text(row, 24) for row in rows])
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_color(color(hues[row]))
    axes.tick_params(which="both", length=0, labelbottom=False)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.grid(visible=False, axis="y")
    for number, (row, cells) in enumerate(rows.items()):
        bad = [cell for cell in cells if cell.diverged]
        axes.plot(
            [cell.tau for cell in bad],
            [number] * len(bad),
            color=color(hues[row]),
            marker="x",
            markersize=5.5,
            markeredgewidth=1.6,
            linestyle="",
            gid="cross",
        )
        for cell in bad:
            share = f"{cell.diverged}/{cell.seeds}"
            room = (72 * gap - 9) / (0.62 * len(share))
            axes.annotate(
                share,
                (cell.tau, number),
                xytext=(5.5, 0),
                textcoords="offset points",
                verticalalignment="center",
                fontsize=max(3.0, min(FONT_SIZE - 2, room)),
                annotation_clip=False,
            )


def _scale(axes: Axes, grid: Stability, log_y: bool, width: float) -> None:
    log_axis(axes, "x")
    if log_y:
        log_axis(axes, "y")
    decades = math.log10(grid.taus[0]) - math.log10(grid.taus[-1])
    room = 0.06 * decades or 0.5
    axes.set_xlim(
        10 ** max(-300.0, math.log10(grid.taus[-1]) - room),
        10 ** min(300.0, math.log10(grid.taus[0]) + room),
    )
    if _least_gap(grid.taus, width) >= _TICK_ROOM:
        axes.xaxis.set_major_locator(FixedLocator(list(grid.taus)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tau, _: short_number(tau)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Step size τ", labelpad=3)
    axes.set_ylabel("Training loss after " + grid.length.replace(", ", ",\n"))


def _least_gap(taus: Sequence[float], width: float) -> float:
    """Inches between the two step sizes that are nearest to one another, about."""
    decades = math.log10(taus[0]) - math.log10(taus[-1])
    gaps = [math.log10(large) - math.log10(small) for large, small in pairwise(taus)]
    return min(gaps) / decades * (width - 1.2) if gaps else math.inf


def _line(hue: int) -> Line2D:
    style = {"color": color(hue), "linestyle": dash(hue), "marker": marker(hue)}
    return Line2D([], [], markerfacecolor="white", **style)


def _place(loss: float | None) -> float:
    return math.nan if loss is None or not loss > 0 else loss


def _is_drawable(loss: float | None) -> bool:
    return loss is not None and math.isfinite(loss) and loss > 0
