"""Folders as people have them: what is read, and that all else is told or refused."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.config import DataConfig
from engine.data import load_dataset
from engine.errors import DataError
from tests.engine import small
from tests.engine.data.test_data_pictures import prepared
from tests.reliability.report import BAD_INPUT, promise

LEFT_OUT = promise(
    BAD_INPUT,
    "an image folder of which a part is not read",
    "told with counts; a class without images is refused, exit 3",
)


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def fill(base: Path, *classes: str, count: int = 3, first: int = 0) -> None:
    """Images of all different values."""
    for number, name in enumerate(classes):
        for index in range(count):
            draw(base / name / f"{index}.png", first + number * count + index)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes; 6 training and 2 test images."""
    fill(tmp_path / "pets" / "train", "cat", "dog")
    fill(tmp_path / "pets" / "test", "cat", "dog", count=1, first=100)
    return tmp_path / "pets"


def fault(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepared(root)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_whole_folder_is_told_in_a_line(root: Path) -> None:
    told = prepared(root)[1]
    assert told == [
        "image folder pets: 2 classes, 6 train / 0 validation / 2 test samples",
    ]


@LEFT_OUT
def test_what_is_not_read_is_told(root: Path) -> None:
    cat = root / "train" / "cat"
    fill(root / "train" / "__MACOSX", "cat")
    fill(cat, "@eaDir", "kittens")
    fill(root, "extra", "unsorted", count=2)
    draw(root / "train" / "stray.png", 1)
    for name in ("a.heic", "b.HEIC", "notes.txt", "noname"):
        (cat / name).write_text("not read")
    (cat / "gone.png").symlink_to(root / "nowhere.png")
    (root / "test" / "dog" / "0.png").unlink()
    told = prepared(root)[1]
    assert told == [
        "image folder pets: 2 classes, 6 train / 0 validation / 1 test samples",
        "no test samples of 1 of 2 classes: dog",
        "extra: not read (2 images in it)",
        "unsorted: not read (2 images in it)",
        "train/__MACOSX: not read (3 images in it)",
        "train: 1 images in no class folder are not read",
        "train/cat/@eaDir: a folder in a class is not read (3 images in it)",
        "train/cat/kittens: a folder in a class is not read (3 images in it)",
        "train/cat: 4 files with other endings (.heic, .txt, none) are not read",
        "train/cat: 1 links to nothing or things that are no files (gone.png) are not read",
        "test/dog: no images in it",
    ]


@LEFT_OUT
def test_many_folders_that_are_not_read(root: Path) -> None:
    fill(root / "train" / "cat", *(f"more{n}" for n in range(30)), count=1)
    told = prepared(root)[1]
    assert len(told) == 12
    assert told[-1] == "… and 20 more of these"


def test_hidden_files_are_nobody_s_samples(root: Path) -> None:
    for place in (root, root / "train", root / "train" / "cat"):
        draw(place / ".thumbs" / "0.png", 1)
        draw(place / "._0.png", 1)
        (place / ".DS_Store").write_text("")
        (place / "Thumbs.db").write_text("")
    (root / "README.md").write_text("text")
    assert len(prepared(root)[1]) == 1


def test_endings_in_any_case(root: Path) -> None:
    for number, name in enumerate(
        ("a.PNG", "a.png", "b.Jpg", "c.JPEG", "d.tiff", "e.BMP", "f.jfif")
    ):
        Image.new("L", (4, 4), 200 + number).save(
            root / "train" / "cat" / name, format="JPEG" if name.endswith("jfif") else None
        )
    arrays, told = prepared(root)
    assert len(arrays.train_labels) == 13
    assert len(told) == 1


@LEFT_OUT
def test_a_class_without_images_is_refused(root: Path) -> None:
    (root / "train" / "bird").mkdir()
    assert fault(root).startswith(f"{root}/train/bird: no images in it; put the images")
    fill(root / "train" / "bird", "robin", "wren")
    assert "no images in it, only folders (robin, wren)" in fault(root)


@LEFT_OUT
@pytest.mark.parametrize("part", ["test", "val"])
def test_a_class_that_is_not_trained_is_refused(root: Path, part: str) -> None:
    fill(root / part, "bird")
    assert fault(root) == f"{root}/{part}: class 'bird' is not in train"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_a_validation_folder_is_used(root: Path, name: str) -> None:
    fill(root / name, "cat", "dog", count=2, first=50)
    arrays, told = prepared(root)
    assert told == ["image folder pets: 2 classes, 6 train / 4 validation / 2 test samples"]
    assert arrays.validation == 4
    config = DataConfig(name="imagefolder", root=str(root), validation=2)
    data = load_dataset(config, device=small.CPU, cache_dir=root.parent / "cache")
    assert sorted(data.validation.samples()[:, 0, 0, 0].tolist()) == [50, 51, 52, 53]
    assert data.validation.labels.tolist() == [0, 0, 1, 1]
    assert sorted(data.train.samples()[:, 0, 0, 0].tolist()) == [0, 1, 2, 3, 4, 5]
    (root / name / "dog" / "0.png").rename(root / "train" / "dog" / "9.png")
    moved = load_dataset(config, device=small.CPU, cache_dir=root.parent / "cache")
    assert (len(moved.train), len(moved.validation)) == (7, 3)
    assert moved.digest != data.digest


def test_folders_of_a_part_in_other_words(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    fill(root / "Training", "cat", "dog")
    fill(root / "Testing", "cat", "dog", count=1)
    arrays, _ = prepared(root)
    assert (len(arrays.train_labels), len(arrays.test_labels)) == (6, 2)
    fill(root / "test", "cat")
    assert "expected one folder of test images, found 'Testing' and 'test'" in fault(root)


def test_a_part_without_a_training_part_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path / "pets", "cat", "dog", "test")
    message = fault(tmp_path / "pets")
    assert "expected a folder 'train' beside 'test', found none" in message


@LEFT_OUT
def test_a_single_sample_of_a_class_is_trained_on(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for number, (name, count) in enumerate({"a": 40, "b": 2, "c": 1}.items()):
        fill(root, name, count=count, first=60 * number)
    arrays, told = prepared(root)
    assert told == [
        "image folder pets: 3 classes, 35 train / 0 validation / 8 test samples",
        "no test samples of 1 of 3 classes: c",
    ]
    assert Counter(arrays.test_labels.tolist()) == {0: 7, 1: 1}


def test_links_of_a_person_are_followed(root: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "fish", count=4, first=200)
    (root / "train" / "fish").symlink_to(tmp_path / "elsewhere" / "fish")
    arrays, told = prepared(root)
    assert arrays.classes == ("cat", "dog", "fish")
    assert np.bincount(arrays.train_labels).tolist() == [3, 3, 4]
    assert re.match(r"image folder pets: 3 classes, 10 train", told[0])


def test_links_that_are_not_read_are_not_searched(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "far", "away", count=5)
    (root / "train" / "cat" / "everything").symlink_to(tmp_path / "far")
    assert prepared(root)[1][1:] == [
        "train/cat/everything: a folder in a class is not read (a link)"
    ]
    (root / "train" / "cat" / "everything").unlink()
    fill(root / "train" / "cat", "nested", count=5)
    monkeypatch.setattr("engine.data.image_files._MOST_COUNTED", 3)
    assert prepared(root)[1][1:] == [
        "train/cat/nested: a folder in a class is not read (3 or more images in it)"
    ]


def test_copies_are_told(root: Path) -> None:
    draw(root / "train" / "cat" / "copy.png", 0)
    draw(root / "test" / "cat" / "copy.png", 1)
    draw(root / "train" / "dog" / "copy.png", 2)
    assert prepared(root)[1][1:] == [
        "2 training images are copies of others, pixel by pixel",
        "1 validation or test images are training images too, pixel by pixel",
        "1 images are in several classes, pixel by pixel the same",
    ]
