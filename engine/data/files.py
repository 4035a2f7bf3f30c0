"""Folders and files that the program makes among data sets: nobody else can write to them, and none
takes the place of what is there already."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.atomic_files import PRIVATE_FOLDER
from engine.errors import DataError

_SHARED_FILE = 0o644
"""A folder of data sets may be one that many read; what they read is not theirs to change."""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, for their owner alone.

    :raises OSError: it can not be made.
    """
    for path in reversed((folder, *folder.parents)):
        if not path.is_dir():
            path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def require_free(path: Path) -> None:
    """See that a file that is to be made takes the place of nothing.

    :raises DataError: there is something, such as a link to nowhere.
    """
    if os.path.lexists(path):
        raise DataError(
            f"{path}: expected a file or nothing there, found something else, such as a link to "
            "nothing; move it away"
        )


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """Write a file that gets its name when the block ends without an exception.

    :raises DataError: something that is no file has its name.
    :raises OSError: it can not be written.
    """
    require_free(target)
    make_folder(target.parent)
    # a name of its own, since another process may make the same file
    part = target.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SHARED_FILE)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
