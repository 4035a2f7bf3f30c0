"""A folder of runs with a run in it, and a store alone, for the tests of both."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from engine.config import RunConfig
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from tests.engine.holding import Clock


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", clock=Clock())


@pytest.fixture
def run(runs: Runs) -> Run:
    return runs.create(RunConfig(name="first"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def writer(path: Path) -> Iterator[StoreWriter]:
    times = count(100)
    writer = StoreWriter.create(path, clock=lambda: float(next(times)))
    yield writer
    writer.close()


@pytest.fixture
def reader(writer: StoreWriter) -> Iterator[StoreReader]:
    with StoreReader(writer.path) as reader:
        yield reader
