"""Anyone's own images: a folder per class."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.arrays import Arrays, Located, Progress
from engine.data.image_files import JPEG, list_images
from engine.data.pictures import FACTS, NotGreyError, is_grey, read_picture
from engine.errors import ConfigError, DataError
from engine.filesystems import home_expanded


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """``root/train/CLASS/*``, ``root/test/CLASS/*`` and, if there is one, ``root/val/CLASS/*``; or
    ``root/CLASS/*`` alone, of which a sixth is drawn for the test, class by class.

    Images are read as a viewer shows them, see :mod:`engine.data.pictures`. Grey images have one
    channel if all are grey, else all have three.

    :ivar root: the folder.
    :ivar size: height and width to resize to; without it all images must have one size.
    """

    root: Path
    size: int | None = None
    name: str = "imagefolder"

    @property
    def label(self) -> str:
        """Says that it is a folder, and of JPEG files: those are not the pixels they were made
        from."""
        first, _ = list_images(self.root).train[0]
        jpeg = first.suffix.lower() in JPEG
        return f"image folder {self.root.resolve().name}{' (JPEG copy)' if jpeg else ''}"

    def locate(self, progress: Progress) -> Located:
        """Its image files, in a fixed order."""
        found = list_images(self.root)
        samples = chain(found.train, found.validation, found.test)
        return Located(tuple(path for path, _ in samples), found.notes)

    def decode(self, progress: Progress) -> Arrays:
        """Decode all images, on all cores."""
        found = list_images(self.root)
        samples = (*found.train, *found.validation, *found.test)
        images, facts = self._decode([path for path, _ in samples], progress)
        labels = np.array([label for _, label in samples], dtype=np.int64)
        count = len(found.train) + len(found.validation)
        notes = [
            f"{facts[key]} of {len(samples)} images {FACTS[key]}" for key in FACTS if facts[key]
        ]
        return Arrays(
            images[:count],
            labels[:count],
            images[count:],
            labels[count:],
            found.classes,
            255,
            validation=len(found.validation),
            by_class=True,
            notes=(*notes, *_repeated(images, labels, len(found.train))),
        )

    def _decode(
        self, paths: list[Path], progress: Progress
    ) -> tuple[NDArray[np.uint8], Counter[str]]:
        with warnings.catch_warnings():
            # Pillow warns of what it can read all the same; what it can not is an error below
            warnings.simplefilter("ignore")
            try:
                return self._decode_as("L" if is_grey(paths[0]) else "RGB", paths, progress)
            except NotGreyError:
                return self._decode_as("RGB", paths, progress)
            except MemoryError:
                raise DataError(
                    f"{self.root}: {len(paths):,} images of this size do not fit into memory; "
                    "set data.image_size to make all smaller"
                ) from None

    def _decode_as(
        self, mode: str, paths: list[Path], progress: Progress
    ) -> tuple[NDArray[np.uint8], Counter[str]]:
        """The images, uint8 ``(N, C, H, W)``, and of how many each fact holds."""
        channels = 1 if mode == "L" else 3
        first, _ = read_picture(paths[0], mode, self.size)
        images = np.empty((len(paths), channels, *first.shape[:2]), dtype=np.uint8)
        facts: Counter[str] = Counter()

        def put(index: int) -> tuple[str, ...]:
            pixels, found = read_picture(paths[index], mode, self.size)
            if pixels.shape != first.shape:
                raise DataError(
                    f"{paths[index]}: {pixels.shape[1]}x{pixels.shape[0]} pixels where "
                    f"{paths[0].name} has {first.shape[1]}x{first.shape[0]}; "
                    "set data.image_size to resize all"
                )
            images[index] = pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)
            return found

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for done, found in enumerate(pool.map(put, range(len(paths))), start=1):
                    facts.update(found)
                    if done % 500 == 0 or done == len(paths):
                        progress("decoding images", done, len(paths))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return images, facts


def _repeated(images: NDArray[np.uint8], labels: NDArray[np.int64], trained: int) -> list[str]:
    """What there is to say of images that are there more than once.

    :param trained: so many, the first ones, are for training.
    """
    classes: dict[bytes, set[int]] = {}
    of_training: set[bytes] = set()
    again = twice = 0
    for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        classes.setdefault(digest, set()).add(label)
        if row < trained:
            twice += digest in of_training
            of_training.add(digest)
        else:
            again += digest in of_training
    several = sum(len(found) > 1 for found in classes.values())
    notes = []
    if twice:
        notes.append(f"{twice} training images are copies of others, pixel by pixel")
    if again:
        notes.append(f"{again} validation or test images are training images too, pixel by pixel")
    if several:
        notes.append(f"{several} images are in several classes, pixel by pixel the same")
    return notes


def image_folder(root: str | None, size: int | None) -> ImageFolder:
    """The source of a configuration.

    :raises ConfigError: no folder was given.
    """
    if root is None:
        raise ConfigError(
            "data.root: data.name 'imagefolder' needs a folder; add --set data.root=FOLDER"
        )
    return ImageFolder(home_expanded(root), size)
