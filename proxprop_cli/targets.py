"""Checks on where a person wants a file, before anything is computed."""

from __future__ import annotations

import stat
from pathlib import Path

from engine.atomic_files import storage_errors
from engine.errors import ConfigError, StorageError
from engine.own_files import is_of_run


def check_target(
    path: Path, *, force: bool, option: str = "--output", streams: bool = False
) -> None:
    """See, before anything is computed, that a file can be written where a person wants one.

    :param force: a file that is there may be replaced; nothing else ever is.
    :param option: where the path was given, for errors.
    :param streams: a pipe or a terminal may be there, to be written to.
    :raises ConfigError: there is a file already, or something that is none.
    :raises StorageError: there is no folder for it, or nobody can tell.
    """
    refuse_run_folder(path, option)
    with storage_errors(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            if not path.resolve().parent.is_dir():
                raise StorageError(f"{option}: {path}: there is no such folder") from None
            return
    if stat.S_ISREG(mode):
        if not force:
            raise ConfigError(f"{option}: {path} is there already; --force replaces it")
    elif not (streams and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))):
        found = "a folder" if stat.S_ISDIR(mode) else "something else"
        raise ConfigError(f"{option}: {path}: expected a file, found {found}")


def refuse_run_folder(path: Path, option: str = "--output") -> None:
    """Check that a file or folder to be written is not part of a run or a sweep.

    :raises ConfigError: it is one, or lies in one.
    """
    if is_of_run(path / "file") or is_of_run(path):
        raise ConfigError(f"{option}: {path} is in the folder of a run or a sweep; choose another")
