"""The whole state of a training, written so that death at any moment leaves the old or the new.

A checkpoint is two files, ``<step>.safetensors`` with the tensors and ``<step>.json`` with the
rest, never a pickle. Nothing in the first depends on the clock. Each is written under a temporary
name, synced, and renamed; whoever keeps the books then commits their hashes, and only a checkpoint
whose hashes match those is ever loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.atomic_files import replace_bytes
from engine.errors import CheckpointError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything needed to go on.

    :ivar tensors: weights, buffers, optimiser state and generators, by name.
    :ivar meta: position, seconds and environment; JSON.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hashes:
    """SHA-256 of both files, in hexadecimal."""

    tensors: str
    meta: str


def paths(folder: Path, step: int) -> tuple[Path, Path]:
    """Where the checkpoint of a step lies: tensors and the rest."""
    return folder / f"{step:09d}.safetensors", folder / f"{step:09d}.json"


def write(folder: Path, step: int, snapshot: Snapshot) -> Hashes:
    """Write a checkpoint durably; it counts only once its hashes are committed somewhere.

    :raises StorageError: when it can not be written; what was there before stays.
    """
    tensors = save({key: value.contiguous().cpu() for key, value in snapshot.tensors.items()})
    meta = json.dumps({"format": FORMAT, **snapshot.meta}, sort_keys=True, indent=1).encode()
    tensor_path, meta_path = paths(folder, step)
    replace_bytes(tensor_path, tensors)
    replace_bytes(meta_path, meta)
    return Hashes(hashlib.sha256(tensors).hexdigest(), hashlib.sha256(meta).hexdigest())


def read(folder: Path, step: int, hashes: Hashes) -> Snapshot:
    """Read a checkpoint back.

    :raises CheckpointError: when a file is missing, or is not the one whose hash was committed.
    """
    tensor_path, meta_path = paths(folder, step)
    tensors = _read_verified(tensor_path, hashes.tensors)
    meta = _read_verified(meta_path, hashes.meta)
    try:
        content = json.loads(meta)
        if content.get("format") != FORMAT:
            raise CheckpointError(
                f"{meta_path.name}: format {content.get('format')}, expected {FORMAT}; "
                "it was written by another version of proxprop"
            )
        return Snapshot(load(tensors), content)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{tensor_path.name}: not a checkpoint: {error}") from None


def remove(folder: Path, step: int) -> None:
    """Delete the files of a checkpoint, as far as they are there."""
    for path in paths(folder, step):
        path.unlink(missing_ok=True)


def _read_verified(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path.name}: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise CheckpointError(
            f"{path.name}: damaged or replaced (SHA-256 {found[:12]}…, expected {expected[:12]}…)"
        )
    return content
