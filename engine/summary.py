"""What a run came to, in one plain mapping: for lists, JSON and tables."""

from __future__ import annotations

from typing import Any

from engine.config import RunConfig
from engine.errors import ConfigError, StorageError
from engine.run import WAITING_FOR_ROOM, Run
from engine.store_reader import StoreReader

_METRICS = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
)


def summarize(run: Run) -> dict[str, Any]:
    """Identity, status, position and latest evaluation of a run.

    ``epoch`` counts the epochs trained so far, ``epochs_limit`` those asked for. Accuracies are
    fractions, ``seconds`` are seconds of training; what there is not is ``None``.

    :raises ConfigError: its configuration was damaged.
    :raises StorageError: its store can not be read.
    """
    config = run.config()
    status = run.status()
    with StoreReader(run.database) as reader:
        state = reader.state()
    metrics = state.get("metrics", {})
    epoch = state.get("epoch", 0)
    reason = state.get("reason")
    waiting = status in ("created", "running", "paused") and run.is_waiting()
    if waiting:
        reason = f"{WAITING_FOR_ROOM} on the disk"
    return {
        "id": run.id,
        "name": config.name,
        "status": status,
        "waiting_for_room": waiting,
        "preset": config.preset,
        **_method(config),
        "seed": config.seed,
        "epoch": int(epoch) if epoch == int(epoch) else epoch,
        "epochs_limit": config.epochs,
        "steps": state.get("step", 0),
        **{key: metrics.get(key) for key in _METRICS},
        "seconds": metrics.get("time/train"),
        "created": state.get("created"),
        "updated": state.get("updated"),
        "reason": reason or None,
        "diverged": status == "diverged",
    }


def summarize_or_explain(run: Run) -> dict[str, Any]:
    """The same for lists, where one damaged run must not hide the others."""
    try:
        return summarize(run)
    except (ConfigError, StorageError) as error:
        return {"id": run.id, "name": None, "status": "unreadable", "reason": str(error)}


def _method(config: RunConfig) -> dict[str, Any]:
    method = config.method
    proximal = method.uses_tau_theta
    return {
        "method": method.name,
        "tau": method.tau,
        "tau_theta": method.tau_theta if proximal else None,
    }
