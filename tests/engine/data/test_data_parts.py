"""Parts of a data set: which classes they have, and that published splits stay what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import DataConfig
from engine.data import Arrays, prepare, training_samples
from engine.data.cache import _digest
from engine.data.image_files import _drawn
from engine.data.parts import draw_by_class, parts_of, summary
from engine.errors import ConfigError
from tests.reliability.report import BAD_INPUT, promise

SHARES = promise(
    BAD_INPUT,
    "classes of very different sizes in an image folder",
    "every class keeps its share of every part that is drawn; which parts lack it is told",
)


def labels_of(*sizes: int) -> np.ndarray[Any, Any]:
    return np.repeat(np.arange(len(sizes)), sizes)


def arrays_of(train: tuple[int, ...], test: tuple[int, ...] = (), validation: int = 0) -> Arrays:
    labels, others = labels_of(*train), labels_of(*test)
    classes = tuple("abcdefghijklmnopqrstuvwxyz"[: len(train)])
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return Arrays(
        images,
        labels,
        images[: len(others)],
        others,
        classes,
        255,
        validation=validation,
        by_class=True,
    )


def of_folder(**settings: Any) -> DataConfig:
    return DataConfig(name="imagefolder", root="somewhere", **settings)


@SHARES
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(40, 2, 1), (12, 12), (900, *[5] * 20), (1, 1), (7,), (3, 0, 9)])
def test_every_class_keeps_its_share(sizes: tuple[int, ...], seed: int) -> None:
    labels = labels_of(*sizes)
    present = sum(size > 0 for size in sizes)
    for count in range(0, len(labels) + 1, max(1, len(labels) // 20)):
        drawn, rest = draw_by_class(labels, count, seed)
        assert len(drawn) == count
        assert sorted([*drawn, *rest]) == list(range(len(labels)))
        taken, left = Counter(labels[drawn].tolist()), Counter(labels[rest].tolist())
        if count <= len(labels) - present:
            assert len(left) == present
        if all(size * (len(labels) - count) >= len(labels) for size in sizes if size):
            # where no class is so small that its last sample had to be left
            for label, size in enumerate(sizes):
                assert abs(taken[label] - count * size / len(labels)) < 1


@SHARES
def test_a_drawn_test_part_has_every_class_that_can_spare_a_sample() -> None:
    samples = tuple((Path(f"{row}"), label) for row, label in enumerate(labels_of(40, 2, 1)))
    train, test = _drawn(samples, 3)
    assert Counter(label for _, label in test) == {0: 7, 1: 1}
    assert Counter(label for _, label in train) == {0: 33, 1: 1, 2: 1}
    assert sorted((*train, *test)) == sorted(samples)


@SHARES
def test_parts_of_a_folder() -> None:
    arrays = arrays_of((80, 16, 4), (40, 8, 2))
    parts = parts_of(of_folder(validation=25, train_samples=25, test_samples=25), arrays)
    assert Counter(arrays.train_labels[parts.validation].tolist()) == {0: 20, 1: 4, 2: 1}
    assert len(parts.train) == 25
    assert set(arrays.train_labels[parts.train].tolist()) == {0, 1, 2}
    assert not set(parts.train) & set(parts.validation)
    assert Counter(arrays.test_labels[parts.test].tolist()) == {0: 20, 1: 4, 2: 1}
    other = parts_of(of_folder(validation=25, split_seed=1), arrays)
    assert sorted(other.validation) != sorted(parts.validation)


@SHARES
def test_classes_that_a_part_lacks_are_told() -> None:
    arrays = arrays_of((40, 2, 1), (5,))
    config = of_folder(validation=4)
    lines = summary("pets", config, arrays, parts_of(config, arrays))
    assert lines == [
        "pets: 3 classes, 39 train / 4 validation / 5 test samples",
        "no validation samples of 2 of 3 classes: b, c",
        "no test samples of 2 of 3 classes: b, c",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": 41}, "data.validation: 41 samples leave nothing to train on of the class"),
        ({"validation": 43}, "data.validation: 43 samples leave nothing to train on; there are 43"),
        ({"train_samples": 2}, "data.train_samples: 2 samples leave nothing .* set at least 3"),
    ],
)
def test_a_class_that_would_not_be_trained_on(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_samples(of_folder(**settings), arrays_of((40, 2, 1)))


def test_a_validation_part_of_its_own_is_not_drawn() -> None:
    arrays = arrays_of((12, 12), (4, 4), validation=4)
    config = of_folder(validation=6)
    parts = parts_of(config, arrays)
    assert parts.validation.tolist() == [20, 21, 22, 23]
    assert sorted(parts.train.tolist()) == list(range(20))
    assert any("6 is not used" in line for line in summary("pets", config, arrays, parts))


def test_the_digest_tells_how_parts_are_drawn() -> None:
    """A run that was trained on parts that were drawn otherwise is one of other data."""
    arrays = arrays_of((12, 12), (4, 4))
    digests = {
        _digest(replace(arrays, by_class=by_class, validation=validation))
        for by_class in (False, True)
        for validation in (0, 4)
    }
    assert len(digests) == 4


def test_published_splits_stay_what_they_are(tmp_path: Path) -> None:
    """Those of the data sets that results were published for: a permutation, cut."""
    config = DataConfig(
        name="digits", validation=200, train_samples=700, test_samples=60, split_seed=3
    )
    arrays = prepare(config, cache_dir=tmp_path).arrays
    parts = parts_of(config, arrays)
    order = np.random.default_rng(3).permutation(1437)
    assert parts.validation.tolist() == order[:200].tolist()
    assert parts.train.tolist() == order[200:900].tolist()
    test = np.random.default_rng(3).permutation(np.arange(360))
    assert parts.test.tolist() == test[:60].tolist()
    whole = parts_of(DataConfig(name="digits"), arrays)
    assert whole.test.tolist() == list(range(360))
    # of the samples themselves, as of the first version
    digest = prepare(DataConfig(name="digits"), cache_dir=tmp_path).digest
    assert digest == DIGITS_DIGEST


DIGITS_DIGEST = "87a7d8f6ba0021c9ce531133e58ee902961f94381d6f4cde5fb26e4e1e506ff6"
