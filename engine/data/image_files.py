"""Which files below a folder are the samples of a data set, and what else is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.data.parts import listed
from engine.errors import DataError

Labelled = tuple[Path, int]

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_SUFFIXES = frozenset(
    {*JPEG, ".png", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
)
_PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folders of the parts of a data set are called, in any case."""
_TEST_FRACTION = 6
_TEST_SEED = 20180507
_LITTER_FOLDERS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found")
"""What archives, network disks and file systems leave: never classes."""
_LITTER_FILES = ("Thumbs.db", "desktop.ini")
_MOST_NOTES = 10
_MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Listing:
    """The samples of a folder.

    :ivar classes: names, sorted; their numbers are the labels.
    :ivar validation: empty where the folder has no such part.
    :ivar notes: what is there and is not read, a line each.
    """

    classes: tuple[str, ...]
    train: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    notes: tuple[str, ...]


def list_images(root: Path) -> Listing:
    """Find the images of ``root/train/CLASS``, ``root/test/CLASS`` and, where there is one,
    ``root/val/CLASS``; or of ``root/CLASS``, of which a sixth is drawn for the test.

    :raises DataError: there is no such folder, there are no two classes, a class has no images, or
        another part has a class that the training part has not.
    """
    if not root.is_dir():
        raise DataError(
            f"data.root: expected a folder with a folder of images per class, found no folder "
            f"at {root}"
        )
    found = _Folder(root)
    parts = _parts(root)
    if "train" not in parts:
        if parts:
            name = next(iter(parts.values())).name
            raise DataError(
                f"{root}: expected a folder 'train' beside {name!r}, found none; if it is a "
                "class, rename it"
            )
        classes = found.classes(root)
        train, test = _drawn(found.samples(root, classes), len(classes))
        return Listing(classes, train, (), test, found.told())
    found.pass_over(root, but=tuple(part.name for part in parts.values()))
    classes = found.classes(parts["train"])
    samples = {name: found.part(parts[name], classes) for name in _PARTS if name in parts}
    return Listing(
        classes,
        samples["train"],
        samples.get("validation", ()),
        samples.get("test", ()),
        found.told(),
    )


def _parts(root: Path) -> dict[str, Path]:
    """The folders of the parts that a data set is divided into, if it is.

    :raises DataError: there are two of a part.
    """
    found: dict[str, Path] = {}
    for name in _contents(root).folders:
        for part, names in _PARTS.items():
            if name.lower() in names:
                other = found.setdefault(part, root / name)
                if other.name != name:
                    raise DataError(
                        f"{root}: expected one folder of {part} images, found {other.name!r} and "
                        f"{name!r}; rename or remove one"
                    )
    return found


class _Contents(NamedTuple):
    """Names in a folder, sorted, without those that are hidden or that a system leaves."""

    folders: list[str]
    images: list[str]
    others: list[str]
    """Files with other endings."""
    gone: list[str]
    """Links to nothing, pipes and the like."""


def _contents(folder: Path) -> _Contents:
    found = _Contents([], [], [], [])
    with _listing(folder):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith(".") or entry.name in _LITTER_FILES:
                continue
            if _is(entry.is_dir):
                found.folders.append(entry.name)
            elif not _is(entry.is_file):
                found.gone.append(entry.name)
            elif _suffix(entry.name) in _SUFFIXES:
                found.images.append(entry.name)
            else:
                found.others.append(entry.name)
    return found


class _Folder:
    """Reads the folders below one, and remembers what it passes over."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._notes: dict[str, None] = {}

    def classes(self, base: Path) -> tuple[str, ...]:
        """Names of the class folders of the training part."""
        names = self._class_folders(base)
        if len(names) < 2:
            raise DataError(f"{base}: expected at least two class folders, found {len(names)}")
        for name in names:
            inside = _contents(base / name)
            if not inside.images:
                folders = listed(inside.folders)
                nested = f", only folders ({folders})" if folders else ""
                raise DataError(
                    f"{base / name}: no images in it{nested}; put the images of the class directly "
                    f"into it ({', '.join(sorted(_SUFFIXES))}), or remove it"
                )
        return names

    def part(self, base: Path, classes: tuple[str, ...]) -> tuple[Labelled, ...]:
        """The samples of a part, the classes of which are known."""
        unknown = sorted(set(self._class_folders(base)) - set(classes))
        if unknown:
            raise DataError(f"{base}: class {unknown[0]!r} is not in train")
        return self.samples(base, classes)

    def samples(self, base: Path, classes: tuple[str, ...]) -> tuple[Labelled, ...]:
        """The images of every class that is there, in the order of their names."""
        return tuple(
            (base / name / image, label)
            for label, name in enumerate(classes)
            if (base / name).is_dir()
            for image in self._images(base / name)
        )

    def pass_over(self, folder: Path, but: tuple[str, ...] = ()) -> None:
        """Note what a folder holds besides some of its folders, though no samples are expected."""
        found = _contents(folder)
        for name in found.folders:
            if name not in but:
                self._note(folder / name, f"not read ({_images_below(folder / name)})")
        if found.images:
            self._note(folder, f"{len(found.images)} images in no class folder are not read")
        self._note_gone(folder, found)

    def told(self) -> tuple[str, ...]:
        """What was passed over, a line each; of many only the first."""
        shown = list(self._notes)[:_MOST_NOTES]
        more = len(self._notes) - len(shown)
        return (*shown, f"… and {more} more of these") if more else tuple(shown)

    def _class_folders(self, base: Path) -> tuple[str, ...]:
        found = _contents(base)
        classes = tuple(name for name in found.folders if name not in _LITTER_FOLDERS)
        self.pass_over(base, but=classes)
        return classes

    def _images(self, folder: Path) -> list[str]:
        found = _contents(folder)
        for name in found.folders:
            text = f"a folder in a class is not read ({_images_below(folder / name)})"
            self._note(folder / name, text)
        if found.others:
            endings = listed(sorted({_suffix(name) or "none" for name in found.others}))
            text = f"{len(found.others)} files with other endings ({endings}) are not read"
            self._note(folder, text)
        self._note_gone(folder, found)
        if not found.images:
            self._note(folder, "no images in it")
        return found.images

    def _note_gone(self, folder: Path, found: _Contents) -> None:
        if found.gone:
            text = f"{len(found.gone)} links to nothing or things that are no files"
            self._note(folder, f"{text} ({listed(found.gone)}) are not read")

    def _note(self, folder: Path, text: str) -> None:
        place = (
            self._root.resolve().name if folder == self._root else folder.relative_to(self._root)
        )
        self._notes[f"{place}: {text}"] = None


def _drawn(
    samples: tuple[Labelled, ...], classes: int
) -> tuple[tuple[Labelled, ...], tuple[Labelled, ...]]:
    """Training and test samples: of every class a sixth is for the test, rounded, at least one; a
    single sample is to be trained on."""
    labels = np.array([label for _, label in samples])
    held_out: set[int] = set()
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        count = 0 if len(rows) < 2 else max(1, round(len(rows) / _TEST_FRACTION))
        random = np.random.default_rng((_TEST_SEED, label))
        held_out.update(random.permutation(rows)[:count].tolist())
    return (
        tuple(sample for row, sample in enumerate(samples) if row not in held_out),
        tuple(sample for row, sample in enumerate(samples) if row in held_out),
    )


def _images_below(folder: Path) -> str:
    """How many images a folder and those below it hold; a link may lead to all that there is."""
    if folder.is_symlink():
        return "a link"
    names = (name for _, _, names in os.walk(folder) for name in names)
    seen = islice(names, _MOST_COUNTED)
    count = sum(_suffix(name) in _SUFFIXES and name[0] != "." for name in seen)
    return f"{count}{' or more' if next(names, None) else ''} images in it"


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


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
