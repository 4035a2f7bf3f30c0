"""Folders for what is only needed while a process lives, and is somebody else's business on disk.

Each has a lock that its process holds. Who makes one also removes those of processes that were
killed: of the same person, on the same machine.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.atomic_files import storage_errors
from engine.errors import ProxPropError
from engine.locks import RunLock, is_locked

_PREFIX = "proxprop-ray-"
_YOUNG_SECONDS = 5.0
"""Age below which a folder may be one that is just being made."""


@contextmanager
def workspace(place: Path) -> Iterator[Path]:
    """A private folder that is removed with all that is in it, also if this process is killed: by
    the next who needs one.

    :param place: the folder to make it in.
    :raises StorageError: it can not be made.
    """
    remove_left(place)
    with storage_errors(place):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        with RunLock(folder / "lock"):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left(place: Path) -> None:
    """Remove what processes have left that were killed."""
    for folder in place.glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            old = time.time() - found.st_mtime > _YOUNG_SECONDS
            if ours and old and not is_locked(folder / "lock"):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ProxPropError):
            continue  # somebody else was faster
