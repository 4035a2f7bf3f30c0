"""The training step as a CUDA graph: recorded once, then replayed with one launch.

A replay repeats the recorded kernels on the same memory. So whatever differs between steps lies in
tensors that stay where they are (the samples' indices, the step sizes, the counts of failures), and
whatever needs a decision of the host is done without the graph: see :meth:`StepGraph.step`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from engine.layers import prox_layers
from engine.solvers import Rung

WARM_UP = 3
"""Steps made kernel by kernel before the recording: libraries, optimiser and caches are set up."""

Body = Callable[[Tensor], Tensor]
"""A training step on the samples with these indices ``(B,)``; gives its few results."""


class Replayable(Protocol):
    """A recorded step."""

    def replay(self) -> None:
        """Do it again, on the same memory."""
        ...


class GraphBackend(Protocol):
    """Records steps."""

    def warm_up(self, step: Callable[[], None]) -> None:
        """Do a step in the surroundings of a recording, without recording it."""
        ...

    def capture(self, step: Callable[[], None]) -> Replayable:
        """Record a step without doing it.

        :raises RuntimeError: the step holds what can not be recorded, or memory is short.
        """
        ...


class CudaGraphs:
    """Graphs of ``torch.cuda``, warmed up and recorded on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, step: Callable[[], None]) -> None:
        """Do a step on the side stream."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def capture(self, step: Callable[[], None]) -> Replayable:
        """Record a step. Waits for the device.

        :raises RuntimeError: the step holds what can not be recorded, or memory is short.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=self._stream):
            step()
        return graph


class StepGraph:
    """Replays a training step whose batch has always the same size.

    :param body: the step; after :data:`WARM_UP` calls it must neither wait for the device nor put
        anything elsewhere than it was.
    :param model: network that it trains.
    :param optimizer: its optimiser, prepared by :func:`prepare_optimizer`.
    :param size: samples of a batch; indices are int64 ``(size,)`` on ``device``.
    """

    def __init__(
        self,
        body: Body,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        backend: GraphBackend,
        *,
        size: int,
        device: torch.device,
    ) -> None:
        self._body = body
        self._optimizer = optimizer
        self._backend = backend
        self._ladders = [layer.ladder for _, layer in prox_layers(model)]
        self._indices = torch.zeros(size, dtype=torch.long, device=device)
        self._results: Tensor | None = None
        self._recorded: Replayable | None = None
        self._settings: object = None
        self._warm = 0
        self._impossible = False

    def step(self, indices: Tensor) -> Tensor | None:
        """Make the step; gives a copy of its results, which later steps leave alone.

        ``None``, and nothing is done, where the caller has to make it without the graph: for
        another number of samples, for layers whose failures have led to a solver that waits for
        the device, and once recording has failed. A new step size of an optimiser that does not
        take it from the device, or a ladder that was climbed, leads to a new recording.
        """
        if self._impossible or len(indices) != len(self._indices):
            return None
        rungs = [ladder.start for ladder in self._ladders]
        if Rung.EIGH in rungs:
            return None
        sizes = [group["lr"] for group in self._optimizer.param_groups]
        settings = (rungs, [size for size in sizes if not isinstance(size, Tensor)])
        if settings != self._settings:
            self.drop()
            self._settings = settings
        self._indices.copy_(indices)
        if self._warm < WARM_UP:
            self._backend.warm_up(self._run)
            self._warm += 1
        else:
            if self._recorded is None:
                self._recorded = self._record()
            if self._recorded is None:
                return None
            self._recorded.replay()
        assert self._results is not None
        return self._results.clone()

    @property
    def is_recorded(self) -> bool:
        """Whether there is a recording to replay."""
        return self._recorded is not None

    def drop(self) -> None:
        """Forget the recording: what it reads or writes has moved."""
        self._recorded = None
        self._warm = 0

    def _run(self) -> None:
        found = self._body(self._indices)
        if self._results is None:
            self._results = torch.empty_like(found)
        self._results.copy_(found)

    def _record(self) -> Replayable | None:
        try:
            return self._backend.capture(self._run)
        except RuntimeError as error:
            self._impossible = True
            cause = str(error).partition("\n")[0]
            warnings.warn(f"training goes on without a CUDA graph: {cause}", stacklevel=2)
            return None


def prepare_optimizer(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let an optimiser take its step size from the device, where it can; before its first step.

    SGD can in its fused form and Adam in its capturable one; Muon can not.
    """
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"
        elif "dampening" in group:
            group["fused"] = True
        else:
            continue
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
    for part in (optimizer, *getattr(optimizer, "_parts", ())):
        # torch warns of capturable steps outside of a graph, which are meant here
        part._warned_capturable_if_run_uncaptured = True


def set_step_size(optimizer: torch.optim.Optimizer, tau: float) -> None:
    """Set tau for all parameters, on the device where the optimiser takes it from there."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(tau)
        else:
            group["lr"] = tau
