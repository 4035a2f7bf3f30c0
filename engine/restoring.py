"""Which state a run goes on from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine import checkpoint
from engine.errors import CheckpointError
from engine.run import Run
from engine.store_reader import StoreReader


@dataclass(frozen=True, slots=True)
class Restored:
    """What a run goes on from.

    :ivar step: of the state; -1 where there is none, and training starts from its beginning.
    :ivar unknown: hashes of its files, where the store has to be told of them.
    :ivar leftovers: steps of other checkpoints that must be gone before the store is rewound, or
        they would look like commits that it has lost: damaged ones, and those that a death left.
    """

    step: int = -1
    snapshot: checkpoint.Snapshot | None = None
    unknown: checkpoint.Hashes | None = None
    leftovers: tuple[int, ...] = ()


def origin_of(state: Mapping[str, Any]) -> float:
    """What tells the checkpoints of a run from those of another: when it was made."""
    return float(state.get("created", 0.0))


def newest_state(run: Run, warn: Callable[[str], None]) -> Restored:
    """The newest undamaged state of a run, if it has ever kept one.

    What a checkpoint holds is stored before it is kept. So one that is ahead of the store's own
    step tells that the store has lost its last commits, as a copy does that was made without its
    log, and training goes on from there. Others that the store does not know were left by a death
    just before they counted; they are used where nothing else can be.

    :param warn: told of damaged ones that were passed over, and of lost commits.
    :raises CheckpointError: there are checkpoints, but none can be used.
    """
    with StoreReader(run.database) as reader:
        rows, state = reader.checkpoints(), reader.state()
    known = {row.step: checkpoint.Hashes(row.tensors_sha256, row.json_sha256) for row in rows}
    found = {checkpoint.step_of(path) for path in run.checkpoints.glob("*")}
    unknown = sorted((step for step in found if step and step not in known), reverse=True)
    lost = [step for step in unknown if step > max(state.get("step", 0), *known, 0)]
    origin = origin_of(state)
    restored = _newest_whole(run, lost, origin)
    if restored is not None:
        warn(
            f"the store has lost its last commits: it knows step {state.get('step', 0)}, and there "
            f"is a whole checkpoint of step {restored.step}; going on from there, without the "
            "curves between"
        )
        return restored
    damaged: dict[int, CheckpointError] = {}
    for step, hashes in known.items():
        try:
            restored = Restored(step, checkpoint.read(run.checkpoints, step, hashes))
            break
        except CheckpointError as error:
            damaged[step] = error
    if damaged and restored is None:
        restored = _newest_whole(run, unknown, origin)
        if restored is None:
            first = next(iter(damaged.values()))
            raise CheckpointError(
                f"run {run.id}: none of its {len(damaged)} checkpoints can be used: {first}; "
                "nothing was changed"
            )
    restored = restored or Restored()
    begin = max(restored.step, 0)
    for problem in damaged.values():
        warn(f"checkpoint {problem}; going on from step {begin}")
    if lost:
        listed = ", ".join(map(str, reversed(lost)))
        warn(
            f"there are checkpoints of steps {listed}, which the store does not know, and which "
            f"can not be checked: it has lost its last commits; going on from step {begin}, and "
            "they are kept until training has come as far"
        )
    left = {*damaged, *unknown} - {*lost, restored.step}
    return replace(restored, leftovers=tuple(sorted(left)))


def _newest_whole(run: Run, steps: Iterable[int], origin: float) -> Restored | None:
    for step in steps:
        hashes = checkpoint.whole(run.checkpoints, step, origin)
        if hashes is not None:
            snapshot = checkpoint.read(run.checkpoints, step, hashes)
            return Restored(step, snapshot, hashes)
    return None
