"""The training loop: events out, control in, and nothing else.

The loop waits for the device only when a block of step metrics is brought over (twice a second)
and around evaluations and checkpoints. The order of the samples is a function of seed and epoch,
so that a run is continued exactly from its weights, optimiser state and position.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from engine import clock, devices
from engine.checkpoint import Snapshot
from engine.config import RunConfig
from engine.control import AlwaysRun, Control, Desired
from engine.data.dataset import Dataset
from engine.decisions import Decisions, Own
from engine.errors import CheckpointError
from engine.events import (
    CheckpointDue,
    CheckpointReason,
    Diverged,
    EndStatus,
    EpochDone,
    Event,
    LadderClimbed,
    Paused,
    RunEnded,
    RunStarted,
    Unpaused,
    Warned,
)
from engine.learner import Learner
from engine.optimizers import step_size
from engine.parallel.decisions import Shared
from engine.parallel.team import ALONE, Team
from engine.solvers import SolverStats
from engine.step_log import NotFinite, StepLog, trace_of
from engine.work import backprop_products

_POLL_SECONDS = 0.05


class Trainer:
    """One run, from the start or from a snapshot.

    :param config: what to do.
    :param dataset: samples on ``device``.
    :param device: where to train.
    :param control: asked between steps whether to go on.
    :param resume: state to go on from.
    :param team: the processes that train the run together, each with a trainer. They tell the same
        events; rank 0's control and clock count, and only its times mean anything.
    :raises CheckpointError: when ``resume`` is of another network or optimiser.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        device: torch.device,
        control: Control | None = None,
        resume: Snapshot | None = None,
        team: Team = ALONE,
    ) -> None:
        self.config = config
        self._team = team
        self.learner = Learner(config, dataset, device, team)
        self.epoch = 0
        """Whole epochs trained."""
        self.batch = 0
        """Batches trained of the epoch after those."""
        self.step = 0
        self._batch_size = self.learner.batch_size
        self.batches = math.ceil(len(dataset.train) / self._batch_size)
        """Steps an epoch; the last one may have fewer samples."""
        self._backprop_products = backprop_products(
            self.learner.model, dataset.shape, self._batch_size
        )
        self._log = StepLog(device)
        self._traces: list[tuple[int, Mapping[str, SolverStats]]] = []
        self._watch = devices.Stopwatch(device)
        self._epoch_began = 0.0  # training seconds
        self._checkpoint_made = 0.0  # training seconds
        self._checkpoint_step = 0
        self._elapsed = clock.Elapsed()
        self._best: float | None = None
        self._metrics: dict[str, float] = {}
        self._work = 0.0
        self._cost = 1.0 if config.method.name == "backprop" else None
        """Of a step, in units of BackProp's multiplications, as of the latest traced one; None: not
        known yet, or not counted for this method."""
        self._resumed = resume is not None
        if resume is not None:
            try:
                self._restore(resume)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                raise CheckpointError(f"the checkpoint is not one of this run: {text}") from error
        self._decisions: Decisions = Own(control or AlwaysRun(), self._watch, self._log)
        if team.size > 1:
            self._decisions = Shared(team, self._decisions, self._log)

    def events(self) -> Iterator[Event]:
        """Train, telling what happens. After a :class:`CheckpointDue` ask for :meth:`snapshot`
        before taking the next event."""
        yield RunStarted(self.step, self.epoch, self._resumed, self.batches, self.environment())
        status: EndStatus
        try:
            status, reason = yield from self._train()
        except NotFinite as found:
            self.step = found.step  # later steps went on with what was broken
            yield Diverged(found.step, found.cause)
            status, reason = "diverged", found.cause
        yield RunEnded(self.step, self.epoch, status, reason)

    def environment(self) -> dict[str, str | int | float]:
        """What the bits of the result may depend on beside the configuration."""
        learner = self.learner
        return {
            **devices.describe(self.config, learner.device),
            "processes": self._team.size,
            "data": learner.dataset.label,
            "data_sha256": learner.dataset.digest,
            "backprop_products": self._backprop_products,
        }

    def position(self) -> dict[str, object]:
        """Step, epoch and metrics of the latest evaluation, as the store keeps them."""
        return {
            "step": self.step,
            "epoch": self._metrics.get("epoch", 0),
            "metrics": dict(self._metrics),
        }

    def snapshot(self) -> Snapshot:
        """The complete state; its tensors are those in use, so write them before going on."""
        meta = {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "best": self._best,
            "metrics": dict(self._metrics),
            "work": [self._work, self._cost],
            "seconds": {
                "train": self._watch.stop(),
                "epoch_began": self._epoch_began,
                "wall": self._elapsed.seconds,
                "kept": clock.now(),
            },
            "environment": self.environment(),
            "generators": self.learner.generators(),
        }
        return Snapshot(self.learner.tensors(), meta)

    def _restore(self, snapshot: Snapshot) -> None:
        meta = snapshot.meta
        self.learner.restore(snapshot.tensors, meta["generators"])
        self.epoch, self.batch, self.step = meta["epoch"], meta["batch"], meta["step"]
        self._best, self._metrics = meta["best"], meta["metrics"]
        self._work, self._cost = meta["work"]
        seconds = meta["seconds"]
        self._watch = devices.Stopwatch(self.learner.device, seconds["train"])
        self._epoch_began = seconds["epoch_began"]
        # the break is told by the time of day, which is all that is left of it
        if "wall" in seconds:
            self._elapsed = clock.Elapsed(seconds["wall"] + clock.age(seconds["kept"]))
        else:  # as earlier versions kept it
            self._elapsed = clock.Elapsed(max(clock.age(seconds["started"]), seconds["train"]))
        self._checkpoint_made, self._checkpoint_step = seconds["train"], self.step

    def _train(self) -> Generator[Event, None, tuple[EndStatus, str]]:
        if self.step == 0:
            yield from self._evaluate()
        while self.epoch < self.config.epochs and not self._out_of_time():
            order = epoch_order(self.config.seed, self.epoch, len(self.learner.dataset.train))
            order = order.to(self.learner.device)
            while self.batch < self.batches and not self._out_of_time():
                desired = self._decisions.desired()
                if desired is not Desired.RUNNING:
                    desired = yield from self._hold()
                if desired is Desired.STOPPED:
                    return "stopped", self._decisions.stop_reason()
                first = self.batch * self._batch_size
                self._step(order[first : first + self._batch_size])
                if self._decisions.log_is_due():
                    yield from self._flush()
                if self._checkpoint_is_due():
                    yield from self._flush()
                    # the watch stands still now: a step that is the last has one checkpoint
                    if not self._out_of_time():
                        yield from self._checkpoint("interval")
            yield from self._flush()
            if self.batch == self.batches:
                self.epoch, self.batch = self.epoch + 1, 0
            yield from self._evaluate()
        return "finished", "" if self.epoch == self.config.epochs else "time limit"

    def _step(self, indices: Tensor) -> None:
        self._watch.start()
        every = self.config.log.trace_every
        position = self.epoch + self.batch / self.batches
        tau = step_size(self.config.schedule, self.config.method.tau, position, self.config.epochs)
        self.step += 1
        self.batch += 1
        record = every > 0 and (self.step % every == 0 or self.step == 1)
        result = self.learner.step(indices, tau, epoch=self.epoch, record=record)
        if record:
            self._traces.append((self.step, result.stats))
            # an epoch's last, smaller batch says nothing of the others
            if result.extra_products is not None and (
                self._cost is None or len(indices) == self._batch_size
            ):
                self._cost = 1 + result.extra_products / self._backprop_products
        on_host = {
            "tau": tau,
            "time/train": self._watch.seconds,
            "time/wall": self._elapsed.seconds,
        }
        if self._cost is not None:
            self._work += self._cost
            on_host["work"] = self._work
        self._log.add(self.step, result.loss, result.direction_norm, on_host)

    def _flush(self) -> Iterator[Event]:
        """Bring the steps since the last flush over.

        :raises NotFinite: after the steps up to the first that failed were told of.
        """
        self._watch.stop()
        block, failure = self._log.take(self.epoch + 1)
        if block is not None:
            yield block
        traces, self._traces = self._traces, []
        for step, stats in traces:
            if failure is None or step <= failure.step:
                yield from (trace_of(step, layer, found) for layer, found in stats.items())
        # what was trained after a failure is no part of the run
        last = self.step if failure is None else failure.step
        beyond = False
        for name, ladder in self.learner.ladders().items():
            counts = ladder.take_counts()
            if counts:
                by_label = {rung.label: count for rung, count in counts.items()}
                yield LadderClimbed(last, name, by_label)
                beyond = beyond or self.step > last
        if beyond:
            # ladders count where the solvers run; to ask them at every step would be to wait
            yield Warned(
                last,
                f"these are counts up to step {self.step:,}: the failure of step {last:,} was "
                "noticed then",
            )
        if failure is not None:
            raise failure

    def _evaluate(self) -> Iterator[Event]:
        """Evaluate all parts of the data, then keep the state where that is due."""
        seconds = self._watch.stop()
        metrics = {"epoch": self.epoch + self.batch / self.batches, **self.learner.evaluate()}
        metrics["time/epoch"] = seconds - self._epoch_began
        metrics["time/train"] = seconds
        metrics["time/wall"] = self._elapsed.seconds
        if self.batch == 0:
            self._epoch_began = seconds
        self._metrics = metrics
        yield EpochDone(metrics["epoch"], self.step, metrics)
        if not math.isfinite(metrics["train_loss"]):
            raise NotFinite(self.step, "loss of the training data is not finite")
        reconstructed = self.learner.reconstruct(self.step, metrics["epoch"])
        if reconstructed is not None:
            yield reconstructed
        if self.step == 0:
            return
        loss = metrics.get("val_loss")
        best = self._is_best(metrics.get("val_accuracy", None if loss is None else -loss))
        ends = self.epoch == self.config.epochs or self._out_of_time()
        if ends or best or self.epoch % self.config.log.checkpoint_epochs == 0:
            yield from self._checkpoint("end" if ends else "epoch", best=best)

    def _is_best(self, score: float | None) -> bool:
        if score is None or (self._best is not None and score <= self._best):
            return False
        self._best = score
        return True

    def _hold(self) -> Generator[Event, None, Desired]:
        """Keep the state, then wait until told to run or to stop; gives which."""
        paused = False
        while (desired := self._decisions.desired()) is not Desired.RUNNING:
            if self.step != self._checkpoint_step:
                yield from self._checkpoint("stop" if desired is Desired.STOPPED else "pause")
            if desired is Desired.STOPPED:
                return desired
            if not paused:
                paused = True
                yield Paused(self.step)
            time.sleep(_POLL_SECONDS)
        yield Unpaused(self.step)
        return desired

    def _checkpoint(self, reason: CheckpointReason, *, best: bool = False) -> Iterator[Event]:
        """Offer the state to be kept.

        :raises NotFinite: instead, when it is not worth keeping.
        """
        yield from self._flush()
        if broken := self.learner.not_finite():
            raise NotFinite(self.step, broken)
        self._checkpoint_made = self._decisions.seconds()
        self._checkpoint_step = self.step
        yield CheckpointDue(self.step, self.epoch, reason, best)

    def _checkpoint_is_due(self) -> bool:
        """Within an epoch; its end has a checkpoint of its own."""
        elapsed = self._decisions.seconds() - self._checkpoint_made
        return self.batch < self.batches and elapsed > 60 * self.config.log.checkpoint_minutes

    def _out_of_time(self) -> bool:
        limit = self.config.max_seconds
        return limit is not None and self._decisions.seconds() >= limit


def epoch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The permutation of the training samples in an epoch (counted from 0), int64 ``(samples,)``.

    A function of its arguments alone.
    """
    entropy = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(entropy[0] >> np.uint64(1)))
    return torch.randperm(samples, generator=generator)
