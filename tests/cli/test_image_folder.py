"""Image folders from the command line: what is told of them, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engine.data.test_data_image_files import LEFT_OUT

TRAIN = ["train", "--plain", "--set=data.name=imagefolder", "--set=data.validation=2"]
TRAIN += ["--set=model.hidden=[4]", "--epochs=1", "--batch-size=4"]


@pytest.fixture
def pets(tmp_path):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(8):
            pixels = random.integers(0, 256, (6, 6), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{index}.png")
    return tmp_path / "pets"


@LEFT_OUT
def test_a_training_tells_what_it_is_trained_on(cli, pets):
    (pets / "cat" / "kitten.heic").write_text("not read")
    answer = cli(*TRAIN, f"--set=data.root={pets}")
    assert answer.code == 0, answer.err
    assert "image folder pets: 2 classes, 12 train / 2 validation / 2 test samples" in answer.err
    assert "cat: 1 files with other endings (.heic) are not read" in answer.err


@LEFT_OUT
def test_a_class_without_images(cli, pets):
    (pets / "bird").mkdir()
    answer = cli(*TRAIN, f"--set=data.root={pets}")
    assert answer.code == 3
    assert answer.err.startswith(f"proxprop: {pets}/bird: no images in it")
    assert len(answer.err.splitlines()) == 1


def test_a_validation_folder_needs_none_to_be_drawn(cli, tmp_path, pets):
    (tmp_path / "root").mkdir()
    for part in ("train", "val"):
        (tmp_path / "root" / part).symlink_to(pets)
    answer = cli(*TRAIN, f"--set=data.root={tmp_path / 'root'}", "--set=data.validation=5000")
    assert answer.code == 0, answer.err
    assert "2 classes, 16 train / 16 validation / 0 test samples" in answer.err
    assert "data.validation: 5000 is not used" in answer.err
    assert "16 validation or test images are training images too" in answer.err


def test_names_of_classes_that_are_not_utf_8(cli, pets):
    for place, name in ((pets / "cat", b"\xff\x1b[2J"), (pets / "dog", b"d\xc3\xb6g")):
        os.rename(place, Path(os.fsdecode(os.fsencode(pets) + b"/" + name)))  # noqa: PTH104
    (pets / os.fsdecode(b"\xff\x1b[2J") / "nested").mkdir()
    for _ in range(2):
        answer = cli(*TRAIN, f"--set=data.root={pets}")
        assert answer.code == 0, answer.err
        assert "\x1b" not in answer.err
        assert "nested: a folder in a class is not read (0 images in it)" in answer.err


@LEFT_OUT
def test_a_comparison_tells_it_once(cli, pets):
    (pets / "cat" / "kitten.heic").write_text("not read")
    settings = [f"--set=data.root={pets}", "--methods=backprop,exact,cg3", "--seeds=1"]
    answer = cli("compare", *TRAIN[1:], *settings)
    assert answer.code == 0, answer.err
    lines = answer.err.splitlines()
    assert (
        lines.count("image folder pets: 2 classes, 12 train / 2 validation / 2 test samples") == 1
    )
    assert lines.count("cat: 1 files with other endings (.heic) are not read") == 1
