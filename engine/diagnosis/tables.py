"""A diagnosis as rows of text and of a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.comparison import Statistic
from engine.diagnosis.results import (
    HESSIANS,
    BlockSpectrum,
    DataSpectrum,
    Diagnosis,
    Figures,
    angle_summary,
    summarise,
)
from engine.export import writing
from engine.numbers import format_number

SPECTRA_COLUMNS = (
    "variant",
    "block",
    "",
    "order",
    "rank",
    "largest",
    "least > 0",
    "log10 cond",
    "log10 damped",
    "beta",
)
ANGLE_COLUMNS = ("variant", "layer", "angle", "cosine", "at least", "beta")
DATA_COLUMNS = (
    "pixels",
    "order",
    "rank",
    "largest",
    "smallest",
    "least > 0",
    "cond",
    "damped",
    "beta",
)

_SPECTRUM = (
    "order: rows of the matrix · rank: eigenvalues that are not zero but for rounding",
    "least > 0: the smallest of these · cond: largest over least > 0",
    "damped: (largest + beta)/(smallest + beta), the smallest of all, zeros included",
)
_SPECTRA = (
    "H_W, H_z: J^T J, with J the derivatives of a block's output by its weights and by its input",
    *_SPECTRUM,
    "beta: of H_W as method.damping has it, by default 1/method.tau_theta, and of H_z "
    "1/method.back_matching.target_tau;",
    "both for every block and method, also where the method itself damps nothing",
)
_BOUNDS = "≥, ≤: from a few steps of Lanczos, which come to the ends of a spectrum from within"
ANGLE_LEGEND = (
    "angle, cosine: between a layer's direction and its gradient",
    "at least: what theory has the cosine of an exact step not be below, 1 for explicit layers",
    "beta: the damping of the layer's step",
)
DATA_LEGEND = (*_SPECTRUM, "beta: 1/method.tau_theta")
"""As that of :func:`spectra_legend`."""


def spectra_rows(diagnosis: Diagnosis) -> list[list[str]]:
    """A row per variant, block and Hessian; means over seeds with 95 % intervals.

    ``≥``: Lanczos, whose condition numbers are lower bounds, and whose largest and least
    eigenvalues are bounds from within.
    """
    rows = []
    for row in summarise(diagnosis.spectra):
        figures = row.one.figures
        bound = "≥ " if row.bounds else ""
        rank = row.statistics.get("rank")
        fewer = figures.samples < diagnosis.about.get("samples", 0)
        rows.append(
            [
                row.variant,
                f"{row.block}: {row.one.label}",
                HESSIANS[row.hessian] + (f" ({figures.samples} samples)" if fewer else ""),
                str(figures.order),
                "-" if rank is None else f"{rank.mean:.0f}",
                bound + _text(row.statistics.get("largest")),
                ("≤ " if row.bounds else "") + _text(row.statistics.get("smallest_nonzero")),
                bound + _text(row.statistics.get("log10_condition"), "{:.2f}"),
                bound + _text(row.statistics.get("log10_damped"), "{:.2f}"),
                format_number(figures.beta),
            ]
        )
    return rows


def spectra_legend(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What the columns are, in a few lines for whoever sees them for the first time."""
    by_lanczos = any(one.figures.method == "lanczos" for one in diagnosis.spectra)
    return (*_SPECTRA, _BOUNDS) if by_lanczos else _SPECTRA


def angle_rows(diagnosis: Diagnosis) -> list[list[str]]:
    """A row per variant and layer."""
    return [
        [
            row.one.variant,
            row.one.layer,
            _text(row.degrees, "{:.1f}°"),
            _text(row.cosine, "{:.4f}"),
            _text(row.bound),
            "-" if row.one.beta is None else format_number(row.one.beta),
        ]
        for row in angle_summary(diagnosis.angles)
    ]


def data_rows(diagnosis: Diagnosis) -> list[list[str]]:
    """A row per normalisation."""
    return [
        [
            one.normalisation,
            str(one.figures.order),
            _or_dash(one.figures.rank),
            format_number(one.figures.largest),
            format_number(one.figures.smallest),
            _or_dash(one.figures.smallest_nonzero),
            _or_dash(one.figures.condition),
            format_number(one.figures.damped),
            format_number(one.figures.beta),
        ]
        for one in diagnosis.data
    ]


def write_csv(path: Path, diagnosis: Diagnosis) -> int:
    """Every spectrum, one a row and seed; gives the number of rows.

    :raises StorageError: it can not be written; an old file is what it was before.
    """
    found: Sequence[BlockSpectrum | DataSpectrum] = (*diagnosis.spectra, *diagnosis.data)
    rows = [_flat(one) for one in found]
    with writing(path) as stream:
        if rows:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return len(rows)


def _flat(one: BlockSpectrum | DataSpectrum) -> dict[str, Any]:
    row = asdict(one)
    figures: Figures = one.figures
    row |= row.pop("figures")
    names = ("least", "median", "greatest")
    values = row.pop("part_conditions") or ("",) * len(names)
    row |= {f"part_condition_{name}": value for name, value in zip(names, values, strict=True)}
    row["quantiles"] = " ".join(f"{value:.6g}" for value in figures.quantiles)
    return {key: "" if value is None else value for key, value in row.items()}


def _text(value: Statistic | None, form: str = "") -> str:
    if value is None or not math.isfinite(value.mean):
        return "-"

    def shown(number: float) -> str:
        return form.format(number) if form else format_number(number)

    interval = f" ± {shown(value.ci95)}" if math.isfinite(value.ci95) else ""
    return f"{shown(value.mean)}{interval}"


def _or_dash(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else format_number(value)
