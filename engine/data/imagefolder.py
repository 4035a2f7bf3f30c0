"""Anyone's own images: a folder per class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.arrays import Arrays, Progress
from engine.errors import ConfigError, DataError
from engine.filesystems import home_expanded

_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
)
_TEST_FRACTION = 6
_TEST_SEED = 20180507
Labelled = tuple[Path, int]


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """``root/train/CLASS/*`` and ``root/test/CLASS/*``, or ``root/CLASS/*`` alone.

    Without a test part a sixth of the images, drawn by a fixed seed, is one. Grey images have one
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
        split = self.root / "train"
        base = split if split.is_dir() else self.root
        first = next(_files(base, tuple(_folders(base))), None)
        jpeg = first is not None and first[0].suffix.lower() in (".jpg", ".jpeg")
        return f"image folder {self.root.resolve().name}{' (JPEG copy)' if jpeg else ''}"

    def locate(self, progress: Progress) -> list[Path]:
        """Its image files, in a fixed order."""
        _, train, test = self._list()
        return [path for path, _ in chain(train, test)]

    def decode(self, progress: Progress) -> Arrays:
        """Decode all images, on all cores."""
        classes, train, test = self._list()
        images = self._decode([path for path, _ in chain(train, test)], progress)
        labels = np.array([label for _, label in chain(train, test)], dtype=np.int64)
        count = len(train)
        return Arrays(images[:count], labels[:count], images[count:], labels[count:], classes, 255)

    def _list(self) -> tuple[tuple[str, ...], list[Labelled], list[Labelled]]:
        """Class names, and the labelled files of both parts."""
        if not self.root.is_dir():
            raise DataError(
                f"data.root: expected a folder with a folder of images per class, found no folder "
                f"at {self.root}"
            )
        split = self.root / "train"
        base = split if split.is_dir() else self.root
        classes = tuple(_folders(base))
        if len(classes) < 2:
            raise DataError(f"{base}: expected at least two class folders, found {len(classes)}")
        train = list(_files(base, classes))
        if base is self.root:
            order = np.random.default_rng(_TEST_SEED).permutation(len(train))
            held_out = set(order[: len(train) // _TEST_FRACTION].tolist())
            test = [item for index, item in enumerate(train) if index in held_out]
            train = [item for index, item in enumerate(train) if index not in held_out]
        else:
            test = list(_files(self.root / "test", classes))
            unknown = sorted(set(_folders(self.root / "test")) - set(classes))
            if unknown:
                raise DataError(f"{self.root}/test: class {unknown[0]!r} is not in train")
        if not train:
            raise DataError(f"{base}: no images in it ({', '.join(sorted(_SUFFIXES))})")
        return classes, train, test

    def _decode(self, paths: list[Path], progress: Progress) -> NDArray[np.uint8]:
        with warnings.catch_warnings():
            # Pillow warns of what it can read all the same; what it can not is an error below
            warnings.simplefilter("ignore")
            try:
                return self._decode_as("L" if _is_grey(paths[0]) else "RGB", paths, progress)
            except _NotGreyError:
                return self._decode_as("RGB", paths, progress)
            except MemoryError:
                raise DataError(
                    f"{self.root}: {len(paths):,} images of this size do not fit into memory; "
                    "set data.image_size to make all smaller"
                ) from None

    def _decode_as(self, mode: str, paths: list[Path], progress: Progress) -> NDArray[np.uint8]:
        channels = 1 if mode == "L" else 3
        first = self._read(paths[0], mode)
        images = np.empty((len(paths), channels, *first.shape[:2]), dtype=np.uint8)

        def put(index: int) -> None:
            pixels = self._read(paths[index], mode)
            if pixels.shape != first.shape:
                raise DataError(
                    f"{paths[index]}: {pixels.shape[1]}x{pixels.shape[0]} pixels where "
                    f"{paths[0].name} has {first.shape[1]}x{first.shape[0]}; "
                    "set data.image_size to resize all"
                )
            images[index] = pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for done, _ in enumerate(pool.map(put, range(len(paths))), start=1):
                    if done % 500 == 0 or done == len(paths):
                        progress("decoding images", done, len(paths))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return images

    def _read(self, path: Path, mode: str) -> NDArray[Any]:
        try:
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise ValueError(f"{image.width}x{image.height} pixels, too many")
                if image.mode.startswith(("I", "F")):
                    # Pillow would cut off everything above 255
                    raise ValueError("more than 8 bits a channel; convert it to 8")
                if mode == "L" and image.mode not in _GREY:
                    raise _NotGreyError
                pixels = image.convert(mode)
                if self.size is not None:
                    pixels = pixels.resize((self.size, self.size), Image.Resampling.BILINEAR)
                return np.asarray(pixels)
        except _NotGreyError:
            raise
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
            reason = str(error).removesuffix(f" {str(path)!r}") or type(error).__name__
            raise DataError(f"{path}: not an image ({reason}); remove or replace it") from None


_GREY = ("1", "L")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Whatever a file is called, no other decoder sees it: some start other programs."""
_MAX_PIXELS = 1 << 26
"""Of one image; a small file can declare any number, and every core decodes one at a time."""


class _NotGreyError(Exception):
    """An image has colours although the first had none."""


def _is_grey(path: Path) -> bool:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.mode in _GREY
    except Exception:  # noqa: BLE001 - decoders raise anything on damaged files
        return False  # decoding will say what is wrong


def _folders(base: Path) -> list[str]:
    if not base.is_dir():
        return []
    with _listing(base):
        return sorted(
            entry.name for entry in os.scandir(base) if _is(entry.is_dir) and entry.name[0] != "."
        )


def _files(base: Path, classes: tuple[str, ...]) -> Iterator[Labelled]:
    for label, name in enumerate(classes):
        folder = base / name
        if folder.is_dir():
            with _listing(folder):
                names = sorted(
                    entry.name
                    for entry in os.scandir(folder)
                    if Path(entry.name).suffix.lower() in _SUFFIXES
                    and entry.name[0] != "."
                    and _is(entry.is_file)
                )
            yield from ((folder / name, label) for name in names)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:
        return False  # a link to itself


@contextmanager
def _listing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder}: can not be listed ({error.strerror})") from None


def image_folder(root: str | None, size: int | None) -> ImageFolder:
    """The source of a configuration.

    :raises ConfigError: no folder was given.
    """
    if root is None:
        raise ConfigError(
            "data.root: data.name 'imagefolder' needs a folder; add --set data.root=FOLDER"
        )
    return ImageFolder(home_expanded(root), size)
