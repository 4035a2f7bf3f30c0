"""Decoded data on disk: plain arrays, mapped into memory, so that runs side by side share them.

A process compares the arrays with their hash before it uses them; what is damaged is decoded anew.
What is no file of ours is neither read nor removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine import verified
from engine.atomic_files import PRIVATE_FILE
from engine.data.arrays import Arrays, Progress, Source
from engine.data.files import make_folder
from engine.errors import DataError, StorageError
from engine.filesystems import home_expanded
from engine.own_files import (
    Names,
    read_own,
    refuse_foreign,
    remove_own,
    require_own,
    require_own_folder,
)

_FORMAT = 2
_ATTEMPTS = 10
_PARTS = ("train_images", "train_labels", "test_images", "test_labels")
_NAMES = Names(r"(train|test)_(images|labels)\.npy|meta\.json")
_META_BYTES = 1 << 24
"""Largest ``meta.json``; of 100,000 classes with long names it takes a quarter of that."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded data set.

    :ivar digest: SHA-256 of all samples and labels, and of how parts are drawn from them.
    :ivar notes: what a person should know of what was read and what was not, a line each.
    """

    arrays: Arrays
    digest: str
    notes: tuple[str, ...] = ()


def default_data_dir() -> Path:
    """``$PROXPROP_DATA_DIR``, or the platform's cache folder for this program."""
    chosen = os.environ.get("PROXPROP_DATA_DIR")
    if chosen:
        return home_expanded(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("proxprop") / "data"


def decoded(source: Source, cache_dir: Path, progress: Progress) -> Decoded:
    """The samples of a source, decoded at most once for each state of its files.

    :raises DataError: the source can not be read, or the cache can not be written.
    :raises StorageError: something that is not ours is in the place of the cache.
    """
    located = source.locate(progress)
    state = _fingerprint(source, located.files)
    folder = cache_dir / "decoded" / f"{source.name}-{state}"
    found = _read(folder)
    if found is None:
        arrays = source.decode(progress)
        _check(source, arrays)
        if _fingerprint(source, source.locate(progress).files) != state:
            raise DataError(
                f"{source.label}: its files have changed while they were read; try again"
            )
        try:
            _write(folder, arrays, _source_of(source))
            _remove_superseded(folder, source)
        except OSError as error:
            raise DataError(f"{folder}: can not keep the decoded data ({error.strerror})") from None
        found = _read(folder)
    if found is None:
        raise DataError(f"{folder}: can not read the decoded data back")
    return replace(found, notes=(*located.notes, *found.arrays.notes))


def _source_of(source: Source) -> str:
    return hashlib.sha256(repr(source).encode(errors="surrogateescape")).hexdigest()


def _remove_superseded(folder: Path, source: Source) -> None:
    """Remove what was kept of the same source before its files were changed; processes that have
    it mapped into memory keep it."""
    for other in folder.parent.glob(f"{source.name}-*"):
        with suppress(OSError, StorageError, ValueError, TypeError, LookupError):
            if other != folder and not other.is_symlink():
                meta = json.loads(_content(other / "meta.json"))
                if meta["source"] == _source_of(source):
                    remove_own(other, _NAMES)


def _fingerprint(source: Source, files: Sequence[Path]) -> str:
    """Changes when the files or what is made of them do; contents are not read.

    The time of the last change of a file's state is a part of it: copying over a file can keep its
    size and the time of its contents, and that alone can not be set.

    :raises DataError: a file has gone meanwhile.
    """
    digest = hashlib.sha256(f"{_FORMAT} {source!r}".encode(errors="surrogateescape"))
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: can not be read ({error.strerror})") from None
        times = f"{status.st_mtime_ns}\0{status.st_ctime_ns}"
        text = f"{path.absolute()}\0{status.st_size}\0{times}\n"
        # a name of bytes that are not UTF-8
        digest.update(text.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _check(source: Source, arrays: Arrays) -> None:
    if not len(arrays.train_labels):
        raise DataError(f"{source.label}: no training samples")
    for labels in (arrays.train_labels, arrays.test_labels):
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(arrays.classes)):
            raise DataError(f"{source.label}: a label is not one of {len(arrays.classes)} classes")


def _write(folder: Path, arrays: Arrays, source: str) -> None:
    """All files under a temporary name first: other processes see a whole cache or none."""
    make_folder(folder.parent)
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for part in _PARTS:
            array = np.ascontiguousarray(getattr(arrays, part))
            with _created(draft / f"{part}.npy") as stream:
                np.save(stream, array, allow_pickle=False)
        meta = {
            "format": _FORMAT,
            "source": source,
            "digest": _digest(arrays),
            "classes": list(arrays.classes),
            "scale": arrays.scale,
            "validation": arrays.validation,
            "by_class": arrays.by_class,
            "notes": list(arrays.notes),
        }
        meta["sha256"] = _meta_digest(meta)
        with _created(draft / "meta.json") as stream:
            stream.write(json.dumps(meta).encode())
        _publish(draft, folder)
    finally:
        with suppress(StorageError):
            remove_own(draft, _NAMES)


def _created(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb")


def _digest(arrays: Arrays) -> str:
    """SHA-256 of all samples and labels, and of how they are divided where that is not by the rule
    of the first version; 0.1 s for CIFAR-10 where the processor has instructions for it."""
    digest = hashlib.sha256()
    for part in _PARTS:
        array = np.ascontiguousarray(getattr(arrays, part))
        digest.update(f"{part} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    if arrays.validation or arrays.by_class:
        digest.update(f"validation {arrays.validation}, by class {arrays.by_class}".encode())
    return digest.hexdigest()


def _meta_digest(meta: Mapping[str, Any]) -> str:
    """SHA-256 of all that stands beside the arrays."""
    content = {key: value for key, value in meta.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _publish(draft: Path, folder: Path) -> None:
    """Give the draft its name. What another process put there meanwhile is as good; what is
    damaged is moved aside first.

    :raises StorageError: something that is not ours is there.
    """
    aside = draft.with_name(f"{draft.name}-damaged")
    for _ in range(_ATTEMPTS):
        try:
            draft.rename(folder)
        except OSError:
            if _read(folder) is not None:
                return
            refuse_foreign(folder, _NAMES)
            with suppress(OSError):
                folder.rename(aside)
        else:
            break
    with suppress(StorageError):
        remove_own(aside, _NAMES)


def _read(folder: Path) -> Decoded | None:
    """What is kept, or nothing where it is missing or damaged.

    :raises StorageError: a link, a pipe or the like is in the place of a file or a folder of ours.
    """
    require_own_folder(folder.parent)
    require_own_folder(folder)
    files = [folder / f"{part}.npy" for part in _PARTS]
    try:
        for path in (folder / "meta.json", *files):
            require_own(path)
        meta: dict[str, Any] = json.loads(_content(folder / "meta.json"))
        mark = verified.mark(files, meta["digest"])  # before anything is read
        parts = {
            # copy on write: torch wants arrays that can be written, and the file stays as it is
            part: np.load(path, mmap_mode="c", allow_pickle=False)
            for part, path in zip(_PARTS, files, strict=True)
        }
        arrays = Arrays(
            **parts,
            classes=tuple(meta["classes"]),
            scale=int(meta["scale"]),
            validation=int(meta["validation"]),
            by_class=bool(meta["by_class"]),
            notes=tuple(map(str, meta["notes"])),
        )
        whole = 0 <= arrays.validation < len(arrays.train_labels) and all(
            getattr(arrays, f"{part}_images").dtype == np.uint8
            and getattr(arrays, f"{part}_images").ndim == 4
            and getattr(arrays, f"{part}_labels").shape
            == getattr(arrays, f"{part}_images").shape[:1]
            for part in ("train", "test")
        )
        if not whole or meta["format"] != _FORMAT or meta["sha256"] != _meta_digest(meta):
            return None
        digest = str(meta["digest"])
        if not verified.is_known(mark):
            if _digest(arrays) != digest:
                return None
            verified.add([mark])
        return Decoded(arrays, digest)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    except RecursionError:  # lists in lists in the JSON
        return None


def _content(path: Path) -> bytes:
    """The bytes of a file; none where it is larger than we write them: it is damaged.

    :raises OSError: it can not be read.
    """
    try:
        return read_own(path, _META_BYTES)
    except StorageError:
        return b""
