"""What is ours is opened and removed; links, pipes and files of others are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import StorageError
from engine.own_files import (
    RUN,
    is_own_file,
    open_own,
    read_own,
    refuse_foreign,
    remove_own,
    replace_own,
    require_own_database,
    require_own_folder,
)

OWN = (
    "config.yaml",
    "run.db",
    "run.db-wal",
    "desired.json",
    "lock",
    "train.log",
    ".0123456789abcdef.tmp",
    "checkpoints/000000012.json",
    "checkpoints/1000000000.safetensors",
    "checkpoints/.0123456789abcdef.tmp",
    ".copy-abcd_123/run.db",
)
FOREIGN = (
    "NOTES.txt",
    ".hidden",
    ".0123.tmp",
    "run.db.bak",
    "checkpoints/12.json",
    "checkpoints/paper-final.safetensors",
    "checkpoints/mine/000000012.json",
    "figures/a.pdf",
    ".copy-mine/run.db",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    for name in OWN:
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"ours")
    return made


def put(path: Path, content: bytes = b"theirs") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_folder_of_our_own_goes_whole(folder: Path) -> None:
    put(folder / ".DS_Store")
    refuse_foreign(folder, RUN)
    remove_own(folder, RUN)
    assert not folder.exists()
    remove_own(folder, RUN)  # nothing is left to do


@pytest.mark.parametrize("name", FOREIGN)
def test_what_somebody_put_there_stays(folder: Path, name: str) -> None:
    theirs = put(folder / name)
    with pytest.raises(StorageError, match="not written by proxprop; move it away"):
        refuse_foreign(folder, RUN)
    with pytest.raises(StorageError, match="not written by proxprop, so it was not removed"):
        remove_own(folder, RUN)
    assert theirs.read_bytes() == b"theirs"
    assert not (folder / "run.db").exists()


@pytest.mark.parametrize("name", ["checkpoints", "run.db", "lock", "checkpoints/000000012.json"])
def test_links_are_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    (folder / name).rename(target)
    content = put(target / "000000001.json") if target.is_dir() else target
    before = content.read_bytes()
    (folder / name).symlink_to(target)
    with pytest.raises(StorageError):
        refuse_foreign(folder, RUN)
    with pytest.raises(StorageError):
        remove_own(folder, RUN)
    assert (folder / name).is_symlink()
    assert content.read_bytes() == before


def test_a_folder_that_is_a_link_is_not_entered(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(StorageError, match="found a link"):
        refuse_foreign(link, RUN)
    with pytest.raises(StorageError, match="found a link"):
        require_own_folder(link)
    remove_own(link, RUN)
    assert (folder / "run.db").exists()
    assert link.is_symlink()


def replace_by(kind: str, path: Path, tmp_path: Path) -> None:
    path.unlink(missing_ok=True)
    target = put(tmp_path / "precious")
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_only_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    replace_by(kind, path, tmp_path)
    word = kind.split()[-1]
    for action in (
        lambda: open_own(path),
        lambda: open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        lambda: read_own(path, 100),
        lambda: replace_own(path, b"new"),
    ):
        with pytest.raises(StorageError, match=f"found a {word}"):
            action()
    assert not is_own_file(path, RUN)
    assert (tmp_path / "precious").read_bytes() == b"theirs"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_database_is_no_link_nor_what_is_beside_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "run.db"
    require_own_database(path)
    put(path)
    require_own_database(path)
    replace_by("link", path.with_name(f"run.db{suffix}"), tmp_path)
    with pytest.raises(StorageError, match="found a link"):
        require_own_database(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(StorageError, match="expected at most 100 bytes, found 1000000000000"):
        read_own(path, 100)
    assert read_own(put(path, b"x" * 100), 100) == b"x" * 100
    with pytest.raises(FileNotFoundError):
        read_own(tmp_path / "missing", 100)
