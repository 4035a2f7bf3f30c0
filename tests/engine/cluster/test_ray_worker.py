"""What trains runs on a machine of a cluster: what it answers, and what it leaves behind."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.cluster import arrivals, parcel, workspace
from engine.cluster.parcel import pack
from engine.cluster.seat import News, Outbox, Seat, versions
from engine.control import Desired, Word
from engine.errors import StorageFullError
from engine.locks import RunLock
from engine.run import Run
from engine.store_reader import StoreReader
from tests.engine import small
from tests.engine.cluster.fixtures import Clock
from tests.reliability.trainings import outcome

Make = Callable[..., Seat]


@pytest.fixture
def there(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files of the machine."""
    folder = tmp_path / "there"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def worker(there) -> Iterator[Make]:
    """Makes workers, which leave in the end."""
    made: list[Seat] = []

    def make(side_by_side: int = 1, *more: Any) -> Seat:
        made.append(Seat(versions(), str(small.cache_dir()), side_by_side, *more))
        return made[-1]

    threads = torch.get_num_threads()
    yield make
    torch.set_num_threads(threads)
    for seat in made:
        seat.leave()
    assert list(there.iterdir()) == []


def news_of(seat: Seat, number: int) -> list[tuple[News, bytes]]:
    """Return all that is to be known of a run until its end."""
    found: list[tuple[News, bytes]] = []
    while not found or found[-1][0].kind not in ("ended", "failed"):
        content, archive = seat.news(number)
        found.append((News.from_bytes(content), archive))
    return found


def test_a_worker_trains_run_after_run_and_hears_from_home(home, trained, worker, there):
    seat = worker(2)
    seat.tell(1, "stopped", "at once")  # it may overtake the run
    seat.begin(1, home.id, pack(home))
    *_, (news, archive) = news_of(seat, 1)
    assert (news.kind, news.status, news.text) == ("ended", "stopped", "at once")
    arrivals.take_in(home, archive)
    assert home.status() == "stopped"
    seat.begin(2, home.id, pack(home))
    (first, _), *_, (news, archive) = news_of(seat, 2)
    assert first.kind == "begun"
    assert (news.kind, news.status) == ("ended", "finished")
    arrivals.take_in(home, archive)
    assert outcome(home) == trained
    with StoreReader(home.database) as reader:
        assert reader.state()["side_by_side"] == 2
    seat.begin(3, "bad", b"nonsense\n")
    assert "what came is no run" in news_of(seat, 3)[-1][0].text
    (folder,) = there.iterdir()
    assert {path.name for path in folder.iterdir()} == {"lock"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_run_that_waits_comes_home_meanwhile(home, worker):
    seat = worker()
    seat.tell(1, "paused", "")
    seat.begin(1, home.id, pack(home))
    kinds = []
    while "freed" not in kinds:
        content, archive = seat.news(1)
        kinds.append(News.from_bytes(content).kind)
        if kinds[-1] == "held":
            arrivals.take_in(home, archive)
            with StoreReader(home.database) as reader:
                assert reader.state()["status"] == "paused"
            seat.tell(1, "running", "")
    news, _ = news_of(seat, 1)[-1]
    assert (news.kind, news.status) == ("ended", "finished")


def test_epochs_and_checkpoints_come_home_from_time_to_time(home, worker, monkeypatch):
    monkeypatch.setattr("engine.cluster.seat.time", Clock(step=100.0))
    seat = worker()
    seat.begin(1, home.id, pack(home))
    found = news_of(seat, 1)
    assert {news.kind for news, _ in found} <= {"begun", "epoch", "kept", "ended"}
    by_kind = {news.kind: (news, archive) for news, archive in found}
    news, _ = by_kind["epoch"]
    assert news.step == 4 * news.epoch > 0
    assert news.metrics["train_loss"] > 0
    _, archive = by_kind["kept"]
    arrivals.take_in(home, archive)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_run_that_began_elsewhere_otherwise(home, worker, allowed):
    home.save_config(home.config().model_copy(update={"threads": 2, "epochs": 2}))
    seat = worker(1, allowed)
    seat.begin(1, home.id, pack(home))
    news, _ = news_of(seat, 1)[-1]
    if allowed:
        assert (news.kind, news.status) == ("ended", "finished")
    else:
        assert news.kind == "failed"
        assert "threads was 1, is 2; --allow-inexact continues it all the same" in news.text


def test_a_slow_reader_gets_the_newest_epoch_and_checkpoint_and_all_else():
    box = Outbox()
    box.put(News("begun"))
    for step in range(5):
        box.put(News("epoch", step=step))
        box.put(News("kept"), b"%d" % step)
    box.put(News("held"), b"h")
    box.put(News("ended"), b"e")
    found = [box.take(0.0) for _ in range(6)]
    assert [news.kind for news, _ in found] == [
        "begun",
        "epoch",
        "kept",
        "held",
        "ended",
        "nothing",
    ]
    assert (found[1][0].step, found[2][1]) == (4, b"4")


@pytest.mark.parametrize("what", ["make_run", "pack"])
def test_a_worker_waits_for_room_on_its_disk(home, worker, monkeypatch, what):
    sent = pack(home)
    original, refusals = getattr(parcel, what), []

    def full(*arguments: Any) -> object:
        if len(refusals) < 3:
            refusals.append(what)
            if what == "make_run":
                arguments[0].mkdir()  # a part of it
            raise StorageFullError("no room")
        return original(*arguments)

    monkeypatch.setattr("engine.cluster.seat.time", Clock())
    monkeypatch.setattr(parcel, what, full)
    seat = worker()
    seat.begin(1, home.id, sent)
    news, came = news_of(seat, 1)[-1]
    assert refusals == [what] * 3
    assert (news.kind, news.status) == ("ended", "finished")
    arrivals.take_in(home, came)
    assert home.status() == "finished"


def test_a_worker_that_finds_no_room_can_be_stopped(home, worker, monkeypatch):
    def full(*arguments: object) -> object:
        raise StorageFullError("no room")

    sent = pack(home)
    monkeypatch.setattr("engine.cluster.seat.time", Clock())
    monkeypatch.setattr(parcel, "make_run", full)
    seat = worker()
    seat.begin(1, home.id, sent)
    assert News.from_bytes(seat.news(1)[0]).kind == "begun"
    seat.tell(1, "stopped", "enough")
    assert "no room" in news_of(seat, 1)[-1][0].text


def test_a_run_that_waits_without_room_for_a_copy_says_so_all_the_same(home, worker, monkeypatch):
    original, is_full = parcel.pack, [True]

    def pack_or_refuse(run: Run) -> bytes:
        if is_full:
            raise StorageFullError("no room")
        return original(run)

    sent = pack(home)
    monkeypatch.setattr(parcel, "pack", pack_or_refuse)
    seat = worker()
    seat.tell(1, "paused", "")
    seat.begin(1, home.id, sent)
    assert [News.from_bytes(seat.news(1)[0]).kind for _ in range(2)] == ["begun", "held"]
    is_full.clear()
    seat.tell(1, "running", "")
    assert news_of(seat, 1)[-1][0].status == "finished"


def test_a_machine_with_other_versions_takes_no_worker(there):
    with pytest.raises(RuntimeError, match=r"expected torch 1\.0 as on the machine that asks"):
        Seat({**versions(), "torch": "1.0"}, None, 1)
    assert list(there.iterdir()) == []


def test_a_stop_is_for_good():
    word = Word()
    word.hear(Desired.PAUSED, "")
    assert word.desired() is Desired.PAUSED
    word.hear(Desired.STOPPED, "why")
    word.hear(Desired.RUNNING, "")
    assert (word.desired(), word.stop_reason()) == (Desired.STOPPED, "why")


def test_what_a_killed_process_left_is_removed(tmp_path):
    old, young, held, link = (tmp_path / f"proxprop-ray-{name}" for name in "abcd")
    other = tmp_path / "other"
    for folder in (old, young, held, other):
        folder.mkdir()
        (folder / "lock").touch()
    link.symlink_to(tmp_path)
    for folder in (old, held, other):
        os.utime(folder, (0, 0))
    with RunLock(held / "lock"):
        workspace.remove_left(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert held.exists()
    assert other.exists()
    assert link.is_symlink()
