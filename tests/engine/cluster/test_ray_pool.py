"""The pool of a cluster: what it does with runs, answers and commands. No Ray is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.cluster import arrivals
from engine.cluster.connection import node_id
from engine.cluster.parcel import make_run
from engine.cluster.ray_pool import RayPool
from engine.cluster.seat import News, versions
from engine.cluster.shares import Share
from engine.control import Desired
from engine.errors import StorageError
from engine.pool import ORPHANED, Outcome
from engine.run import Run
from engine.store_copy import place_for_copy
from engine.store_reader import StoreReader
from tests.engine.cluster.conftest import FINISHED, begin, hear
from tests.engine.cluster.fake_ray import ScriptedSeat, node
from tests.reliability.trainings import newest_checkpoint, outcome


def test_a_run_is_away_until_it_has_ended(pool, ray, home, archive, trained, tmp_path):
    before = outcome(home)
    assert (pool.idle, pool.running) == (1, ())
    worker = begin(pool, ray, home)
    assert (pool.idle, pool.running) == (0, (home.id,))
    assert home.is_live()
    assert home.status() == "running"
    ((number, run, sent),) = worker.begun
    assert run == home.id
    assert outcome(make_run(tmp_path / "sent", sent)) == before
    worker.say(FINISHED, archive)
    assert hear(pool) == [Outcome(home.id, "ended", status="finished")]
    assert outcome(home) == trained
    assert not home.is_live()
    assert (pool.idle, pool.running) == (1, ())
    # the next run goes to the same worker
    other = Run(shutil.copytree(home.path, home.path.with_name("other")))
    pool.give(other.id)
    assert [sent[1] for sent in worker.begun] == [home.id, "other"]
    assert worker.begun[1][0] != number
    assert len(ray.actors) == 1


def test_what_a_worker_is_told_of_the_sweep(ray, clock, home):
    ray.worker = ScriptedSeat
    ray.machines = [node("aa", CPU=8.0, GPU=2.0), node("bb", CPU=8.0, GPU=1.0)]
    folder = Path("data")
    pool = RayPool(home.path.parent, Share(2, 0.5), 3, folder, allow_inexact=True)
    assert pool.idle == 3  # of 4 + 2
    pool.give(home.id)
    (actor,) = ray.actors
    assert actor.worker.given == (versions(), str(folder.absolute()), 3, True, node_id)
    assert (actor.options["num_cpus"], actor.options["num_gpus"]) == (2, 0.5)
    assert actor.options["max_restarts"] == 0  # it would begin again with what it was first given
    assert actor.options["max_concurrency"] > 2  # commands overtake a question that waits


def test_a_run_of_another_process_is_not_sent(pool, ray, home):
    with home.lock():
        pool.give(home.id)
        assert pool.running == (home.id,)
        ((outcome),) = pool.wait(0.1)
    assert outcome.kind == "busy"
    assert ray.actors == []


def test_what_a_death_left_is_not_sent(pool, ray, home):
    with place_for_copy(home.database) as copy:
        copy.write_bytes(b"")
        left = Path(shutil.copytree(copy.parent, copy.parent.with_name(".copy-leftover")))
    begin(pool, ray, home)
    assert not left.exists()


def test_a_run_that_can_not_be_read_is_not_sent(pool, ray, home):
    home.database.write_bytes(b"nonsense")
    with pytest.raises(StorageError):
        pool.give(home.id)
    assert not home.is_live()
    assert pool.idle == 1


def test_an_archive_without_room_on_its_way(pool, ray, home):
    ray.is_store_full = True
    pool.give(home.id)
    text = "its process is gone: the object store is full"
    assert hear(pool) == [Outcome(home.id, "died", text)]
    assert not home.is_live()


def test_what_happens_to_a_run_is_seen_at_home(pool, ray, home, archive):
    worker = begin(pool, ray, home)
    worker.say(News("epoch", step=9, epoch=1.5, metrics={"train_loss": 0.25}))
    assert hear(pool) == []
    with StoreReader(home.database) as reader:
        state = reader.state()
        assert reader.latest(["train_loss"], 1) == [(9, {"train_loss": 0.25})]
    assert (state["step"], state["epoch"], state["metrics"]) == (9, 1.5, {"train_loss": 0.25})
    kept = newest_checkpoint(home)
    worker.say(News("kept"), archive)
    worker.say(News("held"))
    worker.say(News("freed"))
    assert hear(pool) == [Outcome(home.id, "held"), Outcome(home.id, "freed")]
    assert newest_checkpoint(home) > kept
    assert home.is_live()


def test_a_failure_is_left_in_the_run_s_store(pool, ray, home):
    begin(pool, ray, home).say(News("failed", "no data"))
    assert hear(pool) == [Outcome(home.id, "failed", "no data")]
    assert arrivals.status_of(home) == ("failed", "no data")
    assert not home.is_live()
    assert len(ray.alive) == 1


@pytest.mark.parametrize(
    ("news", "archive", "text"),
    [
        (b"nonsense", b"", "what came is no news: "),
        (b'{"other": 1}', b"", "what came is no news: "),
        (News("kept"), b"nonsense\n", "it can not be kept here: what came is no run"),
    ],
)
def test_a_worker_that_talks_nonsense_is_ended(pool, ray, home, news, archive, text):
    before = outcome(home)
    begin(pool, ray, home).say(news, archive)
    (failed,) = hear(pool)
    assert failed.kind == "failed"
    assert failed.text.startswith(text)
    assert ray.alive == []
    assert not home.is_live()
    assert {**outcome(home), "state": before["state"]} == before


def test_commands_are_passed_on_once(pool, ray, home):
    worker = begin(pool, ray, home)
    (number, *_), *_ = worker.begun
    home.set_desired(Desired.PAUSED)
    hear(pool)
    home.set_desired(Desired.RUNNING)
    hear(pool)
    pool.tell(Desired.PAUSED)
    hear(pool)
    pool.tell(Desired.RUNNING)
    home.set_desired(Desired.PAUSED)
    hear(pool)
    pool.tell(Desired.STOPPED, "enough")  # overrides the pause
    hear(pool)
    assert worker.told == [
        (number, "paused", ""),
        (number, "running", ""),
        (number, "paused", ""),
        (number, "running", ""),
        (number, "paused", ""),
        (number, "stopped", "enough"),
    ]


@pytest.mark.parametrize("by", ["the sweep", "the run"])
def test_a_run_that_no_worker_has_begun_stops_at_once(pool, ray, home, by):
    pool.give(home.id)
    if by == "the sweep":
        pool.tell(Desired.STOPPED, by)
    else:
        home.set_desired(Desired.STOPPED, by)
    assert hear(pool) == [Outcome(home.id, "ended", by, "stopped")]
    assert arrivals.status_of(home) == ("stopped", by)
    assert ray.alive == []
    assert not home.is_live()


def test_what_is_away_at_the_end_is_stopped_and_comes_home(pool, ray, home, archive, trained):
    worker = begin(pool, ray, home)
    worker.tell = lambda number, desired, reason: (
        worker.say(News("ended", reason, desired), archive) or worker.told.append(reason)
    )
    with pool:
        pass
    assert worker.told == [ORPHANED]
    assert outcome(home) == trained
    assert not home.is_live()
    assert worker.has_left
    assert ray.alive == []


def test_a_worker_that_never_answers_is_given_up_in_the_end(pool, ray, clock, home):
    begin(pool, ray, home)
    before = clock.now
    pool.close()
    assert 50 < clock.now - before < 70
    assert not home.is_live()
    assert ray.alive == []


def test_an_idle_worker_leaves_after_a_while(pool, ray, clock, home, archive):
    worker = begin(pool, ray, home)
    clock.now += 60
    hear(pool)
    worker.say(FINISHED, archive)
    hear(pool)
    clock.now += 4
    hear(pool)
    assert ray.seats == [worker]
    clock.now += 3
    hear(pool)
    assert worker.has_left
    assert ray.alive == []
    assert pool.idle == 1
