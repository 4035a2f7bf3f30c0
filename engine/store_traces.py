"""What solvers did, as the database of a run has it."""

from __future__ import annotations

from typing import Any

from engine.events import SolverTrace
from engine.store_values import name_of, of_type

READ = (
    "SELECT step, layer, coalesce(iteration, -1), residual, form, solver, size, beta, products,"
    " iterations, stop_reason, true_residual, descent_cosine FROM traces"
    " WHERE step > ? AND (? IS NULL OR layer = ?) ORDER BY step, layer, iteration"
)
"""A row per residual; a trace without any has one row."""


def trace_of(rows: list[tuple[Any, ...]]) -> SolverTrace:
    """The trace of one step and layer.

    :param rows: all of it, as :data:`READ` has them.
    :raises TypeError: they are not what the writer puts there.
    :raises ValueError: likewise.
    """
    step, layer, _, _, form, solver, size, beta, products, iterations, reason, true, cosine = rows[
        0
    ]
    name_of(form)
    return SolverTrace(
        step=of_type(step, int),
        layer=name_of(layer),
        form=form,
        solver=name_of(solver),
        size=of_type(size, int),
        beta=float(beta),
        products=float(products),
        iterations=of_type(iterations, int),
        stop_reason=name_of(reason),
        residuals=tuple(float(row[3]) for row in rows if row[3] is not None),
        true_residual=float(true),
        descent_cosine=float(cosine),
    )
