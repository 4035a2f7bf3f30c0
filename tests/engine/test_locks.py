"""One process has a run, and its death gives the run back."""

from __future__ import annotations

import fcntl
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import locks
from engine.control import AlwaysRun, Desired
from engine.errors import BusyError, StorageError
from engine.locks import LockWatch, RunLock
from engine.run import Run
from engine.runs import Runs
from engine.session import Sitting, sit
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from tests.engine import small
from tests.engine.holding import hold
from tests.reliability.report import many

NOTHING: Mapping[float, Callable[[], object]] = {}


class FakeTime:
    """The module ``time`` for the locks, in which a wait takes no time.

    :param events: what happens after so many seconds.
    """

    def __init__(self, events: Mapping[float, Callable[[], object]] = NOTHING) -> None:
        self.now = 0.0
        self._events = dict(events)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [moment for moment in self._events if moment <= self.now]:
            self._events.pop(moment)()


def test_the_lock_of_a_deleted_run_is_worthless(
    runs: Runs, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def delete_first(descriptor: int, kind: int) -> None:
        run.path.rename(runs.root / ".deleted-x")
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    with pytest.raises(BusyError, match="deleted"):
        run.lock()


def test_the_lock_of_a_living_holder_is_soon_given_up(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "time", time := FakeTime())
    with run.lock(), pytest.raises(BusyError, match=run.id):
        run.lock()
    assert time.now < 0.8
    run.lock().release()


def test_a_holder_that_dies_is_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = run.lock()
    monkeypatch.setattr(locks, "time", time := FakeTime({0.1: holder.release}))
    run.lock().release()
    assert time.now >= 0.1


@pytest.mark.system
def test_a_killed_process_holds_nothing(run: Run) -> None:
    holder = hold(run)
    assert run.is_live()
    with pytest.raises(BusyError, match=run.id):
        run.lock()
    holder.kill()
    holder.communicate()
    assert not run.is_live()
    with run.lock() as lock:
        assert run.is_live()
        lock.release()
        assert not run.is_live()


def test_a_reader_that_probes_does_not_turn_a_trainer_away(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader is waited for longer than a holder."""
    with run.lock_file.open() as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        events = {0.8: lambda: fcntl.flock(probe, fcntl.LOCK_UN)}
        monkeypatch.setattr(locks, "time", FakeTime(events))
        with pytest.raises(BusyError):
            run.lock(wait=0.1)
        run.lock().release()


def test_probing_without_a_lock_file_creates_nothing(run: Run) -> None:
    run.lock_file.unlink()
    before = sorted(run.path.iterdir())
    assert not run.is_live()
    assert sorted(run.path.iterdir()) == before
    run.lock().release()
    assert run.lock_file.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_is_a_link_is_refused(run: Run, tmp_path: Path) -> None:
    run.lock_file.unlink()
    run.lock_file.symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError):
        run.lock()
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("status", ["running", "paused"])
def test_without_a_lock_nobody_knows_who_trains(runs: Runs, run: Run, status: str) -> None:
    with StoreWriter(run.database) as writer:
        writer.set_state({"status": status})
    run.lock_file.unlink()
    for take in (run.lock, lambda: runs.delete(run)):
        with pytest.raises(BusyError, match=f"lock file was deleted.*touch {run.lock_file}"):
            take()
    assert run.exists()
    assert not run.lock_file.exists()
    run.lock_file.touch()
    run.lock().release()


def test_a_lock_that_was_deleted_is_put_back(run: Run) -> None:
    now = [0.0]
    with run.lock() as lock:
        watch = LockWatch(lock, AlwaysRun(), run.database, clock=lambda: now[0])
        assert watch.desired() is Desired.RUNNING
        created = run.created
        run.lock_file.unlink()
        watch.desired()
        assert not run.lock_file.exists(), "not more often than twenty times a second"
        now[0] += 0.06
        watch.desired()
        assert run.is_live()
        assert run.created == created
        assert run.lock_file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(BusyError, match="in use"):
            run.lock(wait=0.1)
        assert not list(run.path.glob(".*"))
    assert not run.is_live()


def test_a_lock_that_was_replaced_ends_the_training(run: Run) -> None:
    with run.lock() as lock:
        run.lock_file.unlink()
        with run.lock(), pytest.raises(BusyError, match="replaced by another file"):
            LockWatch(lock, AlwaysRun(), run.database).desired()


def test_nothing_more_is_written_without_the_lock(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second trainer comes before the first one says that it trains."""
    monkeypatch.setattr(locks, "_LOOK_SECONDS", 0.0)  # else all is trained before the next look
    run.save_config(small.config())
    others: list[RunLock] = []

    class Thief(AlwaysRun):
        def desired(self) -> Desired:
            if not others:
                run.lock_file.unlink()
                others.append(RunLock(run.lock_file))
            return Desired.RUNNING

    with pytest.raises(BusyError, match="replaced by another file"):
        sit(run, Sitting(Thief(), lambda event: None, small.cache_dir()))
    others[0].release()
    with StoreReader(run.database) as reader:
        assert reader.state()["step"] <= 2
    assert not list(run.checkpoints.iterdir())


@pytest.mark.system
def test_a_spawned_child_does_not_keep_the_lock(run: Run) -> None:
    with run.lock():
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        assert not run.is_live()
    finally:
        child.kill()
        child.wait()


def race(run: Run, racers: int) -> int:
    """Have threads take the lock at the same moment, while a reader probes; return the winners.

    A lock belongs to the opened file, so that threads exclude each other as processes do.
    """
    together = threading.Barrier(racers)

    def take() -> RunLock | None:
        together.wait()
        try:
            return run.lock()
        except BusyError:
            return None

    with ThreadPoolExecutor(racers) as pool:
        answers = [pool.submit(take) for _ in range(racers)]
        while not all(answer.done() for answer in answers):
            run.is_live()
    winners = [lock for lock in (answer.result() for answer in answers) if lock is not None]
    for lock in winners:
        lock.release()
    return len(winners)


@pytest.mark.timeout(1200)
@many(2, 100)
def test_of_a_race_there_is_one_winner(run: Run, times: int) -> None:
    for _ in range(times):
        assert race(run, 4) == 1
