"""Spectra and condition numbers of local Hessians, block by block, and spectra of data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from engine.diagnosis.results import HESSIANS, BlockSpectrum, Diagnosis, Summary, summarise
from engine.errors import ConfigError
from engine.figures.style import (
    GREY,
    Look,
    color,
    legend_below,
    log_axis,
    marker,
    new_figure,
    plain_text,
)

_PANEL_HEIGHT = 2.0
_LEGEND_ROW = 0.2
_SPREAD = 0.7
"""Of the variants around their block, which are 1 apart."""
_MAX_TICKS = 16
_MAX_LABEL = 18
_THIN, _THICK = 1.0, 3.2
"""Lines of the range and between the quartiles."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Where what is drawn.

    :ivar blocks: in the order of the network; variants may call the same layer by other names.
    """

    variants: tuple[str, ...]
    blocks: dict[tuple[str, str], int]

    def x(self, variant: str, block: str) -> float:
        count = len(self.variants)
        step = _SPREAD / max(count, 2)
        shift = (self.variants.index(variant) - (count - 1) / 2) * step
        return self.blocks[variant, block] + shift

    def name(self, number: int) -> str:
        """What a table calls the blocks at this place: all their names, where they differ."""
        names = (block for (_, block), place in self.blocks.items() if place == number)
        return "/".join(dict.fromkeys(names))


def draw_conditioning(
    diagnosis: Diagnosis,
    *,
    look: Look = Look(),  # noqa: B008 - frozen
) -> Figure:
    """Rows: spectra of the first seed, condition numbers on the eigenvalues that are not zero, and
    damped ones, as means over seeds with 95 % intervals; columns: H_W and H_z. Of data: the spectra
    under every normalisation.

    A spectrum is a line from its least eigenvalue that is not zero to its largest, thick between
    the quartiles, with a mark at the median.

    :raises ConfigError: there is nothing to draw.
    """
    if diagnosis.data:
        return _draw_data(diagnosis, look)
    if not diagnosis.spectra:
        raise ConfigError("the diagnosis has no spectra to draw")
    rows = summarise(diagnosis.spectra)
    places = _places(diagnosis.spectra)
    handles = [
        Line2D([], [], color=color(n), marker=marker(n), linestyle="none")
        for n in range(len(places.variants))
    ]
    labels = list(places.variants)
    for label, handle in _keys(any(row.bounds for row in rows)).items():
        labels.append(label)
        handles.append(handle)
    extra = _LEGEND_ROW * math.ceil(len(labels) / 4)
    figure = new_figure(look, 3 * _PANEL_HEIGHT + extra)
    grid = figure.subplots(3, 2, squeeze=False, sharex=True)
    for column, (hessian, name) in enumerate(HESSIANS.items()):
        chosen = [row for row in rows if row.hessian == hessian]
        _draw_spectra(grid[0, column], chosen, places)
        _draw_conditions(grid[1, column], chosen, places, "log10_condition")
        _draw_conditions(grid[2, column], chosen, places, "log10_damped")
        grid[0, column].set_title(name)
        _label_blocks(grid[2, column], places)
    for axes, text in zip(
        grid[:, 0], ("Eigenvalues", "Condition number", "Condition number, damped"), strict=True
    ):
        axes.set_ylabel(text)
    legend_below(figure, handles, labels)
    return figure


def _keys(bounds: bool) -> dict[str, Line2D]:
    """What the marks are, for the legend.

    :param bounds: whether there are hollow ones.
    """
    found = {
        "median": Line2D([], [], color=GREY, marker="o", linestyle="none"),
        "quartiles": Line2D([], [], color=GREY, linewidth=_THICK),
        "range": Line2D([], [], color=GREY, linewidth=_THIN),
    }
    if bounds:
        hollow = Line2D([], [], color=GREY, marker="o", linestyle="none", markerfacecolor="none")
        found["lower bound"] = hollow
    return found


def _places(spectra: Sequence[BlockSpectrum]) -> _Places:
    variants = tuple(dict.fromkeys(one.variant for one in spectra))
    blocks: dict[tuple[str, str], int] = {}
    for variant in variants:
        names = dict.fromkeys(one.block for one in spectra if one.variant == variant)
        blocks |= {(variant, name): number for number, name in enumerate(names, 1)}
    return _Places(variants, blocks)


def _draw_spectra(axes: Axes, rows: Sequence[Summary], places: _Places) -> None:
    for row in rows:
        figures = row.one.figures
        if figures.smallest_nonzero:
            x = places.x(row.variant, row.block)
            ends = (figures.smallest_nonzero, figures.largest)
            _draw_range(axes, x, ends, figures.quantiles, places.variants.index(row.variant))
    log_axis(axes, "y")


def _draw_range(
    axes: Axes, x: float, ends: tuple[float, float], quantiles: Sequence[float], hue: int
) -> None:
    axes.plot([x, x], ends, color=color(hue), linewidth=_THIN, gid="range")
    if quantiles:
        _, _, low, median, high, _, _ = quantiles
        axes.plot([x, x], [low, high], color=color(hue), linewidth=_THICK, gid="quartiles")
        axes.plot([x], [median], color=color(hue), marker=marker(hue), gid="median")


def _draw_conditions(axes: Axes, rows: Sequence[Summary], places: _Places, key: str) -> None:
    for row in rows:
        found = row.statistics.get(key)
        if found is None:
            continue
        hue = places.variants.index(row.variant)
        mean, half = found.mean, found.ci95 if math.isfinite(found.ci95) else 0.0
        axes.errorbar(
            [places.x(row.variant, row.block)],
            [10**mean],
            yerr=[[10**mean - 10 ** (mean - half)], [10 ** (mean + half) - 10**mean]],
            color=color(hue),
            marker=marker(hue),
            # by Lanczos it is a lower bound
            markerfacecolor="none" if row.bounds else color(hue),
            linestyle="none",
            capsize=2,
            gid=key,
        )
    log_axis(axes, "y")


def _label_blocks(axes: Axes, places: _Places) -> None:
    count = max(places.blocks.values())
    step = max(1, math.ceil(count / _MAX_TICKS))
    shown = range(1, count + 1, step)
    axes.set_xticks(shown, [plain_text(places.name(number), _MAX_LABEL) for number in shown])
    axes.set_xlim(0.5, count + 0.5)
    axes.set_xlabel("Block")


def _draw_data(diagnosis: Diagnosis, look: Look) -> Figure:
    figure = new_figure(look, 2.6 + _LEGEND_ROW)
    axes = figure.subplots()
    for number, one in enumerate(diagnosis.data):
        found = one.figures
        if found.smallest_nonzero:
            ends = (found.smallest_nonzero, found.largest)
            _draw_range(axes, number, ends, found.quantiles, number)
    log_axis(axes, "y")
    names = [plain_text(one.normalisation, _MAX_LABEL) for one in diagnosis.data]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylabel("Eigenvalues of X X⊤")
    keys = _keys(bounds=False)
    legend_below(figure, list(keys.values()), list(keys))
    return figure
