"""Network file systems are told from local ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import filesystems
from engine.errors import StorageError


def test_the_deepest_and_last_mount_counts(tmp_path: Path) -> None:
    odd = tmp_path / "with space"
    table = tmp_path / "mountinfo"
    escaped = str(odd).replace(" ", r"\040")
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:5 / {escaped} rw,noatime shared:3 - tmpfs tmpfs rw\n"
        f"3 1 0:6 / {escaped} rw - fuse.sshfs host:/ rw\n"
        "garbage\n"
    )
    assert filesystems.filesystem(odd / "runs", mounts=table) == "fuse.sshfs"
    assert filesystems.filesystem(tmp_path / "with", mounts=table) == "ext4"
    assert filesystems.filesystem(tmp_path, mounts=tmp_path / "none") is None


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs"])
def test_kinds_of_network_file_systems(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "filesystem", lambda _: kind)
    with pytest.raises(StorageError, match=kind):
        filesystems.require_local(tmp_path)


@pytest.mark.parametrize("kind", [None, "ext4", "tmpfs", "overlay", "apfs", "fuseblk", "xfs"])
def test_local_file_systems_are_accepted(
    kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "filesystem", lambda _: kind)
    filesystems.require_local(tmp_path)
