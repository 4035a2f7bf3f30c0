"""The pool of a cluster where processes, nodes, the head or room on the disk are lost."""

from __future__ import annotations

import pytest

from engine.cluster import arrivals
from engine.cluster.seat import News
from engine.cluster.unfit import FALSE_STARTS_ALLOWED
from engine.control import Desired
from engine.errors import ConfigError, StorageFullError, TeamError
from engine.pool import Outcome
from engine.run import Run
from tests.engine.cluster.conftest import FINISHED, begin, hear
from tests.engine.cluster.fake_ray import RayError, ScriptedSeat, actor_died, node
from tests.reliability.trainings import outcome


def test_a_death_ends_the_stay_of_a_run_and_another_worker_takes_it(pool, ray, home):
    begin(pool, ray, home)
    ray.actors[0].die(actor_died())
    text = "its process is gone: The actor is dead because its worker process has died."
    assert hear(pool) == [Outcome(home.id, "died", text)]
    assert not home.is_live()
    begin(pool, ray, home)
    assert len(ray.actors) == 2


def test_who_dies_before_it_begins_returns_its_run_until_its_node_is_left_out(
    pool, ray, clock, home
):
    ray.machines.append(node("laptop", "10.0.0.9", CPU=0.0))  # it only asks
    before = arrivals.status_of(home)
    for _ in range(FALSE_STARTS_ALLOWED):
        pool.give(home.id)
        ray.actors[-1].die(actor_died())
        assert hear(pool) == [Outcome(home.id, "returned")]
        assert arrivals.status_of(home) == before
        assert not home.is_live()
    begin(pool, ray, home)  # what came before were accidents
    ray.actors[-1].die(actor_died())
    assert [one.kind for one in hear(pool)] == ["died"]
    for _ in range(FALSE_STARTS_ALLOWED):
        pool.give(home.id)
        ray.actors[-1].die(actor_died())
        assert hear(pool) == [Outcome(home.id, "returned")]
    pool.give(home.id)
    ray.actors[-1].die(actor_died())
    (returned,) = pool.wait(0.1)
    assert returned.kind == "returned"
    assert returned.text.startswith("machine 10.0.0.1 is not used any more: its process is gone")
    assert pool.idle == 0
    clock.now += 3
    with pytest.raises(ConfigError, match=r"no machine of the cluster can train: 10\.0\.0\.1: its"):
        pool.wait(0.1)
    ray.machines = [node("new", CPU=1.0)]  # started anew
    clock.now += 3
    assert pool.wait(0.1) == []
    assert pool.idle == 1


def test_a_node_on_which_no_worker_can_begin_is_left_out(pool, ray, clock, home):
    def begin_unless_at_bb(*given):
        if ray.this_node["NodeID"] == "bb":
            raise RuntimeError("expected torch 2")
        return ScriptedSeat(*given)

    ray.worker = begin_unless_at_bb
    ray.machines = [node("bb", "10.0.0.2", CPU=3.0)]
    clock.now += 3
    pool.wait(0.1)
    assert pool.idle == 3
    pool.give(home.id)
    ray.machines.append(node("cc", CPU=1.0))
    clock.now += 3
    text = "machine 10.0.0.2 is not used any more: no process could begin there: "
    assert hear(pool) == [Outcome(home.id, "returned", f"{text}RuntimeError: expected torch 2")]
    assert pool.idle == 1
    begin(pool, ray, home)
    assert ray.alive[0].node["NodeID"] == "cc"


NODE_DIED = RayError("The actor died because its node has died. Node Id: aa\n\tip: 10.0.0.1")


def test_a_node_that_is_taken_away_may_come_again(pool, ray, clock, home):
    begin(pool, ray, home)
    ray.actors[-1].die(NODE_DIED)
    ray.machines = []
    clock.now += 3
    assert [one.kind for one in pool.wait(0.1)] == ["died"]
    assert (pool.idle, home.is_live()) == (0, False)
    ray.machines = [node(CPU=1.0)]
    clock.now += 3
    pool.wait(0.1)
    begin(pool, ray, home)


def test_a_run_that_no_worker_ever_begins_has_to_answer_for_it(pool, ray, home):
    kinds = []
    for _ in range(6):
        pool.give(home.id)
        ray.actors[-1].die(NODE_DIED)
        kinds += [one.kind for one in hear(pool)]
    assert kinds == ["returned"] * 5 + ["died"]
    assert pool.idle == 1  # not the node


def test_an_idle_worker_that_died_is_no_false_start(pool, ray, home, archive):
    for _ in range(FALSE_STARTS_ALLOWED + 1):
        begin(pool, ray, home).say(FINISHED, archive)
        assert [one.kind for one in hear(pool)] == ["ended"]
        ray.actors[-1].die(actor_died())
        pool.give(home.id)
        assert hear(pool) == [Outcome(home.id, "returned")]
    assert pool.idle == 1


def refuse(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the disk be full for so many arrivals."""
    left, take_in = [None] * times, arrivals.take_in

    def take_in_or_refuse(run: Run, archive: bytes) -> None:
        if left:
            left.pop()
            raise StorageFullError("no room")
        take_in(run, archive)

    monkeypatch.setattr(arrivals, "take_in", take_in_or_refuse)


def test_an_end_waits_for_room_on_the_disk(pool, ray, clock, home, archive, trained, monkeypatch):
    refuse(monkeypatch, 3)
    worker = begin(pool, ray, home)
    worker.say(News("kept"), archive)  # what comes later brings all of it
    assert hear(pool) == []
    assert not home.is_waiting()
    worker.say(FINISHED, archive)
    assert pool.wait(0.1) == []
    assert home.is_waiting()
    before = clock.now
    assert pool.wait(0.1) == []
    assert clock.now > before  # there is nobody to ask meanwhile
    clock.now += 1.1
    assert pool.wait(0.1) == []
    clock.now += 1.1
    assert pool.wait(0.1) == [Outcome(home.id, "ended", status="finished")]
    assert not (home.path / "waiting").exists()
    assert outcome(home) == trained


def test_an_end_without_room_on_the_disk_can_be_stopped(
    pool, ray, clock, home, archive, monkeypatch
):
    refuse(monkeypatch, 1000)
    begin(pool, ray, home).say(FINISHED, archive)
    assert hear(pool) == []
    pool.tell(Desired.STOPPED)
    clock.now += 1.1
    (failed,) = hear(pool)
    assert failed.text == "stopped without room for its last steps: no room"
    assert not home.is_live()


def test_a_lost_head_ends_the_sweep_after_a_while(pool, ray, clock, home):
    worker = begin(pool, ray, home)
    ray.lose_head()
    clock.now += 3
    assert pool.wait(0.1) == []
    assert pool.idle == 0
    clock.now += 19
    assert pool.wait(0.1) == []
    assert home.is_live()
    clock.now += 3
    with pytest.raises(TeamError, match="the head of the Ray cluster is gone; what came home"):
        pool.wait(0.1)
    pool.close()
    assert not home.is_live()
    assert worker.told == []  # it would wait for the head


def test_nothing_is_begun_without_a_head(pool, ray, home):
    ray.lose_head()
    pool.give(home.id)
    assert pool.wait(0.1) == [Outcome(home.id, "returned")]
    assert ray.actors == []
    assert not home.is_live()


def test_a_head_may_be_silent_for_a_while(pool, ray, clock, home):
    for _ in range(2):
        ray.is_new = True
        for _ in range(6):
            clock.now += 3
            pool.wait(0.1)
            assert pool.idle == 0
        ray.is_new = False
        clock.now += 3
        pool.wait(0.1)
        assert pool.idle == 1
