"""The methods: from a mini-batch to a direction for every parameter."""

from __future__ import annotations

from engine.methods.admm import Admm
from engine.methods.back_matching import BackMatching
from engine.methods.base import Batch, Found, Method, Position, Problem
from engine.methods.data_parallel import ParallelPass
from engine.methods.gradients import BackwardPass, VariantPass
from engine.methods.kfac import Kfac
from engine.methods.mac import Mac
from engine.methods.penalty import PenaltyForm
from engine.methods.trace_scaled import TraceScaled

__all__ = ["Batch", "Found", "Method", "Position", "Problem", "build_method"]


def build_method(problem: Problem) -> Method:
    """The method of a run.

    :raises ConfigError: the method can not train this network, or not by several processes, or a
        package that it needs is not installed.
    """
    if problem.team.size > 1:
        return ParallelPass(problem)
    match problem.config.method.name:
        case "admm":
            return Admm(problem)
        case "mac":
            return Mac(problem)
        case "back-matching":
            return BackMatching(problem)
        case "trace-scaled":
            return TraceScaled(problem)
        case "kfac":
            return Kfac(problem)
        case "penalty":
            return PenaltyForm(problem)
        case "muon" | "soap":
            return BackwardPass(problem, counted=False)
        case _ if problem.config.method.variants:
            return VariantPass(problem)
        case _:
            return BackwardPass(problem)
