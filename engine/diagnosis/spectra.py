"""Eigenvalues of H = J^T J: all of them from Grams in float64, or the extremes by Lanczos."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.diagnosis.results import Figures
from engine.errors import ProxPropError
from engine.solvers import Ladder, eigh, eigvalsh, is_finite

_EPS = float(np.finfo(np.float64).eps)
_QUANTILES = np.array([0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0])
_TINY = float(np.finfo(np.float64).tiny)
_CONVERGED = 1e-6
_CHECK_EVERY = 8
"""Steps of Lanczos between two looks at how far it is."""


class SpectrumError(ProxPropError):
    """A matrix is not finite, or its eigenvalues were not found."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """All eigenvalues of a matrix that is block diagonal.

    :ivar eigenvalues: float64 ``(parts, k)``; each part is of order ``order >= k``, and what is not
        here is zero.
    :ivar order: of one part.
    :ivar resolution: eigenvalues at or below so many times their part's largest one are zero but
        for rounding.
    :ivar copies: how often all of it is there: m for H = I_m (x) S.
    :ivar fallbacks: decompositions that took a second attempt.
    """

    eigenvalues: NDArray[np.float64]
    order: int
    resolution: float
    copies: int = 1
    fallbacks: int = 0

    def figures(self, beta: float, samples: int) -> Figures:
        """What is told of the whole, the union of its parts.

        :param beta: damping, >= 0.
        :param samples: how many it was measured on.
        """
        values = np.maximum(self.eigenvalues, 0.0)
        tops = values.max(axis=1, keepdims=True)
        nonzero = values > self.resolution * tops
        found = np.sort(values[nonzero])
        order = values.shape[0] * self.order
        largest = float(found[-1]) if len(found) else 0.0
        least = float(found[0]) if len(found) else None
        smallest = least if least is not None and len(found) == order else 0.0
        lowest = np.where(nonzero, values, np.inf).min(axis=1)
        conditions = tops[nonzero.any(axis=1), 0] / lowest[nonzero.any(axis=1)]
        return Figures(
            order=order * self.copies,
            rank=len(found) * self.copies,
            largest=largest,
            smallest=smallest,
            smallest_nonzero=least,
            condition=None if least is None else largest / least,
            damped=_ratio(largest + beta, smallest + beta),
            beta=beta,
            parts=values.shape[0] * self.copies,
            part_conditions=_three(conditions),
            quantiles=_quantiles(found),
            method="gram",
            error=self.resolution,
            samples=samples,
        )


@dataclass(frozen=True, slots=True)
class Extremes:
    """The ends of a spectrum by Lanczos on the range of J.

    :ivar largest: greatest Ritz value, at most the greatest eigenvalue.
    :ivar least: least Ritz value, at least the smallest eigenvalue that is not zero.
    :ivar has_zeros: whether H has more columns than rank for its shape alone.
    :ivar error: the greater of both values' residual norms, of which each is at most so far from an
        eigenvalue, relative to the value.
    :ivar fallbacks: as in :class:`Spectrum`.
    """

    order: int
    largest: float
    least: float
    has_zeros: bool
    error: float
    fallbacks: int = 0

    def figures(self, beta: float, samples: int) -> Figures:
        """As :meth:`Spectrum.figures`; the condition numbers are lower bounds."""
        smallest = 0.0 if self.has_zeros else self.least
        return Figures(
            order=self.order,
            rank=None,
            largest=self.largest,
            smallest=smallest,
            smallest_nonzero=self.least,
            condition=_ratio(self.largest, self.least) if self.least > 0 else None,
            damped=_ratio(self.largest + beta, smallest + beta),
            beta=beta,
            parts=1,
            part_conditions=None,
            quantiles=(),
            method="lanczos",
            error=self.error,
            samples=samples,
        )


def of_factors(factors: Tensor, *, copies: int = 1) -> Spectrum:
    """Spectra of J^T J from J float64 ``(parts, rows, columns)``, by the smaller Gram of each."""
    rows, columns = factors.shape[-2:]
    grams = factors @ factors.mT if rows < columns else factors.mT @ factors
    return of_grams(grams, order=columns, size=max(rows, columns), copies=copies)


def of_grams(grams: Tensor, *, order: int, size: int, copies: int = 1) -> Spectrum:
    """Spectra of J^T J from J^T J or J J^T, float64 ``(parts, k, k)``.

    :param order: columns of J.
    :param size: its rows or columns, whichever are more; rounding grows with them.
    :raises SpectrumError: a Gram is not finite, or its eigenvalues are not found.
    """
    ladder = Ladder()
    values = eigvalsh(grams, ladder)
    if values is None:
        raise _no_spectrum(grams)
    return Spectrum(values.cpu().numpy(), order, size * _EPS, copies, _count(ladder))


def lanczos(
    apply: Callable[[Tensor], Tensor], start: Tensor, *, order: int, steps: int
) -> Extremes:
    """Extreme eigenvalues of a symmetric positive semidefinite map on the Krylov space of a vector.

    Every vector is made orthogonal to all before, twice. A start in the range of the map keeps out
    its null space, so that the least Ritz value tells of eigenvalues that are not zero.

    :param apply: the map, on float64 ``(size,)``.
    :param start: ``(size,)``; where it is zero, so is the map taken to be.
    :param order: of J^T J, which may be larger than the map's ``size`` when that is J J^T.
    :param steps: products at most; fewer where both ends have converged.
    :raises SpectrumError: a product is not finite, or the Ritz values are not found.
    """
    size = len(start)
    ladder = Ladder()
    if not bool(start.any()):
        return Extremes(order, 0.0, 0.0, True, 0.0)
    basis = start.new_empty(min(steps, size), size)
    vector = start / torch.linalg.vector_norm(start)
    diagonal: list[float] = []
    beside: list[float] = []
    largest = least = 0.0
    error = math.inf
    for step in range(len(basis)):
        basis[step] = vector
        image = apply(vector)
        diagonal.append(float(vector @ image))
        for _ in range(2):
            image = image - basis[: step + 1].mT @ (basis[: step + 1] @ image)
        norm = float(torch.linalg.vector_norm(image))
        # some entry of the diagonal is near the largest Ritz value, which is above all of them
        scale = max(*diagonal, _TINY)
        exhausted = norm <= size * _EPS * scale
        # eigenvectors of this small matrix cost more than a step, which may as well be one too many
        # but for those into what rounding alone has left of the space
        nearly = norm <= _CONVERGED * scale
        if nearly or step + 1 == len(basis) or step % _CHECK_EVERY == 0:
            largest, least, error = _ends(diagonal, beside, norm, ladder)
            if exhausted or error <= _CONVERGED:
                break
        beside.append(norm)
        vector = image / norm
    return Extremes(order, largest, least, order > size, min(error, 1e300), _count(ladder))


def _ends(
    diagonal: Sequence[float], beside: Sequence[float], norm: float, ladder: Ladder
) -> tuple[float, float, float]:
    """Largest and least Ritz value of a tridiagonal matrix, and the greater of their relative
    residuals.

    :param norm: of what is left of the last image.
    """
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        off = torch.tensor(beside, dtype=torch.float64)
        matrix += torch.diag(off, 1) + torch.diag(off, -1)
    found = eigh(matrix, ladder)
    if found is None:
        raise _no_spectrum(matrix)
    values, vectors = found
    largest, least = float(values[-1]), max(float(values[0]), 0.0)
    at_top, at_bottom = norm * vectors[-1, [-1, 0]].abs()
    error = max(float(at_top) / max(largest, _TINY), float(at_bottom) / max(least, _TINY))
    return largest, least, error


def _count(ladder: Ladder) -> int:
    return sum(ladder.take_counts().values())


def _no_spectrum(matrix: Tensor) -> SpectrumError:
    if is_finite(matrix):
        return SpectrumError("no spectrum: the eigenvalues of the matrix were not found")
    return SpectrumError("no spectrum: the matrix is not finite")


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.inf if above > 0 else math.nan


def _three(conditions: NDArray[np.float64]) -> tuple[float, float, float] | None:
    if not len(conditions):
        return None
    return float(conditions.min()), float(np.median(conditions)), float(conditions.max())


def _quantiles(found: NDArray[np.float64]) -> tuple[float, ...]:
    """By rank, among eigenvalues as they are: nothing between two of them is made up."""
    places = np.round(_QUANTILES * (len(found) - 1)).astype(int)
    return tuple(found[places].tolist()) if len(found) else ()
