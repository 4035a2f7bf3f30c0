"""Proximal Backpropagation in PyTorch: drop-in layers, solvers, training and its records.

The public names are loaded when they are first used, so that ``import engine`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.config import RunConfig as RunConfig
    from engine.layers import ProxConv2d as ProxConv2d
    from engine.layers import ProxLinear as ProxLinear
    from engine.layers import proxify as proxify
    from engine.layers import solver_stats as solver_stats
    from engine.prox import Prox as Prox
    from engine.solvers import CG as CG
    from engine.solvers import Exact as Exact

_HOMES = {
    "CG": "engine.solvers",
    "Exact": "engine.solvers",
    "Prox": "engine.prox",
    "ProxConv2d": "engine.layers",
    "ProxLinear": "engine.layers",
    "RunConfig": "engine.config",
    "proxify": "engine.layers",
    "solver_stats": "engine.layers",
}

__all__ = [
    "CG",
    "Exact",
    "Prox",
    "ProxConv2d",
    "ProxLinear",
    "RunConfig",
    "proxify",
    "solver_stats",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
