"""The Jacobian of a function at a point: as products with vectors, and whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 2 * 1024 * 1024


class Jacobian:
    """J ``(rows, columns)`` of ``function`` at ``point``, both flattened."""

    def __init__(self, function: Callable[[Tensor], Tensor], point: Tensor) -> None:
        with torch.enable_grad():
            self._point = point.detach().clone().requires_grad_()
            self._output = function(self._point)
            # J^T u at u = 0, with the graph that leads there: its derivative by u gives J v by a
            # backward pass alone, where a forward derivative would evaluate the function anew
            self._zeros = torch.zeros_like(self._output, requires_grad=True)
            (self._pulled,) = torch.autograd.grad(
                self._output, self._point, self._zeros, create_graph=True
            )
        self.rows = self._output.numel()
        self.columns = point.numel()
        self.device = point.device

    def times(self, vector: Tensor) -> Tensor:
        """J v ``(rows,)`` from ``(columns,)``."""
        tangent = vector.reshape(self._point.shape)
        (image,) = torch.autograd.grad(self._pulled, self._zeros, tangent, retain_graph=True)
        return image.flatten()

    def transposed(self, vector: Tensor) -> Tensor:
        """J^T u ``(columns,)`` from ``(rows,)``."""
        cotangent = vector.reshape(self._output.shape)
        (image,) = torch.autograd.grad(self._output, self._point, cotangent, retain_graph=True)
        return image.flatten()

    def dense(self) -> Tensor:
        """All of J, by as many products as it has rows or columns, whichever are fewer."""
        size = min(self.rows, self.columns)
        basis = torch.eye(size, dtype=self._point.dtype, device=self._point.device)
        product = self.transposed if self.rows <= self.columns else self.times
        found: Tensor = _mapped(product, basis, self.rows + self.columns)
        return found if self.rows <= self.columns else found.mT


def sample_jacobians(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """The Jacobian of every sample ``(B, rows, columns)``, where ``function`` takes and gives a
    batch ``(B, ...)`` and no sample's output depends on another."""
    output, pull, *_ = torch.func.vjp(function, points)
    batch = len(points)
    rows, columns = output[0].numel(), points[0].numel()
    units = torch.eye(min(rows, columns), dtype=points.dtype, device=points.device)

    def row(unit: Tensor) -> Tensor:
        (image,) = pull(unit.expand(batch, -1).reshape(output.shape))
        found: Tensor = image.reshape(batch, columns)
        return found

    def column(unit: Tensor) -> Tensor:
        tangent = unit.expand(batch, -1).reshape(points.shape)
        return _pushed_forward(function, points, tangent).reshape(batch, rows)

    by_row = rows <= columns
    found = _mapped(row if by_row else column, units, batch * (rows + columns))
    return found.movedim(0, 1 if by_row else 2)


def pushed(
    function: Callable[[Tensor], Tensor],
    point: Tensor,
    tangents: Callable[[Tensor], Tensor],
    units: Tensor,
) -> Tensor:
    """J t for every tangent that ``tangents`` makes of a row of ``units``, ``(k, *output)``."""

    def product(unit: Tensor) -> Tensor:
        return _pushed_forward(function, point, tangents(unit))

    return _mapped(product, units, 4 * point.numel())


def _pushed_forward(function: Callable[[Tensor], Tensor], point: Tensor, tangent: Tensor) -> Tensor:
    found: Tensor = torch.func.jvp(function, (point,), (tangent,))[1]
    return found


def _mapped(product: Callable[[Tensor], Tensor], rows: Tensor, elements: int) -> Tensor:
    """The product with every row, as many at once as memory allows.

    :param elements: what one product takes.
    """
    chunk = max(1, min(len(rows), _CHUNK_ELEMENTS // max(elements, 1)))
    found: Tensor = torch.func.vmap(product, chunk_size=chunk)(rows)
    return found
