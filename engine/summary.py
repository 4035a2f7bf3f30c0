"""What a run came to, in one plain mapping: for lists, JSON and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import ProxPropError
from engine.run import WAITING_FOR_ROOM, Run
from engine.store_reader import StoreReader

if TYPE_CHECKING:
    # reading a configuration takes longer than all else that a list of runs needs
    from engine.config import RunConfig

_METRICS = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
)
_KEPT_SETTINGS = ("method", "tau", "tau_theta", "seed", "batch_size", "model", "data")
"""Those that a run has from its beginning to its end; it may be trained for longer."""


def summarize(run: Run) -> dict[str, Any]:
    """Identity, status, position and latest evaluation of a run.

    Settings are those that its store has, as its figures are. ``epoch`` counts the epochs trained
    so far, ``epochs_limit`` those asked for. Accuracies are fractions, ``seconds`` are seconds of
    training; what there is not is ``None``.

    :raises ConfigError: its configuration was damaged, and the store does not have it.
    :raises StorageError: its store can not be read.
    """
    with StoreReader(run.database) as reader:
        state = reader.state()
    config = state.get("config") or _brief_of(run)
    status = str(state.get("status", "created"))
    if status == "running":
        status = run.status()
    metrics = state.get("metrics", {})
    epoch = state.get("epoch", 0)
    reason = state.get("reason")
    waiting = status in ("created", "running", "paused") and run.is_waiting()
    if waiting:
        reason = f"{WAITING_FOR_ROOM} on the disk"
    return {
        "id": run.id,
        "name": config.get("name"),
        "status": status,
        "waiting_for_room": waiting,
        "preset": config.get("preset"),
        "method": config.get("method"),
        "tau": config.get("tau"),
        "tau_theta": config.get("tau_theta"),
        "seed": config.get("seed"),
        "epoch": int(epoch) if epoch == int(epoch) else epoch,
        "epochs_limit": config.get("epochs"),
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
    except ProxPropError as error:
        return {"id": run.id, "name": None, "status": "unreadable", "reason": str(error)}


def disagreement(config: RunConfig, state: Mapping[str, Any]) -> str:
    """How a run's store tells of other settings than its configuration: somebody has put another
    run's in its place, or edited the configuration; empty where they agree.

    :param config: the configuration.
    :param state: of the store.
    """
    from engine.config import brief

    expected, found = brief(config), state.get("config") or {}
    differ = [
        f"{key} {found[key]} instead of {expected[key]}"
        for key in _KEPT_SETTINGS
        if key in found and found[key] != expected[key]
    ]
    if not differ:
        return ""
    return f"run.db is not of this config.yaml: it has {', '.join(differ)}"


def _brief_of(run: Run) -> Mapping[str, Any]:
    from engine.config import brief

    return brief(run.config())
