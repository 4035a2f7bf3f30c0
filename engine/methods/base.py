"""What a method is: a mini-batch in, a direction for every parameter out.

A method leaves directions in ``.grad``, whatever they are made from, and the optimiser turns them
into an update of size tau. So one loop, one set of events and one checkpoint serve all methods. A
method whose update is a solution theta* leaves theta - theta*: tau = 1 then takes the solution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from engine import precision
from engine.config import RunConfig
from engine.losses import Loss
from engine.parallel.team import ALONE, Team
from engine.prox import working_dtype
from engine.solvers import Ladder, SolverStats


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of a step, on the device.

    Where several processes share a mini-batch, those of one process; there may be none.

    :ivar indices: int64 ``(B,)``: which of the training samples they are.
    :ivar inputs: float32 ``(B, C, H, W)``.
    :ivar targets: what the loss compares outputs with: labels int64 ``(B,)``, or the inputs'
        pixels ``(B, C H W)``.
    """

    indices: Tensor
    inputs: Tensor
    targets: Tensor
    of: int | None = None
    """Samples of the whole mini-batch; None: these are all."""

    @property
    def samples(self) -> int:
        """Samples of the whole mini-batch."""
        return len(self.indices) if self.of is None else self.of


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the training a step is.

    :ivar tau: its step size.
    :ivar epoch: whole epochs before it.
    """

    tau: float
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a step came upon; tensors stay on the device.

    :ivar loss: mean loss of the mini-batch before the update, 0-d.
    :ivar stats: of the solvers by layer, where they were asked for.
    :ivar extra_products: multiplications in linear layers beside those of BackProp, known where
        statistics were asked for; None: not counted for this method.
    """

    loss: Tensor
    stats: Mapping[str, SolverStats] = field(default_factory=dict)
    extra_products: float | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What a method is made for.

    :ivar model: network of the run, from :func:`engine.models.build_model`.
    :ivar loss: of every sample.
    :ivar samples: number of training samples.
    :ivar team: the processes that share every mini-batch.
    """

    config: RunConfig
    model: nn.Module
    loss: Loss
    samples: int
    device: torch.device
    team: Team = ALONE

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Outputs of the network and mean loss of a mini-batch, in the precision of the run."""
        with precision.of_forward(self.config.precision, self.device):
            outputs = self.model(batch.inputs)
        outputs = outputs.to(working_dtype(outputs.dtype))
        return outputs, self.loss(outputs, batch.targets).mean()


class Method(Protocol):
    """How a mini-batch becomes directions. Made for one network, whose parameters it reads."""

    def directions(self, batch: Batch, at: Position, *, record: bool) -> Found:
        """Leave a direction in ``.grad`` of every parameter, which had none.

        Whatever has a random choice takes it from torch's global generator, which is in the
        checkpoint.

        :param record: measure the solvers' statistics.
        """
        ...

    def ladders(self) -> Mapping[str, Ladder]:
        """Where failures of its own solvers are counted, by layer, beside those of the network's
        proximal layers."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """State that makes the method go on exactly, by name; empty where there is none."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the state back.

        :raises CheckpointError: when it is not this method's.
        """
        ...


class LayersAlone:
    """For methods without solvers beside those of the network's layers."""

    def ladders(self) -> Mapping[str, Ladder]:
        """None."""
        return {}


class Stateless(LayersAlone):
    """For methods whose every step begins anew."""

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to do."""
