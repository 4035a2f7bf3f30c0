"""One process has a run, and its death gives the run back."""

from __future__ import annotations

import fcntl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from engine.control import AlwaysRun, Desired
from engine.errors import BusyError, StorageError
from engine.locks import LockWatch, RunLock
from engine.run import Run
from engine.runs import Runs
from engine.session import Sitting, sit
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from tests.engine import small
from tests.engine.holding import hold, start

# waits for a moment on the clock that all share, then tries
RACE = """
import sys, time
from pathlib import Path
from engine.errors import BusyError
from engine.run import Run
run = Run(Path(sys.argv[1]))
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
try:
    lock = run.lock()
except BusyError:
    print("busy")
else:
    print("won", flush=True)
    time.sleep(1.5)
"""


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


def test_a_second_process_is_told_soon_that_the_run_is_busy(run: Run) -> None:
    holder = hold(run)
    begin = time.monotonic()
    with pytest.raises(BusyError, match=run.id):
        run.lock()
    assert time.monotonic() - begin < 0.8
    holder.communicate("")
    run.lock().release()


def test_a_killed_process_holds_nothing(run: Run) -> None:
    holder = hold(run)
    assert run.is_live()
    holder.kill()
    holder.communicate()
    assert not run.is_live()
    with run.lock() as lock:
        assert run.is_live()
        lock.release()
        assert not run.is_live()


def test_a_reader_that_probes_does_not_turn_a_trainer_away(run: Run) -> None:
    with run.lock_file.open() as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        with pytest.raises(BusyError):
            run.lock(wait=0.1)
        timer = threading.Timer(0.2, fcntl.flock, (probe.fileno(), fcntl.LOCK_UN))
        timer.start()
        run.lock().release()
        timer.join()


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
        watch = LockWatch(lock, AlwaysRun(), clock=lambda: now[0])
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
            LockWatch(lock, AlwaysRun()).desired()


def test_nothing_more_is_written_without_the_lock(run: Run) -> None:
    """The second trainer comes before the first one says that it trains."""
    run.save_config(small.config())
    others: list[RunLock] = []

    class Thief(AlwaysRun):
        def desired(self) -> Desired:
            if not others:
                run.lock_file.unlink()
                others.append(RunLock(run.lock_file))
            time.sleep(0.06)
            return Desired.RUNNING

    with pytest.raises(BusyError, match="replaced by another file"):
        sit(run, Sitting(Thief(), lambda event: None, small.cache_dir()))
    others[0].release()
    with StoreReader(run.database) as reader:
        assert reader.state()["step"] <= 2, "looked at twenty times a second"
    assert not list(run.checkpoints.iterdir())


def test_a_spawned_child_does_not_keep_the_lock(run: Run) -> None:
    with run.lock():
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        assert not run.is_live()
    finally:
        child.kill()
        child.wait()


def race(run: Run, racers: int) -> list[str]:
    begin = time.time() + 1.0
    started = [start(RACE, str(run.path), str(begin)) for _ in range(racers)]
    while time.time() < begin + 0.5:
        run.is_live()
    return sorted(process.communicate(timeout=60)[0].strip() for process in started)


def test_of_a_race_there_is_one_winner(run: Run) -> None:
    assert race(run, 4) == ["busy", "busy", "busy", "won"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_many_races_each_has_one_winner(run: Run) -> None:
    for _ in range(100):
        assert race(run, 2) == ["busy", "won"]
