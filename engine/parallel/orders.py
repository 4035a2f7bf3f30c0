"""What rank 0 tells the others to train: they have no folder of the run, nor see its disk."""

from __future__ import annotations

import json
from typing import Any

from safetensors.torch import load, save

from engine.checkpoint import Snapshot
from engine.config import RunConfig, validate
from engine.parallel.team import Team


def give(team: Team, config: RunConfig, state: Snapshot | None) -> None:
    """By rank 0: the configuration, and the state to go on from, if any."""
    if team.size == 1:
        return
    meta = None if state is None else dict(state.meta)
    team.content(json.dumps({"config": config.model_dump(mode="json"), "meta": meta}).encode())
    team.content(b"" if state is None else save(dict(state.tensors)))


def take(team: Team) -> tuple[RunConfig, Snapshot | None]:
    """By the others: what rank 0 gives."""
    told: dict[str, Any] = json.loads(team.content(b""))
    tensors = team.content(b"")
    config = validate(told["config"], source="rank 0")
    return config, None if told["meta"] is None else Snapshot(load(tensors), told["meta"])
