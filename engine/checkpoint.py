"""The whole state of a training, written so that death at any moment leaves the old or the new.

A checkpoint is two files, ``<step>.safetensors`` with the tensors and ``<step>.json`` with the
rest, never a pickle. Nothing in the first depends on the clock. Each is written under a temporary
name, synced, and renamed; whoever keeps the books then commits their hashes, and only a checkpoint
whose hashes match those is ever loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.atomic_files import replace_bytes, storage_errors
from engine.errors import CheckpointError, StorageError
from engine.own_files import CHECKPOINTS, is_own_file, read_own

FORMAT = 1
_MAX_META_BYTES = 1 << 26


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


def write(folder: Path, step: int, snapshot: Snapshot, *, origin: float = 0.0) -> Hashes:
    """Write a checkpoint durably; it counts only once its hashes are committed somewhere.

    Those of a checkpoint that counts are never to be written again: of two files the first would be
    new before the hash of either is.

    :param origin: when its run was made, in seconds since the epoch; see :func:`whole`.
    :raises StorageError: when it can not be written; what was there before stays.
    """
    tensors = save({key: value.contiguous().cpu() for key, value in snapshot.tensors.items()})
    tensors_sha256 = _hash(tensors)
    head = {"format": FORMAT, "origin": origin, "tensors_sha256": tensors_sha256}
    content = {**head, **snapshot.meta}
    meta = _json({**content, "meta_sha256": _hash(_json(content))})
    tensor_path, meta_path = paths(folder, step)
    for path, written in ((tensor_path, tensors), (meta_path, meta)):
        _make_way(path)
        replace_bytes(path, written)
    return Hashes(tensors_sha256, _hash(meta))


def read(folder: Path, step: int, hashes: Hashes) -> Snapshot:
    """Read a checkpoint back.

    :raises CheckpointError: when a file is missing, or is not the one whose hash was committed.
    """
    tensor_path, meta_path = paths(folder, step)
    tensors = _read_verified(tensor_path, hashes.tensors, _memory_bytes())
    meta = _read_verified(meta_path, hashes.meta, _MAX_META_BYTES)
    try:
        content = json.loads(meta)
        if not isinstance(content, dict):
            raise CheckpointError(f"{meta_path.name}: not a checkpoint: expected a mapping")
        if content.get("format") != FORMAT:
            raise CheckpointError(
                f"{meta_path.name}: format {content.get('format')}, expected {FORMAT}; "
                "it was written by another version of proxprop"
            )
        return Snapshot(load(tensors), content)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{tensor_path.name}: not a checkpoint: {error}") from None


def remove(folder: Path, step: int) -> None:
    """Delete the files of a checkpoint, as far as they are there; what is not ours stays.

    :raises StorageError: one can not be deleted.
    """
    for path in paths(folder, step):
        with storage_errors(path):
            if is_own_file(path, CHECKPOINTS):
                path.unlink(missing_ok=True)


def step_of(path: Path) -> int | None:
    """The step whose checkpoint a file is part of, by its name and kind; None: it is not one."""
    is_draft = path.name.startswith(".")
    return int(path.stem) if not is_draft and is_own_file(path, CHECKPOINTS) else None


def whole(folder: Path, step: int, origin: float) -> Hashes | None:
    """The hashes of a checkpoint whose files are what was written, by what they say themselves;
    None: they are not.

    :param origin: when its run was made; what was copied from another run is none of it.
    """
    tensor_path, meta_path = paths(folder, step)
    try:
        meta = _read(meta_path, _MAX_META_BYTES)
        content = json.loads(meta)
        hashes = Hashes(_hash(_read(tensor_path, _memory_bytes())), _hash(meta))
        claimed = content.pop("meta_sha256"), content["tensors_sha256"], content["origin"]
        is_whole = claimed == (_hash(_json(content)), hashes.tensors, origin)
    except (
        CheckpointError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ):
        return None
    return hashes if is_whole else None


def _make_way(path: Path) -> None:
    """Give what has the name of a file to come, but is none, another one: it is not ours."""
    with storage_errors(path):
        if os.path.lexists(path) and not is_own_file(path, CHECKPOINTS):
            path.rename(path.with_name(f"{path.name}.{secrets.token_hex(4)}.aside"))


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_own(path, limit)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name}: {error.strerror}") from None
    except StorageError as error:
        text = str(error).replace(f"{path.parent}{os.sep}", "").removesuffix("; move it away")
        raise CheckpointError(text) from None
    except MemoryError:
        raise CheckpointError(f"{path.name}: too large for the memory that is left") from None


def _memory_bytes() -> int:
    """Of this machine; what is larger can be no state that was trained here."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_verified(path: Path, expected: str, limit: int) -> bytes:
    content = _read(path, limit)
    found = _hash(content)
    if found != expected:
        raise CheckpointError(
            f"{path.name}: damaged or replaced (SHA-256 {found[:12]}…, expected {expected[:12]}…)"
        )
    return content
