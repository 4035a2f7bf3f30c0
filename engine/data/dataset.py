"""A data set for training: split, whole on the device as uint8, normalised there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.config import DataConfig
from engine.data.arrays import Arrays, Progress, Source, silent
from engine.data.cache import Decoded, decoded
from engine.data.digits import Digits
from engine.data.imagefolder import image_folder
from engine.data.parts import parts_of, summary
from engine.filesystems import home_expanded

_STATISTICS_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Split:
    """A part of the data on the device.

    :ivar images: uint8 ``(M, C, H, W)``.
    :ivar labels: int64 ``(N,)``.
    :ivar rows: int64 ``(N,)``: where in ``images`` each sample is; None: in their order. On a CPU
        the images are the decoded file itself, mapped into memory, which processes share.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def samples(self) -> Tensor:
        """The images of this part alone, uint8 ``(N, C, H, W)``, a copy where it is not all."""
        return self.images if self.rows is None else self.images.index_select(0, self.rows)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training, validation and test samples, and how they become inputs.

    :ivar label: what to call the data in results.
    :ivar digest: SHA-256 of the decoded source, in hexadecimal.
    :ivar classes: their names.
    :ivar offset: float32, broadcasts to ``(C, H, W)``: what is taken off a pixel's number.
    :ivar factor: float32, likewise: what it is then multiplied with.
    :ivar scale: the number of a full pixel.
    """

    train: Split
    validation: Split
    test: Split
    label: str
    digest: str
    classes: tuple[str, ...]
    offset: Tensor
    factor: Tensor
    scale: int = 255

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a sample."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def batch(self, split: Split, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs float32 ``(B, C, H, W)`` and labels int64 ``(B,)`` of some samples.

        :param indices: int64 ``(B,)``, on the device.
        """
        places = indices if split.rows is None else split.rows.index_select(0, indices)
        inputs = split.images.index_select(0, places).to(torch.float32)
        return inputs.sub_(self.offset).mul_(self.factor), split.labels.index_select(0, indices)


def source_of(config: DataConfig, cache_dir: Path) -> Source:
    """Where the data of a configuration come from.

    :raises ConfigError: ``data.root`` is needed and missing.
    """
    if config.name == "digits":
        return Digits()
    if config.name == "imagefolder":
        return image_folder(config.root, config.image_size)
    from engine.data.vision import Vision

    root = home_expanded(config.root) if config.root else cache_dir / config.name
    return Vision(config.name, root)


def prepare(config: DataConfig, *, cache_dir: Path, progress: Progress | None = None) -> Decoded:
    """Find, download and decode the data of a configuration, as far as that is still to do.

    Of files of a person it is told what they are: classes, samples of each part, and all that is
    left out or changed.

    :raises ConfigError: the settings do not fit the data.
    :raises DataError: the data are not there and can not be fetched, or are damaged.
    """
    tell = progress or silent
    source = source_of(config, cache_dir)
    found = decoded(source, cache_dir, tell)
    parts = parts_of(config, found.arrays)
    if config.root is not None:
        label = config.label or source.label
        for line in (*summary(label, config, found.arrays, parts), *found.notes):
            tell(line, 0, 0)
    return found


def digest_of(config: DataConfig, *, cache_dir: Path, progress: Progress | None = None) -> str:
    """What the data of a configuration are now, see :attr:`Decoded.digest`; nothing is told.

    :raises ConfigError: ``data.root`` is needed and missing.
    :raises DataError: the data are not there and can not be fetched, or are damaged.
    """
    return decoded(source_of(config, cache_dir), cache_dir, progress or silent).digest


def training_samples(config: DataConfig, arrays: Arrays) -> int:
    """How many samples are trained on.

    :raises ConfigError: none would be left.
    """
    return len(parts_of(config, arrays).train)


def load_dataset(
    config: DataConfig,
    *,
    device: torch.device,
    cache_dir: Path,
    progress: Progress | None = None,
) -> Dataset:
    """The data of a configuration on a device, divided as :func:`engine.data.parts.parts_of` says.

    :raises ConfigError: the settings do not fit the data.
    :raises DataError: the data are not there and can not be fetched, or are damaged.
    """
    source = source_of(config, cache_dir)
    found = decoded(source, cache_dir, progress or silent)
    arrays = found.arrays
    parts = parts_of(config, arrays)

    def part(
        images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Split:
        chosen = torch.from_numpy(labels[rows]).to(device)
        if device.type == "cpu":
            return Split(torch.from_numpy(images), chosen, torch.from_numpy(rows))
        return Split(torch.from_numpy(images[rows]).to(device), chosen)

    offset, factor = _normalisation(
        config.normalize, arrays.train_images, parts.train, arrays.scale
    )
    return Dataset(
        train=part(arrays.train_images, arrays.train_labels, parts.train),
        validation=part(arrays.train_images, arrays.train_labels, parts.validation),
        test=part(arrays.test_images, arrays.test_labels, parts.test),
        label=config.label or source.label,
        digest=found.digest,
        classes=arrays.classes,
        offset=torch.from_numpy(offset).to(device),
        factor=torch.from_numpy(factor).to(device),
        scale=arrays.scale,
    )


class KeptDataset:
    """Keeps the data set that was loaded last, for a process that trains run after run."""

    def __init__(self) -> None:
        self._key: tuple[DataConfig, torch.device, Path] | None = None
        self._dataset: Dataset | None = None

    def load(
        self,
        config: DataConfig,
        *,
        device: torch.device,
        cache_dir: Path,
        progress: Progress | None = None,
    ) -> Dataset:
        """As :func:`load_dataset`. What changes on disk meanwhile is not seen."""
        key = (config, device, cache_dir)
        if self._dataset is None or key != self._key:
            self._dataset = None  # there may be no room for two
            self._dataset = load_dataset(
                config, device=device, cache_dir=cache_dir, progress=progress
            )
            self._key = key
        return self._dataset


def _normalisation(
    kind: str, images: NDArray[np.uint8], rows: NDArray[np.int64], scale: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Offset and factor per pixel, from the training samples alone."""
    if kind == "unit":
        return np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), 1 / scale, np.float32)
    total = np.zeros(images.shape[1:])
    squares = np.zeros(images.shape[1:])
    for start in range(0, len(rows), _STATISTICS_CHUNK):
        chunk = images[rows[start : start + _STATISTICS_CHUNK]].astype(np.float64)
        total += chunk.sum(axis=0)
        squares += (chunk**2).sum(axis=0)
    mean = total / len(rows)
    deviation = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0.0))
    # a pixel that is the same in all samples stays zero, whatever the test samples have there
    factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-3)
    return mean.astype(np.float32), factor.astype(np.float32)
