"""Curves of runs that differ by seed only, as one line with a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MAX_POINTS = 2000
"""Most points of a mean; more could not be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class RunCurves:
    """What one run has to draw."""

    run: str
    """Id of the run."""
    series: Mapping[tuple[str, str], tuple[Array, Array]]
    """By x axis and metric: x, ascending, and y, both of shape (n,); y may be NaN or infinite."""
    diverged: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Runs that differ by seed only."""

    label: str
    runs: tuple[RunCurves, ...]
    hue: int = 0
    """Number of its colour."""
    dash: int = 0
    """Number of its line style and marker."""
    unreadable: int = 0
    """Further runs that belong here and could not be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A mean over n runs and what lies around it; all arrays of one shape."""

    x: Array
    middle: Array
    """NaN where a run has no finite value."""
    low: Array
    high: Array
    n: int
    kind: Literal["line", "range", "ci95"]
    """One run; least and greatest; 95 % interval of the mean by Student's t."""


def combine(curves: Sequence[tuple[Array, Array]]) -> Band:
    """The mean of curves over the x that all of them cover; nothing is extrapolated.

    The points are those of all curves, between which they are interpolated along straight lines.

    :param curves: x, ascending, and y of each; those without a point are left out.
    """
    sound = [(x[known], y[known]) for x, y in curves if (known := np.isfinite(x)).any()]
    sound = [(x, np.where(np.isfinite(y), y, np.nan)) for x, y in sound]
    n = len(sound)
    if n == 0:
        nothing = np.empty(0)
        return Band(nothing, nothing, nothing, nothing, 0, "line")
    if n == 1:
        x, y = sound[0]
        return Band(x, y, y, y, 1, "line")
    grid = np.unique(np.concatenate([x for x, _ in sound]))
    grid = grid[(grid >= max(x[0] for x, _ in sound)) & (grid <= min(x[-1] for x, _ in sound))]
    if len(grid) > MAX_POINTS:
        grid = grid[np.linspace(0, len(grid) - 1, MAX_POINTS).astype(np.int64)]
    table = np.stack([np.interp(grid, x, y) for x, y in sound])
    middle = table.mean(axis=0)
    if n == 2:
        return Band(grid, middle, table.min(axis=0), table.max(axis=0), n, "range")
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * table.std(axis=0, ddof=1) / np.sqrt(n)
    return Band(grid, middle, middle - half, middle + half, n, "ci95")


def describe(group: Group, band: Band) -> str:
    """The group's label with what its line and band are: ``exact (n=3, 95 % CI)``."""
    diverged = sum(run.diverged for run in group.runs)
    total = len(group.runs) + group.unreadable
    notes = {"line": [], "range": [f"n={band.n}", "min–max"], "ci95": [f"n={band.n}", "95 % CI"]}[
        band.kind
    ]
    if diverged:
        notes.append(f"{diverged}/{total} diverged" if total > 1 else "diverged")
    if group.unreadable:
        notes.append(f"{group.unreadable}/{total} unreadable" if total > 1 else "unreadable")
    if not (band.n or diverged or group.unreadable):
        notes.append("no values")
    return f"{group.label} ({', '.join(notes)})" if notes else group.label
