"""Metrics of single steps, gathered on the device and brought over in blocks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from engine.events import SolverTrace, StepsDone
from engine.solvers import SolverStats

_BLOCK = 1024
_SECONDS = 0.4  # at least twice a second
_ON_DEVICE = ("batch_loss", "direction_norm")


class NotFinite(Exception):  # noqa: N818 - a result of training, not an error
    """A loss, an update or the weights were not finite after a step."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(cause)
        self.step = step
        self.cause = cause


class StepLog:
    """Metrics of the steps since the last :meth:`take`."""

    def __init__(self, device: torch.device) -> None:
        self._on_device = torch.empty(_BLOCK, len(_ON_DEVICE), device=device)
        self._on_host: dict[str, list[float]] = {}
        self._steps: list[int] = []
        self._taken = time.monotonic()

    def add(
        self, step: int, loss: Tensor, direction_norm: Tensor, on_host: Mapping[str, float]
    ) -> None:
        """Note one step; the tensors (0-d) stay on the device, no one waits for them."""
        row = self._on_device[len(self._steps)]
        row[0], row[1] = loss, direction_norm
        self._steps.append(step)
        for key, value in on_host.items():
            self._on_host.setdefault(key, []).append(value)

    @property
    def full(self) -> bool:
        """Whether there is no room for another step."""
        return len(self._steps) == _BLOCK

    @property
    def due(self) -> bool:
        """Whether it is time to bring the block over."""
        return self.full or time.monotonic() - self._taken > _SECONDS

    def take(self, epoch: int) -> tuple[StepsDone | None, NotFinite | None]:
        """The block as an event, and the first failure in it; later steps are left out."""
        self._taken = time.monotonic()
        if not self._steps:
            return None, None
        steps, self._steps = self._steps, []
        on_host, self._on_host = self._on_host, {}
        rows: list[list[float]] = self._on_device[: len(steps)].tolist()
        failure = next(filter(None, map(_failure, steps, rows)), None)
        count = len(steps) if failure is None else failure.step - steps[0] + 1
        columns = dict(zip(_ON_DEVICE, zip(*rows, strict=True), strict=True)) | on_host
        values = {key: tuple(column[:count]) for key, column in columns.items()}
        return StepsDone(epoch, tuple(steps[:count]), values), failure


def _failure(step: int, row: list[float]) -> NotFinite | None:
    for name, value in zip(("loss", "update direction"), row, strict=True):
        if not math.isfinite(value):
            return NotFinite(step, f"{name} is {'NaN' if math.isnan(value) else 'infinite'}")
    return None


def trace_of(step: int, layer: str, stats: SolverStats) -> SolverTrace:
    """What a solver did at a step, brought over from the device."""
    found = stats.to_host()
    assert isinstance(found.residuals, tuple)
    return SolverTrace(
        step=step,
        layer=layer,
        form=found.form,
        solver=found.solver,
        size=found.size,
        beta=float(found.beta),
        products=found.products,
        iterations=int(found.iterations),
        stop_reason=found.stop_reason,
        residuals=found.residuals,
        true_residual=float(found.true_residual),
        descent_cosine=float(found.cosine),
    )
