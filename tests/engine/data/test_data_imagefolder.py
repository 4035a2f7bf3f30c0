"""Folders of images: found in a fixed order, decoded to uint8, faults named by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.config import DataConfig
from engine.data import Arrays, prepare
from engine.data.imagefolder import ImageFolder
from engine.errors import ConfigError, DataError


def _image(path: Path, value: int, mode: str = "RGB", size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "P") else (value, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three training images and one test image each."""
    root = tmp_path / "pets"
    for number, name in enumerate(("cat", "dog")):
        for index in range(3):
            _image(root / "train" / name / f"{index}.png", 10 * number + index)
        _image(root / "test" / name / "0.png", 100 + number)
    return root


def _config(root: Path, **settings: Any) -> DataConfig:
    return DataConfig(name="imagefolder", root=str(root), **settings)


def _arrays(root: Path, **settings: Any) -> Arrays:
    return prepare(_config(root, **settings), cache_dir=root.parent / "cache").arrays


def _fault(root: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        _arrays(root, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_both_parts_in_order(folder: Path) -> None:
    arrays = _arrays(folder)
    assert arrays.train_images.shape == (6, 3, 4, 4)
    assert arrays.train_images.dtype == np.uint8
    assert arrays.train_images[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]
    assert arrays.train_images[:, 1:].max() == 0
    assert arrays.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert arrays.test_images[:, 0, 0, 0].tolist() == [100, 101]
    assert (arrays.classes, arrays.scale) == (("cat", "dog"), 255)


def test_without_a_test_part_a_sixth_is_drawn(tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for name in ("a", "b"):
        for index in range(12):
            _image(root / name / f"{index:02}.png", index + 100 * (name == "b"))
    first, again = _arrays(root), _arrays(root)
    assert (len(first.train_labels), len(first.test_labels)) == (20, 4)
    assert np.array_equal(first.test_images, again.test_images)
    values = np.concatenate([first.train_images, first.test_images])[:, 0, 0, 0]
    assert sorted(values.tolist()) == [*range(12), *range(100, 112)]


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    root = tmp_path / "grey"
    for name in ("a", "b"):
        for part in ("train", "test"):
            _image(root / part / name / "0.png", 7, "L")
    assert _arrays(root).train_images.shape == (2, 1, 4, 4)
    _image(root / "train" / "b" / "1.png", 9)
    assert _arrays(root).train_images.shape == (3, 3, 4, 4)


def test_what_is_no_sample_is_passed_over(folder: Path) -> None:
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (folder / "train" / "cat" / name).write_text("no image")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "README.md").write_text("text")
    (folder / "train" / "cat" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "train" / "cat" / "link.png").symlink_to(folder / "train" / "cat" / "0.png")
    arrays = _arrays(folder)
    assert arrays.train_images[:4, 0, 0, 0].tolist() == [0, 1, 2, 0]
    assert len(arrays.train_labels) == 7


def test_sizes_that_differ_need_image_size(folder: Path) -> None:
    _image(folder / "train" / "dog" / "big.png", 50, size=(8, 6))
    message = _fault(folder)
    assert "big.png: 8x6 pixels where 0.png has 4x4; set data.image_size" in message
    assert _arrays(folder, image_size=5).train_images.shape == (7, 3, 5, 5)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_broken_image_is_named(folder: Path, content: bytes | None) -> None:
    path = folder / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:50] if content is None else content)
    message = _fault(folder)
    assert message.startswith(f"{path}: not an image (")
    assert message.endswith("; remove or replace it")


def test_progress_reaches_the_end(folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    prepare(_config(folder), cache_dir=tmp_path, progress=lambda *step: steps.append(step))
    assert ("decoding images", 8, 8) in steps


def test_labels(folder: Path) -> None:
    import torch

    from engine.data import load_dataset

    cpu = torch.device("cpu")
    config = _config(folder)
    named = _config(folder, label="my pets")
    assert load_dataset(config, device=cpu, cache_dir=folder).label == "image folder pets"
    assert load_dataset(named, device=cpu, cache_dir=folder).label == "my pets"


@pytest.mark.parametrize("split", [True, False])
def test_a_folder_of_jpeg_files_says_so(tmp_path: Path, split: bool) -> None:
    root = tmp_path / "pets"
    for name in ("cat", "dog"):
        for index in range(2):
            _image((root / "train" if split else root) / name / f"{index}.JPG", 10 * index)
    assert ImageFolder(root).label == "image folder pets (JPEG copy)"


def test_faults_of_the_folder(tmp_path: Path, folder: Path) -> None:
    assert "found no folder" in _fault(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "expected at least two class folders, found 0" in _fault(tmp_path / "empty")
    _image(tmp_path / "one" / "cat" / "0.png", 1)
    assert "expected at least two class folders, found 1" in _fault(tmp_path / "one")
    for name in ("a", "b"):
        (tmp_path / "hollow" / name).mkdir(parents=True)
    assert "no images in it" in _fault(tmp_path / "hollow")
    _image(folder / "test" / "bird" / "0.png", 1)
    assert "class 'bird' is not in train" in _fault(folder)
    with pytest.raises(ConfigError, match=r"data\.root"):
        prepare(DataConfig(name="imagefolder"), cache_dir=tmp_path)
