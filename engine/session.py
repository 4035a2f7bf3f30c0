"""One sitting of a run in this process: from its folder, through training, into its store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from engine import checkpoint
from engine.checkpoint import Snapshot
from engine.config import DataConfig, RunConfig, brief
from engine.control import Control, Desired
from engine.data import Dataset, Progress, load_dataset, prepare, training_samples
from engine.devices import check_settings, choose_device
from engine.errors import CheckpointError, ConfigError, StorageError, StorageFullError
from engine.events import Event, RunEnded, Warned
from engine.filesystems import require_local
from engine.locks import LockWatch
from engine.losses import LOSSES
from engine.methods import Problem, build_method
from engine.models import build_model
from engine.optimizers import build_optimizer, optimizer_config
from engine.parallel import orders
from engine.parallel.team import ALONE, Team
from engine.recorder import Listener, Recorder, insist
from engine.restoring import Restored, newest_state
from engine.run import Run
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from engine.summary import disagreement
from engine.training import Trainer

_MUST_AGREE = ("torch", "device", "threads", "processes", "data_sha256", "system")


class Load(Protocol):
    """As :func:`engine.data.load_dataset`."""

    def __call__(
        self,
        config: DataConfig,
        *,
        device: torch.device,
        cache_dir: Path,
        progress: Progress | None = None,
    ) -> Dataset:
        """Give the data of a configuration."""
        ...


@dataclass(frozen=True, slots=True)
class Sitting:
    """What a sitting needs beside the run.

    :ivar control: asked between steps.
    :ivar listener: told of every event after it was stored.
    :ivar data_dir: where data sets are kept.
    :ivar progress: told how the data are coming along.
    :ivar allow_inexact: go on although versions, device, threads or data have changed.
    :ivar config: take the place of the run's own configuration, and are kept as that once
        training can begin: new limits.
    :ivar load: gives the data set.
    :ivar notes: gives what else is to be kept as warnings; asked after every event.
    :ivar side_by_side: runs that share the machine with this one, itself included; kept in the
        store, because its times depend on it.
    :ivar team: the processes that train the run together; this one leads.
    """

    control: Control
    listener: Listener
    data_dir: Path
    progress: Progress | None = None
    allow_inexact: bool = False
    config: RunConfig | None = None
    load: Load = load_dataset
    notes: Callable[[], Sequence[str]] = tuple
    side_by_side: int = 1
    team: Team = ALONE


def sit(run: Run, sitting: Sitting) -> RunEnded:
    """Train a run from its newest checkpoint, or from the start if it has none.

    Where the disk is full it waits; a run that is told to stop over that ends without its last
    steps.

    :raises BusyError: another process has the run.
    :raises CheckpointError: no checkpoint can be used, or it does not fit what there is now.
    :raises ConfigError: the configuration does not fit data or machine, or what was trained so far.
    :raises DataError: the data are not there.
    :raises StorageError: the store can not be used, or is on a network file system.
    """
    require_local(run.path)
    with run.lock() as lock:
        run.set_waiting(False)
        control = LockWatch(lock, sitting.control, run.database)
        config = sitting.config or run.config()
        warnings: list[str] = []
        _refuse_other_settings(run, config)
        restored = newest_state(run, warnings.append)
        state = restored.snapshot
        orders.give(sitting.team, config, state)
        trainer = _trainer(config, sitting, control, state)
        if state is not None and not sitting.allow_inexact:
            _check_environment(run, state.meta.get("environment"), trainer.environment())
        lock.keep()
        run.set_room_aside()
        if sitting.config is not None:
            run.save_config(sitting.config)
        try:
            return _train(run, config, sitting, control, trainer, restored, warnings)
        except StorageFullError as error:
            if control.desired() is not Desired.STOPPED:
                raise
            return _end_without_room(run, sitting, trainer, control.stop_reason(), error)
        finally:
            run.give_room_back()


def follow(team: Team, data_dir: Path, control: Control) -> None:
    """Train what rank 0 sits over, and keep nothing of it.

    :param data_dir: where data sets are kept on this machine.
    :param control: a stop here is one of all.
    :raises ConfigError: the configuration does not fit this machine.
    :raises DataError: the data are not there.
    :raises TeamError: another process has gone.
    """
    config, state = orders.take(team)
    sitting = Sitting(control, lambda event: None, data_dir, team=team)
    for _ in _trainer(config, sitting, control, state).events():
        pass


def _trainer(
    config: RunConfig, sitting: Sitting, control: Control, state: Snapshot | None
) -> Trainer:
    device = choose_device(config.device, sitting.team.launch)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    dataset = sitting.team.in_turn(
        lambda: sitting.load(
            config.data, device=device, cache_dir=sitting.data_dir, progress=sitting.progress
        )
    )
    trainer = Trainer(config, dataset, device, control, state, sitting.team)
    check_alike(sitting.team, trainer.environment())
    return trainer


def check_alike(team: Team, environment: Mapping[str, Any]) -> None:
    """See that this process computes on what rank 0 does: else they would drift apart unseen.

    :raises ConfigError: it does not.
    """
    own = {key: environment.get(key) for key in _MUST_AGREE}
    leads = json.loads(team.content(json.dumps(own).encode()))
    differ = [
        f"{key} is {own[key]!r} here, {leads[key]!r} there" for key in own if own[key] != leads[key]
    ]
    if differ:
        raise ConfigError(
            f"process {team.rank} is unlike process 0, with which it is to train: "
            f"{', '.join(differ)}; make them alike"
        )


def _train(
    run: Run,
    config: RunConfig,
    sitting: Sitting,
    control: Control,
    trainer: Trainer,
    restored: Restored,
    warnings: Sequence[str],
) -> RunEnded:
    """Train and keep what happens.

    :raises StorageFullError: the disk is full, and the run was told to stop.
    """

    def warn(text: str) -> None:
        sitting.listener(Warned(trainer.step, text))

    def rewound() -> StoreWriter:
        for step in restored.leftovers:
            checkpoint.remove(run.checkpoints, step)
        with StoreReader(run.database) as reader:
            before = int(reader.state().get("side_by_side", 1))
        writer = StoreWriter(run.database)
        try:
            writer.set_state({**trainer.position(), "reason": "", "config": brief(config)})
            writer.set_state({"side_by_side": max(before, sitting.side_by_side)})
            if restored.unknown is not None:
                writer.add_checkpoint(
                    restored.step,
                    tensors_sha256=restored.unknown.tensors,
                    json_sha256=restored.unknown.meta,
                    reason="found",
                    epoch=trainer.epoch,
                    best=False,
                )
            writer.rewind(restored.step)
        except BaseException:
            writer.close()
            raise
        return writer

    with insist(rewound, run, control, warn) as writer:
        recorder = Recorder(run, writer, control, trainer.snapshot, config.log, sitting.listener)

        def tell(event: Event) -> None:
            recorder.record(event)
            sitting.listener(event)
            if not isinstance(event, RunEnded):  # which is the last one of a run
                for text in sitting.notes():
                    recorder.record(Warned(trainer.step, text))

        for text in warnings:
            tell(Warned(trainer.step, text))
        for event in trainer.events():
            tell(event)
            if isinstance(event, RunEnded):
                return event
    raise AssertionError("a trainer ends with RunEnded")


def _end_without_room(
    run: Run, sitting: Sitting, trainer: Trainer, reason: str, error: StorageFullError
) -> RunEnded:
    """A stop that can not wait for room: what was not kept by now is lost, and is to be trained
    again. For the status there is room set aside."""
    run.give_room_back()
    ended = RunEnded(trainer.step, trainer.epoch, "stopped", reason)
    text = f"stopped without room for the last steps, which 'resume' trains again: {error}"
    sitting.listener(Warned(trainer.step, text))
    with suppress(StorageError), StoreWriter(run.database) as writer:
        writer.set_state({"status": ended.status, "reason": reason})
    sitting.listener(ended)
    return ended


def prepare_run(
    config: RunConfig, data_dir: Path, progress: Progress | None, team: Team = ALONE
) -> None:
    """Everything that can fail before a run exists: device, data (found, downloaded, decoded), and
    whether the network fits them, the method the network, and the batches both.

    :raises ConfigError: the settings do not fit data, network or machine.
    :raises DataError: the data are not there.
    """
    check_settings(config, choose_device(config.device, team.launch))
    arrays = team.in_turn(
        lambda: prepare(config.data, cache_dir=data_dir, progress=progress).arrays
    )
    channels, height, width = arrays.train_images.shape[1:]
    shape = channels, height, width
    samples = training_samples(config.data, arrays)
    # nothing is computed on this device
    nowhere = torch.device("meta")
    with nowhere:
        model = build_model(config.model, config.method, shape, len(arrays.classes))
        build_optimizer(optimizer_config(config), model.parameters(), config.method.tau)
        build_method(Problem(config, model, LOSSES[config.loss], samples, nowhere, team))
        size = samples if config.method.is_full_batch else config.batch_size
        last = samples % size or size
        try:
            if last == 1:
                model(torch.empty(1, *shape))
        except ValueError:
            raise ConfigError(
                f"batch_size: {config.batch_size} leaves one of {samples} samples for the last "
                "batch, which batch normalisation can not train on; choose another"
            ) from None


def _refuse_other_settings(run: Run, config: RunConfig) -> None:
    """See that what was trained so far was trained with these settings, limits aside.

    :raises ConfigError: somebody has edited the configuration, or put another run's in its place.
    """
    with StoreReader(run.database) as reader:
        state = reader.state()
    if state.get("step", 0) and (problem := disagreement(config, state)):
        raise ConfigError(
            f"run {run.id}: {problem}; put the old settings back, or start another run with these"
        )


def _check_environment(run: Run, before: object, now: Mapping[str, Any]) -> None:
    if not isinstance(before, Mapping):
        raise CheckpointError(f"run {run.id}: its checkpoint does not say where it was made")
    before = {"processes": 1, **before}  # earlier versions knew no others
    changed = [key for key in _MUST_AGREE if before.get(key) != now.get(key)]
    if changed:
        listed = ", ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed)
        raise CheckpointError(
            f"run {run.id} can not be continued bit for bit: {listed}; "
            "--allow-inexact continues it all the same"
        )
