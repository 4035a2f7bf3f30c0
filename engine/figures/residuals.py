"""How conjugate gradients converged in every layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.errors import ConfigError
from engine.figures.style import Look, log_axis, new_figure, plain_text
from engine.store_reader import StoreReader

MAX_PANELS = 64
"""Most layers of all runs."""
MAX_SOLVES = 12
"""Most steps that are drawn of a layer."""

_PER_ROW = 4
_PANEL_HEIGHT = 1.9


@dataclass(frozen=True, slots=True)
class LayerResiduals:
    """The solves of one layer of one run."""

    run: str
    """What to call the run; empty where there is one alone."""
    layer: str
    form: str
    """``primal``, ``dual`` or ``operator``: what most solves had (the last batch of an epoch may be
    smaller)."""
    size: int
    """Order of the linear system in those."""
    solves: tuple[tuple[int, tuple[float, ...]], ...]
    """Step and relative residual after 0, 1, … iterations; by step, ascending."""


def read_residuals(reader: StoreReader, run: str = "") -> list[LayerResiduals]:
    """What CG did in a run, by layer; nothing where there are no traces of it.

    :raises StorageError: the store can not be read.
    """
    layers: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
    systems: dict[str, Counter[tuple[str, int]]] = {}
    for trace in reader.traces():
        if len(trace.residuals) > 1:
            layers.setdefault(trace.layer, []).append((trace.step, trace.residuals))
            systems.setdefault(trace.layer, Counter())[trace.form, trace.size] += 1
    return [
        LayerResiduals(run, layer, *systems[layer].most_common(1)[0][0], tuple(solves))
        for layer, solves in layers.items()
    ]


def draw_residuals(
    layers: Sequence[LayerResiduals],
    *,
    log_y: bool = True,
    look: Look = Look(),  # noqa: B008 - frozen
) -> Figure:
    """A panel per layer: relative residual against iterations, steps from early to late by colour.

    Of many solves :data:`MAX_SOLVES` are drawn, evenly spaced, the first and the last among them.
    The runs of several are rows, if they have at most as many layers as go side by side.

    :raises ConfigError: there is no layer or too many.
    """
    if not layers:
        raise ConfigError("there are no traces of CG to draw")
    if len(layers) > MAX_PANELS:
        raise ConfigError(f"{len(layers)} panels; expected at most {MAX_PANELS}: name fewer runs")
    counts = [sum(one.run == run for one in layers) for run in dict.fromkeys(o.run for o in layers)]
    columns = min(len(layers), _PER_ROW)
    if len(set(counts)) == 1 and counts[0] <= _PER_ROW:
        columns = counts[0]
    rows = math.ceil(len(layers) / columns)
    figure = new_figure(look, max(2.6, rows * _PANEL_HEIGHT + 0.4))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
    steps = [step for layer in layers for step, _ in layer.solves]
    norm = Normalize(min(steps), max(steps) if max(steps) > min(steps) else min(steps) + 1)
    # the light end of viridis can not be seen on paper
    colors = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.88, 256)))
    several = any(layer.run for layer in layers)
    for number, axes in enumerate(grid.flat):
        if number >= len(layers):
            axes.set_visible(False)
            continue
        _draw_layer(axes, layers[number], norm, colors, several)
        if log_y:
            log_axis(axes, "y")
        if number % columns == 0:
            axes.set_ylabel("Relative residual")
        if number + columns >= len(layers):
            axes.set_xlabel("CG iteration")
            axes.tick_params(labelbottom=True)
    if max(steps) > min(steps):
        mappable = matplotlib.cm.ScalarMappable(norm, colors)
        shown = grid.ravel().tolist()
        bar = figure.colorbar(mappable, ax=shown, aspect=25, pad=0.015, label="Step")
        bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        bar.outline.set_visible(False)
    return figure


def _draw_layer(
    axes: Axes, layer: LayerResiduals, norm: Normalize, colors: ListedColormap, several: bool
) -> None:
    solves = layer.solves
    if len(solves) > MAX_SOLVES:
        chosen = np.linspace(0, len(solves) - 1, MAX_SOLVES).round().astype(int)
        solves = tuple(solves[index] for index in chosen)
    for step, residuals in solves:
        heights = [value if math.isfinite(value) and value > 0 else math.nan for value in residuals]
        axes.plot(
            range(len(heights)),
            heights,
            color=colors(norm(step)),
            marker="o",
            markersize=2.5,
            linewidth=1.1,
            gid="line",
        )
    run = f"{plain_text(layer.run, 30)}\n" if several else ""
    name = plain_text(layer.layer, 24)
    axes.set_title(f"{run}layer {name} ({layer.form}, {layer.size} × {layer.size})")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
