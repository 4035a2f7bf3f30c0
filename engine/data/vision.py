"""Data sets that torchvision reads: CIFAR-10 and -100, MNIST, Fashion-MNIST, USPS.

Downloads are verified by the hashes that torchvision knows, before anything is unpacked. CIFAR's
files are pickles, the one exception to the rule that this program reads none: torchvision checks
the hash of each of them before it loads it. Unpacked files of MNIST are compared with their
archives before they are read; where there are no archives, nobody knows what they should be. Those
of USPS may be another distribution of the digits; what guards them is the checksum in each block
of bzip2.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.data.arrays import Arrays, Located, Progress
from engine.data.download import ensure, fetch
from engine.data.files import make_folder, new_file, require_free
from engine.data.torchvision_import import import_torchvision
from engine.errors import DataError
from engine.own_files import require_own_folder

_CLASSES = {
    "cifar10": ("CIFAR10", "CIFAR-10"),
    "cifar100": ("CIFAR100", "CIFAR-100"),
    "mnist": ("MNIST", "MNIST"),
    "fashion-mnist": ("FashionMNIST", "Fashion-MNIST"),
    "usps": ("USPS", "USPS"),
}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Vision:
    """A data set of ``torchvision.datasets``.

    :ivar name: its name in the configuration.
    :ivar root: folder as torchvision lays it out; what is missing is downloaded into it.
    """

    name: str
    root: Path

    @property
    def label(self) -> str:
        """Its usual name."""
        return _CLASSES[self.name][1]

    def locate(self, progress: Progress) -> Located:
        """Its files, downloaded and unpacked where they are missing."""
        kind = self._kind
        try:
            if self.name.startswith("cifar"):
                return Located(self._cifar(kind, progress))
            if self.name == "usps":
                return Located(self._usps(kind, progress))
            return Located(self._mnist(kind, progress))
        except (OSError, EOFError, tarfile.TarError) as error:
            raise DataError(
                f"{self.label} in {self.root} can not be unpacked ({error}); delete the files "
                "there, so that they are downloaded anew"
            ) from None

    def decode(self, progress: Progress) -> Arrays:
        """Read both parts through torchvision."""
        progress(f"reading {self.label}", 0, 2)
        if "mnist" in self.name:
            self._compare_with_archives()
        parts = []
        for done, train in enumerate((True, False), start=1):
            try:
                parts.append(self._kind(str(self.root), train=train, download=False))
            except Exception as error:  # noqa: BLE001 - whatever torchvision's parsers raise
                raise DataError(
                    f"{self.label} in {self.root} can not be read ({error}); delete the files "
                    "there, so that they are downloaded anew"
                ) from None
            progress(f"reading {self.label}", done, 2)
        (train_images, train_labels), (test_images, test_labels) = map(_samples, parts)
        classes = getattr(parts[0], "classes", None)
        if classes is None:
            classes = [str(number) for number in range(int(train_labels.max()) + 1)]
        return Arrays(
            train_images, train_labels, test_images, test_labels, tuple(map(str, classes)), 255
        )

    @property
    def _kind(self) -> Any:
        return getattr(import_torchvision().datasets, _CLASSES[self.name][0])

    def _cifar(self, kind: Any, progress: Progress) -> tuple[Path, ...]:
        folder = self.root / kind.base_folder
        members = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
        files = tuple(folder / name for name, _ in members)
        if not all(path.is_file() for path in files):
            archive = self.root / kind.filename
            ensure([kind.url], archive, kind.tgz_md5, progress)
            progress(f"unpacking {archive.name}", 0, None)
            self._unpack(archive, files)
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise DataError(f"{self.label}: {folder} lacks {', '.join(missing)}")
        return files

    def _unpack(self, archive: Path, files: tuple[Path, ...]) -> None:
        """Those that are missing, through a temporary folder, and nothing that points out of it;
        what else is in their folder stays."""
        folder = files[0].parent
        require_own_folder(folder)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".unpack-") as draft:
            with tarfile.open(archive) as tar:
                tar.extractall(draft, filter="data")
            unpacked = Path(draft) / folder.name
            if not unpacked.is_dir():
                raise DataError(f"{archive}: expected a folder {folder.name} in it, found none")
            make_folder(folder)
            for path in files:
                if not path.is_file() and (unpacked / path.name).is_file():
                    require_free(path)
                    (unpacked / path.name).replace(path)

    def _usps(self, kind: Any, progress: Progress) -> tuple[Path, ...]:
        files: list[Path] = []
        for url, name, md5 in kind.split_list.values():
            path = self.root / name
            # one that is there may have been converted from another distribution of the digits
            if not path.is_file():
                fetch([url], path, md5, progress)
            files.append(path)
        return tuple(files)

    def _mnist(self, kind: Any, progress: Progress) -> tuple[Path, ...]:
        folder = self.root / kind.__name__ / "raw"
        files: list[Path] = []
        for name, md5 in kind.resources:
            packed = folder / name
            path = packed.with_suffix("")
            if not path.is_file():
                ensure([f"{mirror}{name}" for mirror in kind.mirrors], packed, md5, progress)
                with gzip.open(packed) as source, new_file(path) as target:
                    shutil.copyfileobj(source, target)
            files.append(path)
        return tuple(files)

    def _compare_with_archives(self) -> None:
        """See that MNIST's unpacked files are what their archives hold.

        :raises DataError: one is not, or the archive is damaged.
        """
        kind = self._kind
        folder = self.root / kind.__name__ / "raw"
        for name, _ in kind.resources:
            packed = folder / name
            if not packed.is_file():
                continue
            path = packed.with_suffix("")
            try:
                with gzip.open(packed) as expected, path.open("rb") as found:
                    same = _are_same(expected, found)
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{packed}: can not be unpacked ({error}); delete it") from None
            if not same:
                raise DataError(
                    f"{path}: expected what is in {packed.name} beside it, found something else; "
                    "delete it, so that it is unpacked anew"
                )


def _are_same(one: gzip.GzipFile, other: BinaryIO) -> bool:
    while True:
        chunk = one.read(_CHUNK)
        if chunk != other.read(_CHUNK):
            return False
        if not chunk:
            return True


def _samples(part: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """uint8 ``(N, C, H, W)`` and int64 ``(N,)`` of a torchvision data set."""
    images = np.asarray(part.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, dtype=np.uint8), np.asarray(part.targets, dtype=np.int64)
