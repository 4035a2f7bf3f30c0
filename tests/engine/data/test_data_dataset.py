"""Splits are permutations, batches are normalised on the device by the training samples alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.config import DataConfig
from engine.data import Dataset, Split, load_dataset, prepare
from engine.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _load(cache_dir: Path, **settings: Any) -> Dataset:
    return load_dataset(DataConfig(name="digits", **settings), device=CPU, cache_dir=cache_dir)


def _all(data: Dataset, split: Split) -> torch.Tensor:
    return data.batch(split, torch.arange(len(split)))[0]


def _pairs(split: Split) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(split.samples(), split.labels, strict=True))


def test_sizes_and_types(cache_dir: Path) -> None:
    data = _load(cache_dir, validation=200)
    assert (len(data.train), len(data.validation), len(data.test)) == (1237, 200, 360)
    assert (data.shape, data.num_classes, data.label) == ((1, 8, 8), 10, "digits")
    for split in (data.train, data.validation, data.test):
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert split.images.device == CPU
    assert set(data.test.labels.tolist()) == set(range(10))


def test_the_split_is_a_permutation_of_the_training_part(cache_dir: Path) -> None:
    data = _load(cache_dir, validation=200)
    arrays = prepare(DataConfig(name="digits"), cache_dir=cache_dir).arrays
    together = torch.cat([data.train.samples(), data.validation.samples()]).numpy()
    assert sorted(image.tobytes() for image in together) == sorted(
        image.tobytes() for image in np.asarray(arrays.train_images)
    )
    pairs = {
        image.tobytes(): label
        for image, label in zip(
            np.asarray(arrays.train_images), arrays.train_labels.tolist(), strict=True
        )
    }
    found = zip(data.validation.samples().numpy(), data.validation.labels.tolist(), strict=True)
    assert all(pairs[image.tobytes()] == label for image, label in found)


def test_the_split_depends_on_its_seed_alone(cache_dir: Path) -> None:
    one = _load(cache_dir, validation=200)
    same = _load(cache_dir, validation=200, normalize="standardize", train_samples=50)
    other = _load(cache_dir, validation=200, split_seed=1)
    assert torch.equal(one.validation.samples(), same.validation.samples())
    assert torch.equal(one.train.samples()[:50], same.train.samples())
    assert not torch.equal(one.validation.samples(), other.validation.samples())
    assert torch.equal(one.test.samples(), other.test.samples())
    assert one.digest == same.digest == other.digest


def test_fewer_test_samples_are_drawn_by_the_seed_of_the_split(cache_dir: Path) -> None:
    whole, some = _load(cache_dir), _load(cache_dir, test_samples=60)
    assert len(some.test) == 60
    everything = {image.numpy().tobytes(): int(label) for image, label in _pairs(whole.test)}
    assert all(everything[image.numpy().tobytes()] == label for image, label in _pairs(some.test))
    assert not torch.equal(some.test.samples(), whole.test.samples()[:60])
    assert torch.equal(
        some.test.samples(), _load(cache_dir, test_samples=60, validation=200).test.samples()
    )
    other = _load(cache_dir, test_samples=60, split_seed=1)
    assert not torch.equal(some.test.samples(), other.test.samples())
    assert torch.equal(some.train.samples(), whole.train.samples())
    assert len(_load(cache_dir, test_samples=10**6).test) == len(whole.test)


def test_a_batch(cache_dir: Path) -> None:
    data = _load(cache_dir)
    before = data.train.samples().clone()
    indices = torch.tensor([5, 0, 5])
    inputs, labels = data.batch(data.train, indices)
    assert (inputs.dtype, inputs.shape) == (torch.float32, (3, 1, 8, 8))
    torch.testing.assert_close(inputs, before[indices].float() / 16)
    assert torch.equal(labels, data.train.labels[indices])
    assert torch.equal(data.train.samples(), before)


def test_unit_pixels_reach_from_0_to_1(cache_dir: Path) -> None:
    inputs = _all(_load(cache_dir), _load(cache_dir).train)
    assert (inputs.min(), inputs.max()) == (0, 1)


def test_standardised_by_the_training_samples(cache_dir: Path) -> None:
    data = _load(cache_dir, validation=200, normalize="standardize", train_samples=1000)
    pixels = data.train.samples().double()
    mean, deviation = pixels.mean(0), pixels.std(0, correction=0)
    varies = deviation > 0
    expected = torch.where(varies, (data.test.samples().double() - mean) / deviation, 0.0)
    torch.testing.assert_close(_all(data, data.test), expected.float(), rtol=1e-4, atol=1e-5)
    train = _all(data, data.train).double()
    assert train.mean(0).abs().max() < 1e-5
    assert (train.std(0, correction=0)[varies] - 1).abs().max() < 1e-4
    # the corners of the digits are the same everywhere
    assert not bool(varies.all())
    assert train[:, ~varies].abs().max() == 0
    assert bool(torch.isfinite(_all(data, data.test)).all())


@pytest.mark.parametrize("validation", [1437, 5000])
def test_a_validation_part_that_leaves_nothing(cache_dir: Path, validation: int) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation: \d+ samples leave nothing to train"):
        _load(cache_dir, validation=validation)


def test_more_training_samples_than_there_are(cache_dir: Path) -> None:
    assert len(_load(cache_dir, train_samples=10**6).train) == 1437
