"""Folders: those that ``~`` stands for, and on which kind of file system one lies, because SQLite's
WAL is unsafe over a network."""

from __future__ import annotations

import re
from pathlib import Path

from engine.errors import StorageError

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"9p|acfs|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs\d?|ocfs2"
    r"|orangefs|pvfs2|smb.*|vboxsf|virtiofs"
    r"|fuse\.(ceph|davfs2?|gcsfuse|glusterfs|goofys|juicefs|rclone|s3fs|smbnetfs|sshfs|vmhgfs.*)"
)


def home_expanded(text: str) -> Path:
    """A path whose ``~`` or ``~user`` is the folder it stands for.

    Where there is no such user it is left as it is, as a shell does.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


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
