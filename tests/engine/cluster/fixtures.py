"""A cluster without processes and its clock, for tests of the engine and of the commands."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from engine.cluster import seat
from tests.engine.cluster.fake_ray import FakeRay


class Clock:
    """Stands in for the module ``time``; sleeping takes no time.

    :ivar step: seconds that go by from one look to the next.
    """

    def __init__(self, step: float = 0.0) -> None:
        self.now = 1000.0
        self.step = step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(name="ray")
def fake_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    """A cluster of one node with one CPU, in the place of Ray."""
    fake = FakeRay()
    for name, module in {
        "ray": fake,
        "ray._private": fake._private,
        "ray._private.worker": fake._private.worker,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(seat, "NEWS_SECONDS", 0.02)
    (tmp_path / "away").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "away"))
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        yield fake
    fake.close()


@pytest.fixture(name="clock")
def fake_clock(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the pool and of the nodes."""
    made = Clock()
    ray.sleep = made.sleep
    for module in ("ray_pool", "fleet"):
        monkeypatch.setattr(f"engine.cluster.{module}.time", made)
    return made
