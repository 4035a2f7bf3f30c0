"""Runs that come home: what was trained elsewhere takes the place of what is here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine import checkpoint
from engine.atomic_files import PRIVATE_FOLDER, replace_bytes, storage_errors
from engine.cluster.parcel import Files, unpack
from engine.errors import CheckpointError, StorageError
from engine.own_files import read_own
from engine.run import Run
from engine.store import StoreWriter
from engine.store_copy import place_for_copy, remove_left_copies, replace_store
from engine.store_reader import CheckpointRow, StoreReader


def take_in(run: Run, parcel: bytes) -> None:
    """Let a run be as it came home; the caller holds its lock.

    Files of checkpoints first, then the store that knows them, then out with those that it does not
    know: a death at any moment leaves the old or the new. The configuration stays as it is here.

    :raises CheckpointError: a checkpoint came damaged; nothing was changed.
    :raises StorageError: it is no run, or there is no room.
    """
    files = unpack(parcel)
    remove_left_copies(run.database)
    with place_for_copy(run.database) as copy:
        replace_bytes(copy, bytes(files.get("run.db", b"")))
        with StoreReader(copy) as reader:
            reader.state()
            rows = reader.checkpoints()
        _check(run, files, rows)
        run.checkpoints.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        for row in rows:
            for path, content in _files_of(run, files, row.step):
                if not _is(path, content):
                    replace_bytes(path, bytes(content))
        replace_store(run.database, copy)
    _remove_superseded(run, rows)


def note_progress(run: Run, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
    """Keep what an epoch came to, ahead of the checkpoint that is still elsewhere.

    If that never comes, the run is rewound to what came, as after any death.

    :raises StorageError: it can not be written.
    """
    with StoreWriter(run.database) as writer:
        writer.append_metrics(step, metrics)
        writer.set_state({"step": step, "epoch": epoch, "metrics": dict(metrics)})


def status_of(run: Run) -> tuple[str, str]:
    """How a run is as its store has it, and why.

    :raises StorageError: it can not be read.
    """
    with StoreReader(run.database) as reader:
        state = reader.state()
    return str(state.get("status", "created")), str(state.get("reason", ""))


def note_status(run: Run, status: str, reason: str = "") -> None:
    """Keep how a run is that is somewhere else.

    :raises StorageError: it can not be written.
    """
    with StoreWriter(run.database) as writer:
        writer.set_state({"status": status, "reason": reason[:1000]})


def _files_of(run: Run, files: Files, step: int) -> list[tuple[Path, memoryview]]:
    paths = checkpoint.paths(run.checkpoints, step)
    named = [(path, files.get(f"{run.checkpoints.name}/{path.name}")) for path in paths]
    return [(path, content) for path, content in named if content is not None]


def _check(run: Run, files: Files, rows: Sequence[CheckpointRow]) -> None:
    """The newest is what training goes on from; older ones are looked at when they are needed."""
    for row in rows[:1]:
        contents = [content for _, content in _files_of(run, files, row.step)]
        found = [hashlib.sha256(content).hexdigest() for content in contents]
        if found != [row.tensors_sha256, row.json_sha256]:
            raise CheckpointError(f"run {run.id}: its checkpoint of step {row.step} came damaged")


def _is(path: Path, content: memoryview) -> bool:
    try:
        return read_own(path, len(content)) == content
    except (OSError, StorageError):
        return False


def _remove_superseded(run: Run, rows: Sequence[CheckpointRow]) -> None:
    """Not what is ahead of all that the store knows, as :mod:`engine.recorder` has it."""
    known = {row.step for row in rows}
    newest = max(known, default=-1)
    with storage_errors(run.checkpoints):
        steps = {checkpoint.step_of(path) for path in run.checkpoints.iterdir()}
    for step in sorted(step for step in steps if step is not None):
        if step <= newest and step not in known:
            checkpoint.remove(run.checkpoints, step)
