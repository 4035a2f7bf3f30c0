"""One run folder: its configuration, its status, its lock and what a person wants it to do."""

from __future__ import annotations

import functools
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.atomic_files import overwrite, storage_errors
from engine.control import Desired
from engine.errors import BusyError, ConfigError, StorageError, StorageFullError
from engine.locks import RunLock, is_locked, read_created
from engine.own_files import (
    RUN,
    is_own_file,
    open_own,
    read_own,
    replace_own,
    require_own_folder,
)
from engine.store_opening import mark_of
from engine.store_reader import StoreReader

if TYPE_CHECKING:
    # what needs a moment to load is loaded where a configuration is read or written
    from engine.config import RunConfig

WAITING_FOR_ROOM = "waiting for room"
"""What people are told of a run where :meth:`Run.is_waiting`, in the place of its status."""
_REQUEST_BYTES = 4096
"""Of the file, whatever it says: a block of most disks, so that another word always has room."""
_ROOM_BYTES = 1 << 16
"""Enough for a commit of some lines to the log of the store."""
_KNOWN_RUNS = 10_000
_NAME_LINES = re.compile(r"^name:.*(?:\n[ \t]+.*|\n(?=\n))*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Request:
    """What a person wants a run to do, and why."""

    desired: Desired
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A run by its folder; asking it costs a look at the disk every time."""

    path: Path

    @property
    def id(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def database(self) -> Path:
        """The store, for :mod:`engine.store`."""
        return self.path / "run.db"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def lock_file(self) -> Path:
        """What the trainer locks; nothing but :mod:`engine.locks` may open it."""
        return self.path / "lock"

    @property
    def request_file(self) -> Path:
        """Where :meth:`set_desired` leaves its word."""
        return self.path / "desired.json"

    @property
    def created(self) -> float:
        """Seconds since the epoch; 0 where neither the lock nor the store tells.

        Times of files are no help: a copy of the folder has others.
        """
        found = read_created(self.lock_file)
        if found is not None:
            return found
        mark = mark_of(self.database)
        return 0.0 if mark is None else _created_of(self.database, mark.file)

    @property
    def name(self) -> str | None:
        """The label in the configuration, read without parsing all of it (which is slow)."""
        from engine import strict_yaml

        try:
            found = _NAME_LINES.search(self._config_bytes().decode())
            name = strict_yaml.parse(found[0], self.id)["name"] if found else None
        except (ConfigError, StorageError, UnicodeDecodeError):
            return None
        return name if isinstance(name, str) else None

    def exists(self) -> bool:
        """Whether there is a run in the folder; also if it can not be looked into."""
        try:
            return self._config_file.is_file()
        except OSError:
            return True

    def config(self) -> RunConfig:
        """What the run does.

        :raises ConfigError: the file was changed and is wrong now.
        :raises StorageError: it can not be read.
        """
        from engine import strict_yaml
        from engine.config import validate

        source = f"{self.id}/{self._config_file.name}"
        try:
            text = self._config_bytes().decode()
        except UnicodeDecodeError as error:
            raise StorageError(f"{self._config_file}: not UTF-8 text") from error
        return validate(strict_yaml.parse(text, source), source=source)

    def save_config(self, config: RunConfig) -> None:
        """Replace the configuration.

        :raises StorageError: it can not be written; the old one is still there.
        """
        from engine.config import dump

        replace_own(self._config_file, dump(config).encode())

    def lock(self, wait: float = 1.0) -> RunLock:
        """Take the exclusive right to write the run; release it by ``with``.

        :param wait: seconds to try while readers probe.
        :raises BusyError: another process has the run, or may have it: its lock was deleted, and
            the store says that it is being trained.
        :raises StorageError: it can not be locked, or something of it is a link.
        """
        require_own_folder(self.path)
        require_own_folder(self.checkpoints)
        if not self.lock_file.exists() and self.database.exists() and self._may_be_trained():
            raise BusyError(
                f"run {self.id}: its lock file was deleted, so nobody can tell whether it is being "
                f"trained; if it is not, make the file anew: touch {self.lock_file}"
            )
        return RunLock(self.lock_file, wait=wait)

    def is_live(self) -> bool:
        """Whether a process has the run; nothing is created by asking.

        :raises StorageError: the lock is there, but can not be probed.
        """
        return is_locked(self.lock_file)

    def request(self) -> Request | None:
        """The last word of a person; none if there is none that can be read."""
        try:
            found = json.loads(read_own(self.request_file, _REQUEST_BYTES))
            return Request(Desired(found["desired"]), str(found.get("reason", "")))
        except (
            OSError,
            StorageError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            RecursionError,
        ):
            return None

    def desired(self) -> Desired:
        """What the run should do; ``RUNNING`` where nobody said anything that can be read.

        The file is replaced atomically, so only something foreign can have damaged it. To go on
        then loses nothing, and the next :meth:`set_desired` repairs it.
        """
        request = self.request()
        return request.desired if request else Desired.RUNNING

    def set_desired(self, desired: Desired, reason: str = "") -> None:
        """Say what the run should do; it stays said when both processes die.

        Where the disk is full, the word takes the place of the last one in its file.

        :param reason: why, at most 200 characters of it; shown where the run ends because of it.
        :raises StorageError: it can not be written; the old word still holds.
        """
        text = json.dumps({"desired": desired.value, "reason": reason[:200]})
        content = text.ljust(_REQUEST_BYTES - 1).encode() + b"\n"
        try:
            replace_own(self.request_file, content)
        except StorageFullError as full:
            try:
                overwrite(self.request_file, content)
            except StorageError:
                raise StorageFullError(f"{full}; free some space and try again") from full

    def set_waiting(self, waiting: bool) -> None:
        """Leave word that the trainer waits for room on the disk, or take it away, if possible."""
        with suppress(OSError, StorageError):
            if waiting:
                os.close(open_own(self._waiting_file, os.O_WRONLY | os.O_CREAT))
            elif self._is_ours(self._waiting_file, 0):
                self._waiting_file.unlink(missing_ok=True)

    def set_room_aside(self) -> None:
        """Take a little room on the disk, if there is any, for the last words of a training."""
        with suppress(OSError, StorageError):
            if not self._is_ours(self._room_file, _ROOM_BYTES):
                return
            descriptor = open_own(self._room_file, os.O_WRONLY | os.O_CREAT)
            try:
                # zeros would take no room where the file system compresses
                os.write(descriptor, os.urandom(_ROOM_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def give_room_back(self) -> None:
        """Let go of what :meth:`set_room_aside` took."""
        with suppress(OSError):
            if self._is_ours(self._room_file, _ROOM_BYTES):
                self._room_file.unlink(missing_ok=True)

    def is_waiting(self) -> bool:
        """Whether a trainer waits for room on the disk."""
        return is_own_file(self._waiting_file, RUN) and self.is_live()

    def status(self) -> str:
        """How the run is: its stored status, or ``interrupted`` if its process died running.

        A run whose process died while it was paused is still ``paused``: it waits to be told.

        :raises StorageError: the store can not be read.
        """
        status = self._stored_status()
        if status == "running" and not self.is_live():
            # it may have ended between our two looks; if so, its last word is stored by now
            status = self._stored_status()
            return "interrupted" if status == "running" else status
        return status

    def request_signature(self) -> tuple[int, int, int] | None:
        """Changes when :meth:`set_desired` was called; cheaper than reading."""
        try:
            found = self.request_file.lstat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def written_ns(self) -> int:
        """When its store was written last, in nanoseconds since the epoch; 0: it never was."""
        found = 0
        for name in (self.database.name, f"{self.database.name}-wal"):
            with suppress(OSError):
                stat = (self.path / name).lstat()
                if stat.st_size:  # a reader may leave an empty log behind
                    found = max(found, stat.st_mtime_ns)
        return found

    def _is_ours(self, path: Path, size: int) -> bool:
        """Whether a file of a common name is not there, or as we write it: somebody may have
        another one."""
        if not os.path.lexists(path):
            return True
        return is_own_file(path, RUN) and path.stat().st_size in (0, size)

    def _config_bytes(self) -> bytes:
        from engine.strict_yaml import MAX_BYTES

        with storage_errors(self._config_file):
            return read_own(self._config_file, MAX_BYTES)

    def _stored_status(self) -> str:
        with StoreReader(self.database) as reader:
            return str(reader.state().get("status", "created"))

    def _may_be_trained(self) -> bool:
        try:
            return self._stored_status() in ("running", "paused")
        except StorageError:
            return True

    @property
    def _room_file(self) -> Path:
        return self.path / "room"

    @property
    def _waiting_file(self) -> Path:
        return self.path / "waiting"

    @property
    def _config_file(self) -> Path:
        return self.path / "config.yaml"


@functools.lru_cache(_KNOWN_RUNS)
def _created_of(database: Path, file: tuple[int, int]) -> float:
    """When a run of an earlier version was made, as its store has it.

    :param file: which file it is: another one may be of another run.
    """
    try:
        with StoreReader(database) as reader:
            return float(reader.state().get("created", 0.0))
    except StorageError:
        return 0.0
