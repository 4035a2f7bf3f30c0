"""Decoded once, kept whole or not at all, remade when the files or the cache change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import verified
from engine.config import DataConfig
from engine.data import Arrays, cache, default_data_dir, prepare
from engine.errors import DataError

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
