"""Decoded once, kept whole or not at all, remade when the files or the cache change."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import verified
from engine.config import DataConfig
from engine.data import Arrays, Progress, cache, default_data_dir, prepare
from engine.data.imagefolder import ImageFolder
from engine.errors import DataError, StorageError
from tests.reliability.report import MORE, promise

DIGITS = DataConfig(name="digits")


def _folder(cache_dir: Path) -> Path:
    (folder,) = (cache_dir / "decoded").iterdir()
    return folder


def test_kept_arrays_are_mapped_and_plain(tmp_path: Path) -> None:
    found = prepare(DIGITS, cache_dir=tmp_path)
    assert isinstance(found.arrays.train_images, np.memmap)
    found.arrays.train_images[0] = 255  # what is written stays with who wrote it
    assert not (prepare(DIGITS, cache_dir=tmp_path).arrays.train_images[0] == 255).all()
    assert {path.name for path in _folder(tmp_path).iterdir()} == {
        "train_images.npy",
        "train_labels.npy",
        "test_images.npy",
        "test_labels.npy",
        "meta.json",
    }


def test_the_second_time_nothing_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(DIGITS, cache_dir=tmp_path)

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "_write", fail)
    assert prepare(DIGITS, cache_dir=tmp_path).digest == first.digest


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    one = prepare(DIGITS, cache_dir=tmp_path / "one").digest
    assert one == prepare(DIGITS, cache_dir=tmp_path / "two").digest
    assert len(one) == 64


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_a_damaged_cache_is_remade(tmp_path: Path, name: str, damage: str) -> None:
    first = prepare(DIGITS, cache_dir=tmp_path)
    images = np.array(first.arrays.train_images)
    path = _folder(tmp_path) / name
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        content = {"empty": b"", "truncated": whole[: len(whole) // 2], "garbage": b"\x80\x04x"}
        path.write_bytes(content[damage])
    again = prepare(DIGITS, cache_dir=tmp_path)
    assert again.digest == first.digest
    assert np.array_equal(again.arrays.train_images, images)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy"])
@pytest.mark.parametrize("process", ["this", "another"])
def test_a_flipped_bit_is_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, process: str
) -> None:
    first = prepare(DIGITS, cache_dir=tmp_path)
    path = _folder(tmp_path) / name
    whole = path.read_bytes()
    before = path.stat()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    # as a disk damages it
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    if process == "another":
        monkeypatch.setattr(verified, "is_known", lambda mark: False)
    again = prepare(DIGITS, cache_dir=tmp_path)
    assert again.digest == first.digest
    assert path.read_bytes() == whole
    assert [folder.name for folder in (tmp_path / "decoded").iterdir()] == [path.parent.name]


def test_another_scale_is_decoded_anew(tmp_path: Path) -> None:
    prepare(DIGITS, cache_dir=tmp_path)
    path = _folder(tmp_path) / "meta.json"
    text = path.read_text()
    path.write_text(text.replace('"scale": 16', '"scale": 17'))
    assert path.read_text() != text
    assert prepare(DIGITS, cache_dir=tmp_path).arrays.scale == 16


def test_arrays_are_hashed_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Arrays] = []
    hash_ = cache._digest

    def count(arrays: Arrays) -> str:
        hashed.append(arrays)
        return hash_(arrays)

    monkeypatch.setattr(cache, "_digest", count)
    prepare(DIGITS, cache_dir=tmp_path)
    assert len(hashed) == 2  # as written, and as read back
    prepare(DIGITS, cache_dir=tmp_path)
    assert len(hashed) == 2
    known = verified.known()
    monkeypatch.setattr(verified, "is_known", lambda mark: False)  # as in another process
    prepare(DIGITS, cache_dir=tmp_path)
    assert len(hashed) == 3
    monkeypatch.setattr(verified, "is_known", known.__contains__)  # which was told of them
    prepare(DIGITS, cache_dir=tmp_path)
    assert len(hashed) == 3


def test_a_changed_file_is_decoded_anew(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for part in ("train", "test"):
            path = tmp_path / "images" / part / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (2, 2), 1).save(path)
    config = DataConfig(name="imagefolder", root=str(tmp_path / "images"))
    first = prepare(config, cache_dir=tmp_path / "cache")
    Image.new("L", (2, 2), 2).save(path)
    os.utime(path, ns=(1, 1))
    second = prepare(config, cache_dir=tmp_path / "cache")
    assert first.digest != second.digest
    assert second.arrays.test_images.max() == 2


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left on device"):
        prepare(DIGITS, cache_dir=tmp_path)
    assert list((tmp_path / "decoded").iterdir()) == []


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROXPROP_DATA_DIR", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("PROXPROP_DATA_DIR")
    assert default_data_dir().parts[-2:] == ("proxprop", "data")


def test_a_file_that_was_written_over_is_decoded_anew(tmp_path: Path) -> None:
    """Though its size and the time of its contents are what they were."""
    random = np.random.default_rng(0)
    digests = set()
    for _ in range(2):
        for name in ("a", "b", "a", "b"):
            path = tmp_path / "images" / name / "0.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (4, 4), np.uint8)).save(path)
            os.utime(path, (1e9, 1e9))
        config = DataConfig(name="imagefolder", root=str(tmp_path / "images"))
        digests.add(prepare(config, cache_dir=tmp_path / "cache").digest)
        time.sleep(0.02)  # the kernel's clock is a coarse one
    assert len(digests) == 2
    # what was decoded before is of no use any more
    assert len(list((tmp_path / "cache" / "decoded").iterdir())) == 1


def test_files_that_change_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "images" / "a" / "0.png"
    for name in ("b", "a"):
        path = tmp_path / "images" / name / "0.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (2, 2), 1).save(path)
    decode = ImageFolder.decode

    def change(self: ImageFolder, progress: Progress) -> Arrays:
        found = decode(self, progress)
        Image.new("L", (2, 2), 2).save(path)
        os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(ImageFolder, "decode", change)
    config = DataConfig(name="imagefolder", root=str(tmp_path / "images"))
    with pytest.raises(DataError, match="changed while they were read; try again"):
        prepare(config, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


PRIVATE = promise(
    MORE,
    "who may change decoded and downloaded data",
    "their owner alone, whatever the umask; folders are made 0700",
)
FOREIGN = promise(
    MORE,
    "links, pipes and files of others among decoded or downloaded data",
    "refused in one line or left alone: never waited for, followed or removed",
)


@PRIVATE
@pytest.mark.parametrize("umask", [0o000, 0o022], ids=oct)
def test_modes(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        prepare(DIGITS, cache_dir=tmp_path / "some" / "data")
    finally:
        os.umask(before)
    for path in (tmp_path / "some").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


@FOREIGN
@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "meta.json"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_in_the_cache(tmp_path: Path, name: str, kind: str) -> None:
    prepare(DIGITS, cache_dir=tmp_path / "data")
    path = _folder(tmp_path / "data") / name
    target = path.rename(tmp_path / "elsewhere")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(target)
    else:
        path.mkdir()
    with pytest.raises(StorageError) as caught:
        prepare(DIGITS, cache_dir=tmp_path / "data")
    message = str(caught.value)
    assert message == f"{path}: expected a file of proxprop, found a {kind}; move it away"
    assert target.is_file()


@FOREIGN
@pytest.mark.parametrize("which", ["decoded", "digits"])
def test_a_folder_that_is_a_link(tmp_path: Path, which: str) -> None:
    first = prepare(DIGITS, cache_dir=tmp_path / "data")
    path = tmp_path / "data" / "decoded"
    if which == "digits":
        path = _folder(tmp_path / "data")
    target = path.rename(tmp_path / "elsewhere")
    path.symlink_to(target)
    with pytest.raises(StorageError, match="expected a folder of proxprop, found a link"):
        prepare(DIGITS, cache_dir=tmp_path / "data")
    path.unlink()
    target.rename(path)
    assert prepare(DIGITS, cache_dir=tmp_path / "data").digest == first.digest


@FOREIGN
@pytest.mark.parametrize("damaged", [True, False])
def test_a_file_of_somebody_in_the_cache(tmp_path: Path, damaged: bool) -> None:
    first = prepare(DIGITS, cache_dir=tmp_path)
    notes = _folder(tmp_path) / "NOTES.txt"
    notes.write_text("mine")
    if damaged:
        (_folder(tmp_path) / "meta.json").write_text("{}")
        with pytest.raises(StorageError, match=r"NOTES\.txt: not written by proxprop"):
            prepare(DIGITS, cache_dir=tmp_path)
        assert [path.name for path in (tmp_path / "decoded").iterdir()] == [notes.parent.name]
    else:
        assert prepare(DIGITS, cache_dir=tmp_path).digest == first.digest
    assert notes.read_text() == "mine"


def test_a_cache_of_unlikely_size_is_not_read(tmp_path: Path) -> None:
    first = prepare(DIGITS, cache_dir=tmp_path)
    path = _folder(tmp_path) / "meta.json"
    os.truncate(path, 100 << 30)
    assert prepare(DIGITS, cache_dir=tmp_path).digest == first.digest
    path.write_text("[" * 100_000)
    assert prepare(DIGITS, cache_dir=tmp_path).digest == first.digest
