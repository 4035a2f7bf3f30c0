"""Eigenvalues and eigenvectors that are checked: the one place that asks LAPACK for them.

LAPACK may answer a finite matrix with NaN and no error, or fail to converge, which torch raises:
``syevd`` of MKL does either with one in seven of K-FAC's factors of a single sample, which are of
rank one with entries near the smallest float, and in float64 still with one in a hundred. Such a
matrix is decomposed a second time; where that fails too, the caller has something else to fall back
to, which it counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.solvers.ladder import Ladder, Rung

_LIBRARIES = ("linalg.", "cusolver", "magma")
"""In messages of errors that are not ``LinAlgError`` but of a factorisation all the same."""
Decompose = Callable[[Tensor], Sequence[Tensor]]


def eigh(matrix: Tensor, ladder: Ladder | None = None) -> tuple[Tensor, Tensor] | None:
    """Return eigenvalues ``(..., n)``, ascending, and eigenvectors in columns ``(..., n, n)``.

    The second attempt is in float64, by LAPACK on the host, of the symmetric part divided by its
    largest entry, with a rounding error added to the diagonal and taken off the eigenvalues: zeros
    among them are what LAPACK fails on. Waits for an accelerator, as every eigendecomposition does.

    :param matrix: symmetric, ``(..., n, n)``.
    :param ladder: where a second attempt that succeeds is counted, as :attr:`Rung.FLOAT64`.
    :returns: None where the matrix is not finite, or the second attempt fails too.
    """
    found = _decompose(torch.linalg.eigh, matrix, ladder)
    return None if found is None else (found[0], found[1])


def eigvalsh(matrix: Tensor, ladder: Ladder | None = None) -> Tensor | None:
    """Return the eigenvalues ``(..., n)`` alone; otherwise as :func:`eigh`."""
    found = _decompose(lambda part: (torch.linalg.eigvalsh(part),), matrix, ladder)
    return None if found is None else found[0]


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite; waits for an accelerator."""
    # ten times faster than to look at every entry; of finite numbers alone it may overflow
    return math.isfinite(float(tensor.sum())) or bool(tensor.isfinite().all())


def _decompose(decompose: Decompose, matrix: Tensor, ladder: Ladder | None) -> list[Tensor] | None:
    if not is_finite(matrix):
        return None
    found = _attempt(decompose, matrix)
    if found is not None:
        return found
    double = matrix.to("cpu").double()
    machine = torch.finfo(double.dtype)
    scale = double.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(machine.tiny)
    scaled = double / scale
    shift = machine.eps * torch.eye(matrix.shape[-1], dtype=double.dtype)
    found = _attempt(decompose, (scaled + scaled.mT) / 2 + shift)
    if found is None:
        return None
    if ladder is not None:
        ladder.count(Rung.FLOAT64)
    values, *vectors = found
    values = (values - machine.eps) * scale.squeeze(-1)
    return [part.to(matrix) for part in (values, *vectors)]


def _attempt(decompose: Decompose, matrix: Tensor) -> list[Tensor] | None:
    try:
        found = list(decompose(matrix))
    except RuntimeError as error:
        if not is_of_factorisation(error):
            raise  # out of memory, a broken device
        return None
    return found if all(map(is_finite, found)) else None


def is_of_factorisation(error: RuntimeError) -> bool:
    """Whether an error means that a factorisation failed; else memory or the device has."""
    if isinstance(error, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        return True
    return any(library in str(error) for library in _LIBRARIES)
