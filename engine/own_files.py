"""What the program may read, write and remove in its folders: its own files, and nothing else.

A file is ours if it has one of our names, is a regular file, and is no link; a folder likewise.
Anything else in a run, a sweep, a store or a cache was put there by somebody: it is never followed,
overwritten or removed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.atomic_files import PRIVATE_FILE, replace_bytes, storage_errors
from engine.errors import StorageError

DRAFT = r"\.[0-9a-f]{16}\.tmp"
"""Names of the files that :mod:`engine.atomic_files` and :mod:`engine.locks` write first."""
_DATABASE = r"run\.db(-wal|-shm|-journal)?"
_MARKS = ("run.db", "sweep.json")
"""Files that tell a folder of ours from others."""
_LITTER = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.nfs[0-9a-f]+")
"""What file managers and network file systems leave in any folder."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a folder of ours may hold.

    :ivar files: pattern of the names of files.
    :ivar folders: by pattern of their names, what the folders within may hold.
    """

    files: str
    folders: Mapping[str, Names] = field(default_factory=dict)


CHECKPOINTS = Names(rf"\d{{9,18}}\.(safetensors|json)|{DRAFT}")
COPY = Names(_DATABASE)
RUN = Names(
    rf"config\.yaml|{_DATABASE}|(desired|diagnosis)\.json|lock|room|waiting|train\.log|{DRAFT}",
    {"checkpoints": CHECKPOINTS, r"\.copy-[a-z0-9_]{8}": COPY},
)
SWEEP = Names(rf"sweep\.json|desired\.json|lock|waiting|train\.log|{DRAFT}")


LEFT = Names(rf"{RUN.files}|{SWEEP.files}", RUN.folders)
"""What is left of a run or of a sweep by a death while it was made or deleted."""


def open_own(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file, and nothing that a link or a pipe in its place would lead to.

    :param flags: as for :func:`os.open`; a new file is its owner's alone.
    :returns: a descriptor.
    :raises FileNotFoundError: there is none.
    :raises StorageError: it is a link, a pipe, a folder or a device, or can not be opened.
    """
    with storage_errors(path, but=FileNotFoundError):
        with suppress(FileNotFoundError):
            require_own(path)  # says it better than what opening one raises
        # opening a pipe would wait for somebody at its other end
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, PRIVATE_FILE)
        try:
            _require_regular(path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def read_own(path: Path, limit: int) -> bytes:
    """All of a file.

    :param limit: in bytes; a larger one is refused before it is read.
    :raises FileNotFoundError: there is none.
    :raises StorageError: as :func:`open_own`, or it is too large.
    """
    descriptor = open_own(path)
    with storage_errors(path), os.fdopen(descriptor, "rb") as stream:
        size = os.fstat(descriptor).st_size
        # not by the limit: as much memory as is asked for is taken at once
        content = stream.read(size + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise StorageError(f"{path}: expected at most {limit} bytes, found {size}")
    return content


def replace_own(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of a file of ours, all of it or nothing, durably.

    :raises StorageError: there is something else in its place, or it can not be written; what was
        there before stays.
    """
    with suppress(FileNotFoundError):
        require_own(path)
    replace_bytes(path, content)


def require_own(path: Path) -> None:
    """See that a path that something else is going to open is a regular file.

    :raises FileNotFoundError: it is not there.
    :raises StorageError: it is a link, a pipe, a folder or a device.
    """
    with storage_errors(path, but=FileNotFoundError):
        _require_regular(path, path.lstat())


def require_own_database(path: Path) -> None:
    """See that a database and what SQLite keeps beside it are regular files, as far as they are
    there: it would follow links.

    :raises StorageError: one is something else.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            require_own(path.with_name(f"{path.name}{suffix}"))


def require_own_folder(path: Path) -> None:
    """See that a folder that is there is no link and nothing else.

    :raises StorageError: it is.
    """
    with storage_errors(path):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise StorageError(
                f"{path}: expected a folder of proxprop, found {_kind(mode)}; move it away"
            )


def is_own_folder(path: Path) -> bool:
    """Whether it is a folder and no link."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def is_own_file(path: Path, names: Names) -> bool:
    """Whether an entry of a folder is a regular file with one of our names."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and re.fullmatch(names.files, path.name) is not None


def is_of_run(path: Path) -> bool:
    """Whether a path, which need not exist, lies in the folder of a run or of a sweep."""
    return any(
        is_own_file(folder / name, LEFT) for folder in path.resolve().parents[:2] for name in _MARKS
    )


def is_left_over(folder: Path) -> bool:
    """Whether a folder is what a death left of a run or a sweep, by what is in it."""
    return is_own_folder(folder) and (
        not any(folder.iterdir()) or any(is_own_file(folder / name, LEFT) for name in _MARKS)
    )


def refuse_foreign(folder: Path, names: Names) -> None:
    """See that a folder that is to be removed holds nothing that the program did not write.

    :raises StorageError: it does, is a link, or can not be listed.
    """
    require_own_folder(folder)
    foreign = _foreign(folder, names)
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise StorageError(
            f"{foreign[0]}{more}: not written by proxprop; move it away to delete {folder.name}"
        )


def remove_own(folder: Path, names: Names) -> None:
    """Remove what is ours of a folder, and the folder itself if nothing else is in it.

    A folder that is not there is no error.

    :raises StorageError: something could not be removed, or is not ours.
    """
    with storage_errors(folder):
        for path, what in _entries(folder, names):
            if what == "file":
                path.unlink(missing_ok=True)
            elif what == "folder":
                path.rmdir()
        left = _foreign(folder, names)
        if left:
            raise StorageError(f"{left[0]}: not written by proxprop, so it was not removed")
        if folder.is_dir() and not folder.is_symlink():
            folder.rmdir()


def _foreign(folder: Path, names: Names) -> list[Path]:
    return sorted(path for path, what in _entries(folder, names) if what == "foreign")


def _entries(folder: Path, names: Names) -> Iterator[tuple[Path, str]]:
    """Every entry, those of a folder before it; it is a ``file``, a ``folder`` or ``foreign``."""
    with storage_errors(folder):
        try:
            if folder.is_symlink():
                raise NotADirectoryError
            # what tells that a folder is ours goes last
            order = sorted(os.scandir(folder), key=lambda entry: entry.name)
            found = sorted(order, key=lambda entry: entry.name in _MARKS)
        except (FileNotFoundError, NotADirectoryError):
            return
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            within = next(
                (kept for name, kept in names.folders.items() if re.fullmatch(name, entry.name)),
                None,
            )
            if within is None:
                yield path, "foreign"
            else:
                inner = list(_entries(path, within))
                yield from inner
                foreign = any(what == "foreign" for _, what in inner)
                if not foreign:
                    yield path, "folder"
        elif entry.is_file(follow_symlinks=False) and (
            re.fullmatch(names.files, entry.name) or _LITTER.fullmatch(entry.name)
        ):
            yield path, "file"
        else:
            yield path, "foreign"


def _require_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(
            f"{path}: expected a file of proxprop, found {_kind(found.st_mode)}; move it away"
        )


def _kind(mode: int) -> str:
    kinds: dict[str, Callable[[int], bool]] = {
        "a link": stat.S_ISLNK,
        "a folder": stat.S_ISDIR,
        "a pipe": stat.S_ISFIFO,
        "a socket": stat.S_ISSOCK,
        "a file": stat.S_ISREG,
    }
    return next((word for word, test in kinds.items() if test(mode)), "a device")
