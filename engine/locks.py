"""Who has a run: a lock that the operating system drops when its holder dies.

It is a ``flock``: it belongs to the opened file, so nobody else may open the file and hand it on,
and a child made by ``fork`` keeps it alive. Processes are therefore spawned, and the descriptor is
not inherited by them.
"""

from __future__ import annotations

import fcntl
import math
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from engine.atomic_files import PRIVATE_FILE, storage_errors
from engine.control import Control, Desired
from engine.errors import BusyError, StorageError
from engine.own_files import open_own, read_own

_LOOK_SECONDS = 0.05
_MAX_BYTES = 64
"""Of the file, which holds the moment when the run was made."""
_PATIENCE_WITH_HOLDER = 0.25
"""Seconds a killed process may take to leave; a living one does not let go that soon."""


class RunLock:
    """The exclusive right to write a run, held until :meth:`release` or the end of the process."""

    def __init__(self, path: Path, *, wait: float = 1.0) -> None:
        """Take the lock.

        :param wait: seconds to try while readers probe. A process that really holds the lock is
            told from them and is not waited for that long.
        :raises BusyError: another process has the run, or the run was deleted meanwhile.
        :raises StorageError: the file can not be opened or locked.
        """
        self._path = path
        with storage_errors(path):
            self._descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
            try:
                self._acquire(wait)
                self._check_place()
            except BaseException:
                self.release()
                raise

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let go; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def keep(self) -> None:
        """See that the file is still the one that is locked; where it was deleted, put another one
        there, locked too.

        :raises BusyError: another file is there, by which another process may have the run.
        :raises StorageError: the folder is gone.
        """
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            if not os.path.lexists(self._path.parent):
                raise StorageError(
                    f"run {self._path.parent.name} was deleted while it was trained"
                ) from None
            # without it nobody else may start, so it can also wait until there is room
            with suppress(OSError):
                self._put_back()
            return
        except OSError:
            return
        if not os.path.samestat(there, os.fstat(self._descriptor)):
            raise BusyError(
                f"run {self._path.parent.name}: its lock was replaced by another file, so another "
                "process may have it; nothing more was written"
            )

    def _put_back(self) -> None:
        """Locked before it has the name, and only if nobody else put one there."""
        draft = self._path.with_name(f".{secrets.token_hex(8)}.tmp")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, os.pread(self._descriptor, _MAX_BYTES, 0))
            os.link(draft, self._path)
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            draft.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _acquire(self, wait: float) -> None:
        start = time.monotonic()
        while not _try_lock(self._descriptor, fcntl.LOCK_EX):
            # readers share the lock for a moment and let us share it too; a holder does not
            shared = _try_lock(self._descriptor, fcntl.LOCK_SH)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            patience = wait if shared else min(wait, _PATIENCE_WITH_HOLDER)
            if time.monotonic() - start >= patience:
                raise BusyError(f"run {self._path.parent.name} is in use by another process")
            # of two that start together, neither must always probe just when the other tries
            time.sleep(0.002 + os.urandom(1)[0] % 8 / 1000)

    def _check_place(self) -> None:
        """Another process may have deleted the run between our opening and locking of its file."""
        ours = os.fstat(self._descriptor)
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise BusyError(f"run {self._path.parent.name} was deleted by another process")


class LockWatch:
    """A control that also looks, now and then, whether the lock still keeps others away, and
    whether the database is still there.

    Its :meth:`desired` raises :class:`BusyError` or :class:`StorageError` where they are not.
    """

    def __init__(
        self,
        lock: RunLock,
        control: Control,
        database: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch over a lock.

        :param control: says what is wanted.
        :param database: of the run.
        :param clock: seconds from any start.
        """
        self._lock = lock
        self._control = control
        self._database = database
        self._file = file_of(database)
        self._clock = clock
        self._next_look = -float("inf")

    def desired(self) -> Desired:
        """What the run should do now."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._lock.keep()
            refuse_other_file(self._database, self._file)
        return self._control.desired()

    def stop_reason(self) -> str:
        """Why it should stop."""
        return self._control.stop_reason()


def file_of(path: Path) -> tuple[int, int] | None:
    """Which file it is, whatever is written to it; None: there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_other_file(path: Path, before: tuple[int, int] | None) -> None:
    """See that a file that is open is still the one that has its name: what is written to it would
    be lost.

    :param before: what :func:`file_of` said when it was opened.
    :raises StorageError: it was deleted or replaced.
    """
    now = file_of(path)
    if before is not None and before != now:
        what = "deleted" if now is None else "replaced by another file"
        raise StorageError(
            f"{path} was {what} while the run was trained; nothing more is kept of it"
        )


def write_created(path: Path, moment: float) -> None:
    """Make the file of a lock that says when its run was made, in seconds since the epoch.

    The content is written before anybody can lock it and never again. It is there beside the
    store's own ``created`` so that a thousand runs are sorted without opening as many databases.

    :raises FileExistsError: there is one.
    """
    with open(path, "xb", opener=_private) as stream:
        stream.write(repr(moment).encode())


def read_created(path: Path) -> float | None:
    """What :func:`write_created` wrote; None where nothing can be read, as of earlier versions."""
    try:
        moment = float(read_own(path, _MAX_BYTES))
    except (OSError, StorageError, ValueError):
        return None
    return moment if 0.0 <= moment < math.inf else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


def is_locked(path: Path) -> bool:
    """Whether a process has the exclusive lock; nothing is created by asking.

    :raises StorageError: the file is there, but can not be opened or probed.
    """
    with storage_errors(path):
        try:
            descriptor = open_own(path)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
