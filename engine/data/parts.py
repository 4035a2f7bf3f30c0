"""Which samples are trained on, which validate and which test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import DataConfig
from engine.data.arrays import Arrays
from engine.errors import ConfigError

Rows = NDArray[np.int64]
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the samples of each part are.

    :ivar train: rows of ``train_images``, int64 ``(N,)``; likewise ``validation``.
    :ivar test: rows of ``test_images``.
    """

    train: Rows
    validation: Rows
    test: Rows


def parts_of(config: DataConfig, arrays: Arrays) -> Parts:
    """Draw the parts that a configuration asks for, by its ``split_seed``.

    The validation samples are drawn from the training part, unless the source has its own; those
    of an image folder class by class, so that every class keeps its share. Of the other sources a
    permutation is cut: published results depend on these splits, and they must stay what they are.

    :raises ConfigError: nothing would be left to train on, of all samples or of a class.
    """
    samples = len(arrays.train_labels) - arrays.validation
    labels = arrays.train_labels[:samples]
    if config.validation >= samples and not arrays.validation:
        raise ConfigError(
            f"data.validation: {config.validation} samples leave nothing to train on; "
            f"there are {samples}, so set fewer"
        )
    if arrays.by_class:
        held_out = 0 if arrays.validation else config.validation
        validation, train = draw_by_class(labels, held_out, config.split_seed)
        if arrays.validation:
            validation = np.arange(samples, len(arrays.train_labels))
        wanted = min(config.train_samples or len(train), len(train))
        _, kept = draw_by_class(labels[train], len(train) - wanted, config.split_seed)
        train = train[kept]
        _refuse_untrained(config, arrays, train)
        wanted = min(config.test_samples or len(arrays.test_labels), len(arrays.test_labels))
        left_out = len(arrays.test_labels) - wanted
        _, test = draw_by_class(arrays.test_labels, left_out, config.split_seed)
        return Parts(train, validation, np.sort(test))
    order = np.random.default_rng(config.split_seed).permutation(samples)
    validation, train = order[: config.validation], order[config.validation :]
    train = train[: config.train_samples]
    test = np.arange(len(arrays.test_labels))
    if config.test_samples is not None and config.test_samples < len(test):
        # drawn, since some sources are sorted by class
        test = np.random.default_rng(config.split_seed).permutation(test)[: config.test_samples]
    return Parts(train, validation, test)


def draw_by_class(labels: NDArray[np.int64], count: int, seed: int) -> tuple[Rows, Rows]:
    """Draw samples so that every class keeps its share, to less than one sample.

    Of every class one is left, unless more are asked for than that allows.

    :param labels: int64 ``(N,)``.
    :param count: at most N.
    :returns: rows of the drawn samples and of the others, both int64 and in random order.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, sizes = np.unique(labels, return_counts=True)
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_drawn = np.zeros(len(labels), dtype=np.bool_)
    is_drawn[by_class[ranks < np.repeat(_shares(sizes, count, random), sizes)]] = True
    return order[is_drawn[order]], order[~is_drawn[order]]


def _shares(sizes: NDArray[np.int64], count: int, random: np.random.Generator) -> Rows:
    """How many of each class, by largest remainders; equal ones are taken in random order."""
    total = max(int(sizes.sum()), 1)
    shares, remainders = sizes * count // total, sizes * count % total
    shuffled = random.permutation(len(sizes))
    order = shuffled[np.argsort(-remainders[shuffled], kind="stable")]
    for left in (1, 0):
        while (missing := count - int(shares.sum())) > 0:
            room = order[shares[order] < sizes[order] - left]
            if not len(room):
                break
            shares[room[:missing]] += 1
    return shares


def summary(label: str, config: DataConfig, arrays: Arrays, parts: Parts) -> list[str]:
    """What a data set consists of, and which classes its parts lack, a line each."""
    names, sizes = ("train", "validation", "test"), (parts.train, parts.validation, parts.test)
    counts = " / ".join(f"{len(rows)} {name}" for name, rows in zip(names, sizes, strict=True))
    lines = [f"{label}: {len(arrays.classes)} classes, {counts} samples"]
    if arrays.validation and config.validation:
        lines.append(
            f"data.validation: {config.validation} is not used, since the folder has validation "
            "samples of its own"
        )
    labels = (arrays.train_labels[parts.validation], arrays.test_labels[parts.test])
    for name, found in zip(names[1:], labels, strict=True):
        lacking = sorted(set(range(len(arrays.classes))) - set(found.tolist()))
        if lacking and len(found):
            lines.append(
                f"no {name} samples of {len(lacking)} of {len(arrays.classes)} classes: "
                f"{listed([arrays.classes[label] for label in lacking])}"
            )
    return lines


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refuse_untrained(config: DataConfig, arrays: Arrays, train: Rows) -> None:
    kept = set(arrays.train_labels[train].tolist())
    lacking = [name for label, name in enumerate(arrays.classes) if label not in kept]
    if lacking:
        key, fix = "validation", "fewer"
        if config.train_samples is not None and config.train_samples < len(arrays.classes):
            key, fix = "train_samples", f"at least {len(arrays.classes)}"
        raise ConfigError(
            f"data.{key}: {getattr(config, key)} samples leave nothing to train on of the class "
            f"{listed(lacking)}; set {fix}"
        )
