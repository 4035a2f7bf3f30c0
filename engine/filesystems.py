"""Folders: those that ``~`` stands for, and on which kind of file system one lies, because SQLite's
WAL is unsafe over a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine.errors import ConfigError, StorageError

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"9p|acfs|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs\d?|ocfs2"
    r"|orangefs|pvfs2|smb.*|vboxsf|virtiofs"
    r"|fuse\.(ceph|davfs2?|gcsfuse|glusterfs|goofys|juicefs|rclone|s3fs|smbnetfs|sshfs|vmhgfs.*)"
)


def home_expanded(text: str) -> Path:
    """A path whose ``~`` or ``~user`` is the folder it stands for.

    :raises ConfigError: there is no such user.
    :raises StorageError: it lies in the home folder, and there is none.
    """
    path = Path(text)
    if not text.startswith("~"):
        return path
    user = path.parts[0]
    if user == "~":
        return in_home(path.expanduser, "the whole path")
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):  # the latter of a name with a NUL
        raise ConfigError(
            f"{text}: there is no user {user[1:]!r}; write ./{text} for a folder of that name"
        ) from None


def in_home(find: Callable[[], Path], instead: str) -> Path:
    """A path that begins with the home folder.

    :param find: gives it.
    :param instead: what to give where there is none.
    :raises StorageError: there is none.
    """
    with suppress(RuntimeError):
        path = find()
        if path.is_absolute():
            return path
    raise StorageError(
        "there is no home folder (HOME is no absolute path, and the system does not know this "
        f"user); give {instead}"
    )


def require_local(folder: Path) -> None:
    """Accept a folder, there already or not, in which a database can be shared by processes.

    :raises StorageError: it would lie on a network file system.
    """
    kind = filesystem(folder)
    if kind is not None and _NETWORK.fullmatch(kind):
        raise StorageError(
            f"{folder} is on a network file system ({kind}), where a run's database can be damaged;"
            " choose a local folder with --dir or PROXPROP_DIR"
        )


def filesystem(path: Path, *, mounts: Path = _MOUNTS) -> str | None:
    """Type of the file system of ``path``, such as ``ext4``.

    :param path: may not exist yet; then its nearest parent counts.
    :param mounts: table in the format of Linux's ``/proc/self/mountinfo``.
    :returns: none where the system has no such table (macOS) or it does not tell.
    """
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    resolved = path.resolve()
    kind, depth = None, 0
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        # of two mounts on one folder the later hides the earlier
        if resolved.is_relative_to(mount) and len(mount.parts) >= depth:
            kind, depth = after.split()[0], len(mount.parts)
    return kind
