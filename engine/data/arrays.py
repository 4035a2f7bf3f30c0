"""What every data source gives: decoded samples in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much is done, and of how much (``None``: unknown; 0: nothing is
being done, the text is a fact about the data)."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """A data set, decoded.

    :ivar train_images: uint8 ``(N, C, H, W)``; likewise ``test_images``.
    :ivar train_labels: int64 ``(N,)``, numbers of ``classes``; likewise ``test_labels``.
    :ivar scale: the value of a full pixel, 255 or 16.
    :ivar validation: the last so many training samples are the validation part of the source; 0:
        it has none, and one may be drawn.
    :ivar by_class: whether parts are drawn class by class, so that each keeps its share.
    :ivar notes: what a person should know of how the samples were read, a line each.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    scale: int
    validation: int = 0
    by_class: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """Where the samples are.

    :ivar files: all that they depend on, in a fixed order.
    :ivar notes: what is there and is not read, a line each.
    """

    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Where a data set comes from."""

    @property
    def name(self) -> str:
        """Name in the configuration, and of its folder in the cache."""
        ...

    @property
    def label(self) -> str:
        """What to call the data in results."""
        ...

    def locate(self, progress: Progress) -> Located:
        """Find the files that the samples depend on; fetch what is missing.

        :raises DataError: they are not there and can not be fetched, or are damaged.
        """
        ...

    def decode(self, progress: Progress) -> Arrays:
        """Read all samples, after :meth:`locate`.

        :raises DataError: a file is not what it should be.
        """
        ...


def silent(what: str, done: int, total: int | None) -> None:
    """A progress that nobody watches."""
