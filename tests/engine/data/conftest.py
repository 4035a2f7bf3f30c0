"""A server on this machine that has small data sets in the place of the real ones."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from engine.data.torchvision_import import import_torchvision
from tests.engine.data import served


@pytest.fixture
def site() -> Iterator[served.Site]:
    with served.serve() as found:
        yield found


@pytest.fixture
def kinds() -> Any:
    return import_torchvision().datasets


def offer_usps(site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files = {"usps.bz2": served.usps(20), "usps.t.bz2": served.usps(10)}
    parts = {
        part: [f"{site.address}{name}", name, served.md5(content)]
        for part, (name, content) in zip(("train", "test"), site.files.items(), strict=True)
    }
    monkeypatch.setattr(kinds.USPS, "split_list", parts)


def offer_mnist(site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files = served.mnist_files()
    resources = [(name, served.md5(content)) for name, content in site.files.items()]
    monkeypatch.setattr(kinds.MNIST, "resources", resources)
    # the first mirror is down
    monkeypatch.setattr(kinds.MNIST, "mirrors", [f"{closed_address()}", site.address])


def offer_cifar(
    site: served.Site, kinds: Any, monkeypatch: pytest.MonkeyPatch, folder: str | None = None
) -> None:
    members = served.cifar_members()
    archive = served.tar("cifar-10-batches-py" if folder is None else folder, members)
    site.files = {"cifar-10-python.tar.gz": archive}
    hashes = {name: served.md5(content) for name, content in members.items()}
    kind = kinds.CIFAR10
    monkeypatch.setattr(kind, "url", f"{site.address}cifar-10-python.tar.gz")
    monkeypatch.setattr(kind, "tgz_md5", served.md5(archive))
    batches = ("data_batch_1", "data_batch_2")
    monkeypatch.setattr(kind, "train_list", [[name, hashes[name]] for name in batches])
    monkeypatch.setattr(kind, "test_list", [["test_batch", hashes["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashes["batches.meta"]})


def closed_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"
