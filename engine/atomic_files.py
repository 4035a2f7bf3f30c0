"""Files that are either the old ones or the new ones, never half of each."""

from __future__ import annotations

import errno
import io
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from engine.errors import StorageError, StorageFullError

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PROBE_BYTES = 1 << 16
"""More than the 32 KiB by which SQLite's shared memory grows."""


@contextmanager
def storage_errors(path: Path, *, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Report what the operating system refuses as one line about ``path``.

    :param but: what the caller expects, and gets as it is.
    :raises StorageError: instead of any other ``OSError``; where there is no room,
        :class:`StorageFullError`.
    """
    try:
        yield
    except but:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFullError(f"{path}: {error.strerror}") from error
        raise StorageError(f"{path}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, *, mode: int = PRIVATE_FILE) -> Iterator[TextIO]:
    """Open a UTF-8 text that takes the place of ``path`` when the block ends without an exception.

    The text is on disk before it gets the name, and the name before the block is left; after an
    exception ``path`` is what it was before.

    :param mode: permission bits of the new file, less those of the umask.
    :raises OSError: it can not be written.
    """
    with _replacing_bytes(path, mode) as raw:
        stream = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
        yield stream
        stream.detach()


def replace_bytes(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of ``path``, all of it or nothing, durably.

    :raises StorageError: it can not be written; ``path`` is what it was before.
    """
    with storage_errors(path), _replacing_bytes(path, PRIVATE_FILE) as stream:
        stream.write(content)


def overwrite(path: Path, content: bytes) -> None:
    """Write over the beginning of a file, for where a new one has no room.

    Durable, but not atomic; a reader may find a part of it. The file's time of change is new for
    every call, however short the time between two.

    :raises StorageError: it is not there, or can not be written.
    """
    with storage_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if os.pwrite(descriptor, content, 0) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # the kernel's clock is a coarse one
            os.utime(descriptor, ns=(time.time_ns(), time.time_ns()))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_full(folder: Path) -> bool:
    """Whether a folder has no room for even a small file, because of its disk or of a quota."""
    draft = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            draft.unlink()
            # zeros would take no room where the file system compresses
            probe = os.urandom(_PROBE_BYTES)
            while probe:  # a limit on the size of files is told by the next write alone
                probe = probe[os.write(descriptor, probe) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno in _NO_ROOM
    return False


@contextmanager
def _replacing_bytes(path: Path, mode: int) -> Iterator[BinaryIO]:
    # not derived from the name, which may have the greatest length that is allowed
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    :raises OSError: it can not be opened or written.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
