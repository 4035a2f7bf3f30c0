"""Public data sets: fetched, verified, unpacked and read; every fault is one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.config import DataConfig
from engine.data import load_dataset, prepare
from engine.errors import DataError
from tests.engine.data import served
from tests.engine.data.conftest import closed_address, offer_cifar, offer_mnist, offer_usps
from tests.reliability.report import BAD_INPUT, MORE, promise

DATA_FAULT = promise(
    BAD_INPUT,
    "data missing, truncated, with a wrong hash, or no network",
    "what was expected, where it was looked for, how to get it, exit 3",
)
SHARED_USPS = Path(__file__).resolve().parents[4] / "shared" / "data" / "usps"


def _fault(name: str, folder: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepare(DataConfig(name=name, **settings), cache_dir=folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_usps_is_downloaded_once(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_usps(site, kinds, monkeypatch)
    steps: list[tuple[str, int, int | None]] = []
    config = DataConfig(name="usps")
    arrays = prepare(config, cache_dir=tmp_path, progress=lambda *step: steps.append(step)).arrays
    assert arrays.train_images.shape == (20, 1, 16, 16)
    assert arrays.test_images.shape == (10, 1, 16, 16)
    assert arrays.train_images.reshape(20, 256).argmax(axis=1).tolist() == list(range(20))
    assert arrays.train_labels.tolist() == [*range(10), *range(10)]
    assert (arrays.scale, len(arrays.classes)) == (255, 10)
    size = len(site.files["usps.bz2"])
    assert ("downloading usps.bz2", size, size) in steps
    assert site.asked == ["usps.bz2", "usps.t.bz2"]
    prepare(config, cache_dir=tmp_path)
    assert len(site.asked) == 2
    assert not list(tmp_path.rglob("*.part"))


def test_mnist_comes_from_the_second_mirror(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_mnist(site, kinds, monkeypatch)
    arrays = prepare(DataConfig(name="mnist"), cache_dir=tmp_path).arrays
    assert arrays.train_images.shape == (12, 1, 28, 28)
    expected = np.arange(12 * 784).astype(np.uint8).reshape(12, 1, 28, 28)
    assert np.array_equal(arrays.train_images, expected)
    assert arrays.test_labels.tolist() == [0, 1, 2, 3, 4]
    assert len(arrays.classes) == 10


def test_cifar_is_unpacked_channels_first(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_cifar(site, kinds, monkeypatch)
    arrays = prepare(DataConfig(name="cifar10"), cache_dir=tmp_path).arrays
    assert arrays.train_images.shape == (8, 3, 32, 32)
    assert arrays.train_images[:, 0, 0, 0].tolist() == [200] * 8
    assert arrays.train_images[:, 1, 0, 0].tolist() == [0] * 4 + [1] * 4
    assert arrays.classes == ("plane", "car", "bird", "cat")


@DATA_FAULT
def test_truncated_download(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_usps(site, kinds, monkeypatch)
    site.cut = {"usps.bz2"}
    message = _fault("usps", tmp_path)
    assert message.startswith("usps.bz2 is not in ")
    assert "could not be downloaded" in message
    assert not list(tmp_path.rglob("usps.bz2"))
    assert not list(tmp_path.rglob("*.part"))


@DATA_FAULT
def test_wrong_content_names_both_hashes(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_usps(site, kinds, monkeypatch)
    expected = served.md5(site.files["usps.bz2"])
    site.files["usps.bz2"] = b"a captive portal"
    message = _fault("usps", tmp_path)
    assert expected in message
    assert served.md5(b"a captive portal") in message
    assert not list(tmp_path.rglob("usps.bz2"))


@DATA_FAULT
def test_an_unpacked_file_is_compared_with_its_archive(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_mnist(site, kinds, monkeypatch)
    first = prepare(DataConfig(name="mnist"), cache_dir=tmp_path)
    path = tmp_path / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for changed in (whole[:-1] + bytes([whole[-1] ^ 1]), whole + b"x"):
        path.write_bytes(changed)
        message = _fault("mnist", tmp_path)
        assert message.startswith(f"{path}: expected what is in {path.name}.gz beside it")
        assert "delete it" in message
    path.unlink()
    assert prepare(DataConfig(name="mnist"), cache_dir=tmp_path).digest == first.digest
    packed = path.with_suffix(".gz")
    packed.write_bytes(packed.read_bytes()[:-20])
    os.utime(path, ns=(1, 1))
    assert _fault("mnist", tmp_path).startswith(f"{packed}: can not be unpacked")
    packed.unlink()
    # a person may have the unpacked files alone
    assert prepare(DataConfig(name="mnist"), cache_dir=tmp_path).digest == first.digest


@DATA_FAULT
def test_usps_of_another_source_is_guarded_by_its_own_checksums(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_usps(site, kinds, monkeypatch)
    path = tmp_path / "usps" / "usps.bz2"
    path.parent.mkdir()
    content = bytearray(site.files["usps.bz2"])
    for place in range(12, len(content) - 12, len(content) // 7):
        content[place] ^= 1
        path.write_bytes(content)
        assert "delete the files there" in _fault("usps", tmp_path)
        content[place] ^= 1


@pytest.mark.parametrize(
    ("name", "file"),
    [("mnist", "MNIST/raw/t10k-images-idx3-ubyte.gz"), ("cifar10", "cifar-10-python.tar.gz")],
)
def test_an_archive_that_is_there_is_verified_before_it_is_unpacked(
    name: str,
    file: str,
    site: served.Site,
    kinds: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (offer_mnist if name == "mnist" else offer_cifar)(site, kinds, monkeypatch)
    archive = tmp_path / "mine" / file
    archive.parent.mkdir(parents=True)
    whole = site.files[archive.name]
    archive.write_bytes(whole[: len(whole) // 2])
    message = _fault(name, tmp_path / "cache", root=str(tmp_path / "mine"))
    assert message.startswith(str(archive))
    assert served.md5(whole) in message
    assert archive.is_file()  # a user's file is the user's to delete


@DATA_FAULT
def test_missing_on_the_server(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_usps(site, kinds, monkeypatch)
    site.files.clear()
    message = _fault("usps", tmp_path)
    assert "HTTP 404" in message
    assert "put the file there yourself" in message


@DATA_FAULT
def test_no_network(kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"{closed_address()}usps.bz2"
    parts = {"train": [url, "usps.bz2", "0" * 32], "test": [url, "usps.t.bz2", "0" * 32]}
    monkeypatch.setattr(kinds.USPS, "split_list", parts)
    message = _fault("usps", tmp_path)
    assert str(tmp_path / "usps") in message
    assert "refused" in message
    assert "put the file there yourself (MD5" in message


def test_a_root_with_the_files_needs_no_network(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_usps(site, kinds, monkeypatch)
    root = tmp_path / "mine"
    root.mkdir()
    for name, content in site.files.items():
        (root / name).write_bytes(content)
    config = DataConfig(name="usps", root=str(root))
    found = prepare(config, cache_dir=tmp_path / "cache")
    assert len(found.arrays.train_labels) == 20
    assert site.asked == []


@promise(MORE, "an archive with paths that lead outside", "refused, nothing is written")
def test_an_archive_can_not_write_outside(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_cifar(site, kinds, monkeypatch, folder="../escaped")
    _fault("cifar10", tmp_path / "cache" / "deep")
    assert not list(tmp_path.rglob("escaped"))


@promise(MORE, "CIFAR-10's own batches, which are pickles", "read only if their hash is right")
def test_a_changed_pickle_is_never_loaded(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_cifar(site, kinds, monkeypatch)
    folder = tmp_path / "mine" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in served.cifar_members().items():
        (folder / name).write_bytes(content)
    harmful = f"cposix\nmkdir\n(V{tmp_path}/loaded\ntR.".encode()
    (folder / "data_batch_2").write_bytes(harmful)
    message = _fault("cifar10", tmp_path, root=str(tmp_path / "mine"))
    assert "CIFAR-10" in message
    assert not (tmp_path / "loaded").exists()


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_USPS.is_dir(), reason="no ../shared/data/usps")
def test_the_real_usps(tmp_path: Path) -> None:
    config = DataConfig(name="usps", root=str(SHARED_USPS), validation=1000)
    data = load_dataset(config, device=torch.device("cpu"), cache_dir=tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (6291, 1000, 2007)
    assert (data.shape, data.num_classes, data.label) == ((1, 16, 16), 10, "USPS")
