"""What is being trained: network, optimiser, and the state that makes both go on exactly."""

from __future__ import annotations

import math
import random
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine import precision
from engine.config import RunConfig
from engine.data.dataset import Dataset
from engine.devices import check_settings
from engine.errors import CheckpointError
from engine.evaluation import evaluate
from engine.events import Reconstructed
from engine.layers import prox_layers
from engine.losses import LOSSES, targets
from engine.methods import Batch, Position, Problem, build_method
from engine.models import build_model
from engine.optimizer_state import OptimizerState
from engine.optimizers import build_optimizer, optimizer_config
from engine.parallel.team import ALONE, Team
from engine.reconstructing import reconstruct
from engine.solvers import Ladder, SolverStats, is_finite
from engine.step_graph import (
    CudaGraphs,
    GraphBackend,
    StepGraph,
    prepare_optimizer,
    set_step_size,
)


@dataclass(frozen=True, slots=True)
class StepResult:
    """One update; tensors (0-d) stay on the device.

    :ivar loss: mean loss of the mini-batch before the update.
    :ivar direction_norm: Euclidean norm of all directions together.
    :ivar stats: solver statistics by layer, where they were asked for.
    :ivar extra_products: as in :class:`engine.methods.Found`.
    """

    loss: Tensor
    direction_norm: Tensor
    stats: Mapping[str, SolverStats]
    extra_products: float | None = None


class Learner:
    """Network and optimiser of a run, seeded by its configuration.

    :param dataset: samples on ``device``.
    :param team: the processes that train it together; every one makes a learner.
    :raises ConfigError: the network does not fit the samples, the method the network, or the
        device the configuration.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, device: torch.device, team: Team = ALONE
    ) -> None:
        check_settings(config, device)
        torch.manual_seed(config.seed)
        random.seed(config.seed)
        np.random.seed(config.seed % 2**32)
        self.dataset = dataset
        self.device = device
        self.model: nn.Module = build_model(
            config.model, config.method, dataset.shape, dataset.num_classes
        ).to(device)
        self._team = team
        team.align(list(self.model.state_dict().values()))
        self.optimizer = build_optimizer(
            optimizer_config(config), self.model.parameters(), config.method.tau
        )
        self._optimizer_state = OptimizerState(self.optimizer)
        self._loss_name = config.loss
        samples = len(dataset.train)
        self.method = build_method(
            Problem(config, self.model, LOSSES[config.loss], samples, device, team)
        )
        self._precision = config.precision
        self.batch_size = samples if config.method.is_full_batch else config.batch_size
        """Samples a step, but for the last of an epoch."""
        self._graph: StepGraph | None = None
        if config.cuda_graph:
            self.use_graphs(CudaGraphs(device))

    def use_graphs(self, backend: GraphBackend) -> None:
        """Record the step and replay it from now on; to be called before the first step."""
        prepare_optimizer(self.optimizer, self.device)
        # no cycle: a graph's memory is not to wait for the garbage collector
        learner = weakref.proxy(self)

        def body(indices: Tensor) -> Tensor:
            # the step size is in the optimiser, and no method of a graph looks at it
            done: StepResult = learner._update(indices, Position(math.nan), record=False)
            return torch.stack((done.loss, done.direction_norm))

        self._graph = StepGraph(
            body, self.model, self.optimizer, backend, size=self.batch_size, device=self.device
        )

    @property
    def replays_steps(self) -> bool:
        """Whether the step was recorded as a CUDA graph, to be replayed from now on."""
        return self._graph is not None and self._graph.is_recorded

    def step(
        self, indices: Tensor, tau: float, *, epoch: int = 0, record: bool = False
    ) -> StepResult:
        """One update on the training samples ``indices`` with step size ``tau``; several processes
        are given the same ones, and share them.

        :param epoch: whole epochs before it.
        :param record: keep the solvers' statistics.
        """
        set_step_size(self.optimizer, tau)
        if self._graph is not None and not record:
            numbers = self._graph.step(indices)
            if numbers is not None:
                return StepResult(numbers[0], numbers[1], {})
        return self._update(indices, Position(tau, epoch), record=record)

    def _update(self, indices: Tensor, at: Position, *, record: bool) -> StepResult:
        with precision.of_step(self._precision, self.device):
            own = self._team.part(indices)
            inputs, labels = self.dataset.batch(self.dataset.train, own)
            own_targets = targets(self._loss_name, inputs, labels)
            batch = Batch(own, inputs, own_targets, of=len(indices))
            self.optimizer.zero_grad()
            found = self.method.directions(batch, at, record=record)
            directions = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(directions)
            self.optimizer.step()
            return StepResult(found.loss, norm, found.stats, found.extra_products)

    def evaluate(self) -> dict[str, float]:
        """Loss and, of classifiers, accuracy of every part of the data that has samples, in full
        float32 whatever the precision of training."""
        metrics: dict[str, float] = {}
        parts = {
            "train": self.dataset.train,
            "val": self.dataset.validation,
            "test": self.dataset.test,
        }
        with precision.full(self.device):
            for name, split in parts.items():
                if len(split):
                    found = evaluate(self.model, self.dataset, split, self._loss_name, self._team)
                    metrics[f"{name}_loss"] = found.loss
                    if found.accuracy is not None:
                        metrics[f"{name}_accuracy"] = found.accuracy
        return metrics

    def reconstruct(self, step: int, epoch: float) -> Reconstructed | None:
        """What an autoencoder makes of a few samples, in full float32; None of other networks."""
        if self._loss_name != "reconstruction":
            return None
        with precision.full(self.device):
            return reconstruct(self.model, self.dataset, step=step, epoch=epoch)

    def ladders(self) -> dict[str, Ladder]:
        """Where failures of solvers are counted, by layer."""
        layers = {name: layer.ladder for name, layer in prox_layers(self.model)}
        own = getattr(self.optimizer, "ladder", None)
        optimizer = {str(self.optimizer): own} if isinstance(own, Ladder) else {}
        return layers | dict(self.method.ladders()) | optimizer

    def not_finite(self) -> str:
        """Return what of the state is not finite, in words, weights first; empty: all of it is.

        All that a checkpoint holds counts: with infinite statistics of batch normalisation a
        network answers wrongly, with infinite second moments Adam stands still; no loss shows it.
        """
        state = self._state().items()
        broken = [name for name, value in state if not is_finite(value)]
        if not broken:
            return ""
        weights = {f"model/{name}" for name, _ in self.model.named_parameters()}
        first = min(broken, key=lambda name: name not in weights)
        kind, _, name = first.partition("/")
        if first in weights:
            return f"weights are not finite ({name})"
        what = "statistics are" if kind == "model" else f"state of the {kind} is"
        return f"{what} not finite ({name})"

    # The state: tensors by name, and what goes into JSON.

    def tensors(self) -> dict[str, Tensor]:
        """Weights, buffers, optimiser, method and generators. Those in use: write them before going
        on."""
        tensors = self._state()
        tensors["rng/torch"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng/cuda"] = torch.cuda.get_rng_state(self.device)
        return tensors

    def _state(self) -> dict[str, Tensor]:
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        own = self._optimizer_state.tensors()
        tensors |= {f"optimizer/{name}": value for name, value in own.items()}
        return tensors | {f"method/{name}": value for name, value in self.method.tensors().items()}

    def generators(self) -> dict[str, Any]:
        """State of the generators of Python and NumPy."""
        version, internal, gauss = random.getstate()
        kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        return {
            "python": [version, list(internal), gauss],
            "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
        }

    def restore(self, tensors: Mapping[str, Tensor], generators: Mapping[str, Any]) -> None:
        """Set everything back.

        :raises CheckpointError: when the state is of another network or optimiser.
        """
        try:
            # copied into the tensors in use, whose alignment the arithmetic may depend on
            self.model.load_state_dict(_under("model/", tensors))
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"the checkpoint is of another network: {detail}") from None
        self._optimizer_state.restore(_under("optimizer/", tensors))
        self.method.restore(_under("method/", tensors))
        if self._graph is not None:
            self._graph.drop()  # the optimiser's state lies elsewhere now
        torch.set_rng_state(tensors["rng/torch"])
        if self.device.type == "cuda" and "rng/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng/cuda"], self.device)
        version, internal, gauss = generators["python"]
        random.setstate((version, tuple(internal), gauss))
        kind, keys, *rest = generators["numpy"]
        np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
