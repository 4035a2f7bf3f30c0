"""Run folders: making, finding and deleting them.

A folder of runs holds, per run, ``<id>/{config.yaml, run.db, desired.json, lock, checkpoints/}``.
Names that begin with a dot are folders being made or deleted; no run is called like that.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine.atomic_files import PRIVATE_FOLDER, storage_errors, sync_folder
from engine.clock import now
from engine.control import Desired
from engine.errors import ConfigError, StorageError
from engine.filesystems import home_expanded, require_local
from engine.locks import write_created
from engine.own_files import LEFT, RUN, Names, is_left_over, refuse_foreign, remove_own
from engine.run import Run

if TYPE_CHECKING:
    from engine.config import RunConfig

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BASE32 = _LETTERS + "234567"
_ID_LENGTH = 8
_LATEST = "latest"
_NEW = re.compile(r"\.new-[a-z0-9_]{8}")
_DELETED = re.compile(r"\.deleted-[a-z0-9-]{1,32}-[0-9a-f]{8}")
_SHOWN_CANDIDATES = 8
_LEFT_BEHIND_SECONDS = 3600
"""Age of a folder that nobody is making into a run any more; that takes milliseconds."""


def default_root() -> Path:
    """Where runs live: ``$PROXPROP_DIR``, else ``proxprop/runs`` in the user's data folder."""
    chosen = os.environ.get("PROXPROP_DIR")
    if chosen:
        return home_expanded(chosen)
    # costs time at every start and is not needed where the variable or an option is given
    import platformdirs

    return platformdirs.user_data_path("proxprop", appauthor=False) / "runs"


def is_valid_id(text: str) -> bool:
    """Whether ``text`` may name a run's folder: up to 64 of ``a-z``, ``0-9`` and inner ``-``."""
    return text != _LATEST and _ID.fullmatch(text) is not None


class Runs:
    """The runs in one folder, which need not exist before the first run."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = now) -> None:
        """Look at a folder of runs; nothing is created.

        :param clock: seconds since the epoch, for the creation time of runs.
        """
        self.root = root
        self._clock = clock
        self._has_tidied = False

    def create(self, config: RunConfig, *, id: str | None = None) -> Run:
        """Make a run that waits for its trainer; other processes see all of it or nothing.

        :param id: folder name to use instead of a random one.
        :raises ConfigError: ``id`` is not valid or is in use.
        :raises StorageError: the folder can not be written, or is on a network file system.
        """
        if id is not None and not is_valid_id(id):
            raise _invalid(id, "use up to 64 of a-z, 0-9 and -")
        require_local(self.root)
        with storage_errors(self.root):
            self.root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            draft = Run(Path(tempfile.mkdtemp(prefix=".new-", dir=self.root)))
            try:
                made = self._clock()
                write_created(draft.lock_file, made)
                with draft.lock():  # who tidies up leaves it alone
                    self._fill(draft, config, made)
                    run = self._publish(draft, id)
            except BaseException:
                with suppress(StorageError):
                    remove_own(draft.path, RUN)
                raise
            sync_folder(self.root)
        self._tidy()
        return run

    def find(self, ref: str) -> Run:
        """The run that a person means.

        :param ref: an id, the beginning of just one, the name of just one, or ``latest``.
        :raises ConfigError: no run or more than one is meant, or it is no folder of ours.
        """
        if is_valid_id(ref) and _is_there(self.root / ref):
            return self._open(ref)
        runs = self.all()
        if ref == _LATEST:
            if not runs:
                raise ConfigError(f"there are no runs in {self.root} yet; start one with train")
            return runs[0]
        meant = [run for run in runs if (ref and run.id.startswith(ref)) or run.name == ref]
        if len(meant) > 1:
            shown = ", ".join(_label(run) for run in meant[:_SHOWN_CANDIDATES])
            more = len(meant) - _SHOWN_CANDIDATES
            suffix = f" and {more} more" if more > 0 else ""
            raise ConfigError(f"{ref!r} could be any of {shown}{suffix}; give more of the id")
        if meant:
            return meant[0]
        if not ref or ref.startswith(".") or re.search(r"[/\\\x00]", ref):
            raise _invalid(ref, "give an id, a unique beginning of one, a name or 'latest'")
        raise ConfigError(f"no run {ref!r} in {self.root}{_nearest(ref, runs)}")

    def all(self) -> list[Run]:
        """Every run, newest first; what is not a run is passed over.

        :raises StorageError: the folder can not be listed.
        """
        with storage_errors(self.root):
            try:
                names = [entry.name for entry in os.scandir(self.root) if not entry.is_symlink()]
            except FileNotFoundError:
                return []
        runs = [Run(self.root / name) for name in names if is_valid_id(name)]
        found = [run for run in runs if run.exists()]
        return sorted(found, key=lambda run: (run.created, run.id), reverse=True)

    def delete(self, run: Run) -> None:
        """Delete a run; other processes see all of it or nothing.

        :raises BusyError: a process trains it.
        :raises StorageError: it can not be deleted, or there are files in it that the program did
            not write; nothing was deleted then.
        """
        with run.lock():
            self.remove(run.path, RUN)

    def remove(self, folder: Path, names: Names) -> None:
        """Remove a folder of ours, whose lock the caller holds, all of it or nothing.

        :raises StorageError: as :meth:`delete`.
        """
        refuse_foreign(folder, names)
        with storage_errors(folder):
            hidden = self.root / f".deleted-{folder.name[:32]}-{secrets.token_hex(4)}"
            folder.rename(hidden)
            sync_folder(self.root)
        remove_own(hidden, names)
        # also what a process that died here has left
        for left in self._hidden(_DELETED):
            with suppress(OSError, StorageError):
                if is_left_over(left):
                    remove_own(left, LEFT)

    def _tidy(self) -> None:
        """Delete what processes that died making a run have left; once."""
        if not self._has_tidied:
            self._has_tidied = True
            for left in self._hidden(_NEW):
                with suppress(OSError, StorageError):
                    is_old = self._clock() - left.lstat().st_mtime > _LEFT_BEHIND_SECONDS
                    if is_old and is_left_over(left) and not Run(left).is_live():
                        remove_own(left, LEFT)

    def _hidden(self, name: re.Pattern[str]) -> list[Path]:
        """Folders of ours that are no runs."""
        with storage_errors(self.root), os.scandir(self.root) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]

    def _open(self, id: str) -> Run:
        run = Run(self.root / id)
        if run.path.is_symlink():
            raise _invalid(id, f"it is a link out of {self.root}")
        if not run.exists():
            raise _invalid(id, f"{run.path} is no run: it has no config.yaml")
        return run

    def _fill(self, draft: Run, config: RunConfig, made: float) -> None:
        draft.save_config(config)
        draft.checkpoints.mkdir(mode=PRIVATE_FOLDER)
        from engine.config import brief
        from engine.store import StoreWriter

        with StoreWriter.create(draft.database, clock=lambda: made) as writer:
            writer.set_state({"config": brief(config)})
            writer.commit()
        # there from the start, so that a word can also be left where the disk is full
        draft.set_desired(Desired.RUNNING)
        sync_folder(draft.path)

    def _publish(self, draft: Run, id: str | None) -> Run:
        while True:
            target = self.root / (id or _new_id())
            if not _is_there(target):
                try:
                    return Run(draft.path.rename(target))
                except OSError:
                    # renaming never replaces a run, because that folder is not empty
                    if not _is_there(target):
                        raise
            if id is not None:
                raise ConfigError(f"run {id!r} exists already in {self.root}")


def _new_id() -> str:
    rest = (secrets.choice(_BASE32) for _ in range(_ID_LENGTH - 1))
    return secrets.choice(_LETTERS) + "".join(rest)


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _label(run: Run) -> str:
    name = run.name
    return f"{run.id} ({name!r})" if name else run.id


def _invalid(id: str, fix: str) -> ConfigError:
    return ConfigError(f"invalid run id {id!r}: {fix}")


def _nearest(ref: str, runs: Sequence[Run]) -> str:
    known = [run.id for run in runs] + [run.name for run in runs if run.name]
    near = difflib.get_close_matches(ref, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "; 'proxprop runs list' shows what there is"
