"""Files of others among downloaded data are left alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from engine.config import DataConfig
from engine.data import prepare
from engine.errors import ProxPropError
from tests.engine.data import served
from tests.engine.data.conftest import offer_cifar, offer_mnist, offer_usps
from tests.engine.data.test_data_cache import FOREIGN, PRIVATE


@FOREIGN
def test_what_else_is_in_the_folder_of_batches_stays(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_cifar(site, kinds, monkeypatch)
    folder = tmp_path / "mine" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "NOTES.txt").write_text("mine")
    (folder / "test_batch").write_bytes(served.cifar_members()["test_batch"])
    config = DataConfig(name="cifar10", root=str(tmp_path / "mine"))
    assert len(prepare(config, cache_dir=tmp_path / "cache").arrays.train_labels) == 8
    assert (folder / "NOTES.txt").read_text() == "mine"


@FOREIGN
@pytest.mark.parametrize("place", ["batches", "batch", "archive"])
def test_nothing_is_written_through_or_over_a_link(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    offer_cifar(site, kinds, monkeypatch)
    folder = tmp_path / "mine" / "cifar-10-batches-py"
    link, target = folder, tmp_path / "elsewhere"
    if place == "batches":
        folder.parent.mkdir()
        target.mkdir()
    elif place == "batch":
        folder.mkdir(parents=True)
        link = folder / "data_batch_1"
    else:
        folder.parent.mkdir()
        link = folder.parent / "cifar-10-python.tar.gz"
    link.symlink_to(target)
    config = DataConfig(name="cifar10", root=str(tmp_path / "mine"))
    with pytest.raises(ProxPropError, match=f"{re.escape(str(link))}: expected .* move it away"):
        prepare(config, cache_dir=tmp_path / "cache")
    assert link.is_symlink()
    assert place != "batches" or not list(target.iterdir())
    assert place == "batches" or not target.exists()


@FOREIGN
def test_what_is_unpacked_goes_over_no_link(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer_mnist(site, kinds, monkeypatch)
    folder = tmp_path / "mnist" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    (folder / ".train-images-idx3-ubyte.part").symlink_to(tmp_path / "precious")
    assert len(prepare(DataConfig(name="mnist"), cache_dir=tmp_path).arrays.train_labels) == 12
    assert (tmp_path / "precious").read_text() == "mine"


@PRIVATE
def test_nobody_else_can_change_what_was_downloaded(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, offer in (("usps", offer_usps), ("mnist", offer_mnist), ("cifar10", offer_cifar)):
        offer(site, kinds, monkeypatch)
        before = os.umask(0)
        try:
            prepare(DataConfig(name=name), cache_dir=tmp_path / "data")
        finally:
            os.umask(before)
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
        assert path.stat().st_mode & (0o077 if path.is_dir() else 0o022) == 0, path
