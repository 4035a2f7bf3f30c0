"""Solvers of the proximal system (A^T A + beta I) V = A^T G, one a file.

A solver holds its settings only. It is given a :class:`~engine.solvers.system.ProximalSystem` and
answers with a :class:`~engine.solvers.solution.Solution`.
"""

from engine.solvers.base import Solver
from engine.solvers.cg import CG
from engine.solvers.eigen import eigh, eigvalsh, is_finite
from engine.solvers.exact import Exact
from engine.solvers.ladder import Ladder, Rung
from engine.solvers.solution import Solution, SolverStats
from engine.solvers.system import ProximalSystem

__all__ = [
    "CG",
    "Exact",
    "Ladder",
    "ProximalSystem",
    "Rung",
    "Solution",
    "Solver",
    "SolverStats",
    "eigh",
    "eigvalsh",
    "is_finite",
]
