"""A run that was begun, and a cluster without processes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.cluster.parcel import make_run, pack
from engine.cluster.ray_pool import RayPool
from engine.cluster.seat import News
from engine.cluster.shares import Share
from engine.control import AlwaysRun, Control, Desired
from engine.pool import Outcome
from engine.run import Run
from engine.runs import Runs
from engine.session import Sitting, sit
from tests.engine import small
from tests.engine.cluster.fake_ray import FakeRay, ScriptedSeat
from tests.engine.cluster.fixtures import Clock, fake_clock, fake_ray  # noqa: F401 - fixtures
from tests.reliability.trainings import outcome

BEGUN = News("begun", "aa")
FINISHED = News("ended", status="finished")
SETTINGS: dict[str, Any] = {"epochs": 4, "log__keep": 1, "log__keep_best": False, "threads": 1}


def train(run: Run, control: Control | None = None) -> None:
    sit(run, Sitting(control or AlwaysRun(), lambda event: None, small.cache_dir()))


class Stopping:
    """Says stop after so many questions."""

    def __init__(self, count: int) -> None:
        self.count = count

    def desired(self) -> Desired:
        self.count -= 1
        return Desired.RUNNING if self.count > 0 else Desired.STOPPED

    def stop_reason(self) -> str:
        return "test"


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was begun; to be copied."""
    run = Runs(tmp_path_factory.mktemp("begun")).create(small.config(**SETTINGS))
    train(run, Stopping(7))
    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the same run comes to without any interruption."""
    run = Runs(tmp_path_factory.mktemp("trained")).create(small.config(**SETTINGS))
    train(run)
    return outcome(run)


@pytest.fixture
def home(begun: Run, tmp_path: Path) -> Run:
    """A run of one's own that was begun."""
    return Run(shutil.copytree(begun.path, tmp_path / "home" / begun.id))


@pytest.fixture(scope="session")
def archive(begun: Run, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What comes home of that run once a worker has trained it to its end."""
    away = make_run(tmp_path_factory.mktemp("archive") / "away", pack(begun))
    train(away)
    return pack(away)


@pytest.fixture
def pool(ray: FakeRay, clock: Clock, home: Run, monkeypatch: pytest.MonkeyPatch) -> RayPool:
    """A pool whose workers answer what the test tells them to."""
    ray.worker = ScriptedSeat
    monkeypatch.setattr("engine.file_control.POLL_SECONDS", 0.0)
    return RayPool(home.path.parent, Share(1), None, None)


def hear(pool: RayPool) -> list[Outcome]:
    """Let the pool hear all that its workers have said."""
    return [outcome for _ in range(4) for outcome in pool.wait(0.1)]


def begin(pool: RayPool, ray: FakeRay, run: Run) -> ScriptedSeat:
    """Give a run to a worker that trains it."""
    pool.give(run.id)
    worker: ScriptedSeat = ray.seats[-1]
    worker.say(BEGUN)
    assert hear(pool) == []
    return worker
