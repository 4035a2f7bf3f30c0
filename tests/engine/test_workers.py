"""Processes that train runs: one that dies while nobody looks is replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from engine import verified
from engine.control import AlwaysRun
from engine.data import prepare
from engine.data.dataset import KeptDataset
from engine.pool import Outcome, Pool
from engine.runs import Runs
from engine.session import Sitting, sit
from engine.store_reader import StoreReader
from engine.workers import Workers
from tests.engine import small
from tests.engine.pools import InProcessPool


def finish(workers: Pool) -> list[Outcome]:
    found: list[Outcome] = []
    for _ in range(600):
        found += workers.wait(0.1)
        if not workers.running:
            return found
    raise AssertionError("it never ended")


@pytest.mark.system
def test_an_idle_process_that_died_is_replaced(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    first, second = (runs.create(small.config(seed=seed, epochs=1)) for seed in (0, 1))
    with Workers(1, tmp_path, small.cache_dir()) as workers:
        workers.give(first.id)
        (outcome,) = finish(workers)
        assert (outcome.kind, outcome.status) == ("ended", "finished")
        (idle,) = multiprocessing.active_children()
        assert idle.pid is not None
        os.kill(idle.pid, signal.SIGTERM)  # idle, it has nothing to keep
        idle.join(10)
        assert not idle.is_alive()
        workers.give(second.id)
        outcomes = finish(workers)
        # whether the death is seen before or after the run was given is a matter of moments
        assert outcomes[-1].kind in ("ended", "died")
    with StoreReader(first.database) as reader:
        assert reader.state()["side_by_side"] == 1


@pytest.mark.parametrize(("allowed", "kind"), [(False, "failed"), (True, "ended")])
def test_a_run_that_began_with_other_threads(tmp_path: Path, allowed: bool, kind: str) -> None:
    run = Runs(tmp_path).create(small.config(epochs=1, threads=1))
    sit(run, Sitting(AlwaysRun(), lambda event: None, small.cache_dir()))
    run.save_config(run.config().model_copy(update={"threads": 2, "epochs": 2}))
    with InProcessPool(1, tmp_path, small.cache_dir(), allow_inexact=allowed) as pool:
        pool.give(run.id)
        (outcome,) = finish(pool)
    assert outcome.kind == kind
    assert ("--allow-inexact" in outcome.text) is not allowed


@pytest.mark.system
@pytest.mark.parametrize("told", [True, False])
def test_what_was_verified_here_is_not_verified_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    config = small.config(epochs=1)
    digest = prepare(config.data, cache_dir=tmp_path / "data").digest
    (folder,) = (tmp_path / "data" / "decoded").iterdir()
    path = folder / "train_images.npy"
    damaged = path.read_bytes()[:-1] + b"\xff"
    path.write_bytes(damaged)
    parts = ("train_images", "train_labels", "test_images", "test_labels")
    mark = verified.mark([folder / f"{part}.npy" for part in parts], digest)
    monkeypatch.setattr(verified, "known", lambda: frozenset({mark} if told else ()))
    run = Runs(tmp_path / "runs").create(config)
    with Workers(1, tmp_path / "runs", tmp_path / "data") as workers:
        workers.give(run.id)
        (outcome,) = finish(workers)
    assert outcome.status == "finished"
    assert (path.read_bytes() == damaged) == told


def test_a_failure_is_left_in_the_run_s_store(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    run = runs.create(small.config(data__validation=99_999))
    with InProcessPool(3, tmp_path, small.cache_dir()) as pool:
        pool.give(run.id)
        (outcome,) = finish(pool)
    assert outcome.kind == "failed"
    assert "data.validation" in outcome.text
    with StoreReader(run.database) as reader:
        state = reader.state()
    assert state["status"] == "failed"
    assert state["reason"].startswith("data.validation")


def test_the_same_data_are_kept_and_others_loaded() -> None:
    kept, one, other = KeptDataset(), small.config(), small.config(data__normalize="standardize")
    first = kept.load(one.data, device=small.CPU, cache_dir=small.cache_dir())
    assert kept.load(one.data, device=small.CPU, cache_dir=small.cache_dir()) is first
    second = kept.load(other.data, device=small.CPU, cache_dir=small.cache_dir())
    assert second is not first
    assert float(second.offset.abs().sum()) > 0
