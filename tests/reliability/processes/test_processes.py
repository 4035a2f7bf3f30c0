"""Several processes at one run, and one that is gone."""

from __future__ import annotations

import signal
import statistics
import termios
import time

import pytest

from engine.control import Desired
from engine.runs import Runs
from engine.store import StoreWriter
from tests.cli.terminal import Terminal
from tests.dashboard.conftest import window  # noqa: F401 - a fixture
from tests.engine.holding import start, start_and_wait
from tests.engine.test_store_faults import WRITE_ON
from tests.reliability.processes.races import Racers
from tests.reliability.report import FAULTS, MORE, many, promise
from tests.reliability.trainings import (
    ENDLESS,
    FALLING,
    newest_checkpoint,
    outcome,
    sitting,
    steps,
    the_run,
    until,
)

# reads what is new, in its order, until the time is over and there was something
READ = """
import sys, time
from pathlib import Path
from engine.store_reader import StoreReader
path, end, reopens = Path(sys.argv[1]), time.monotonic() + float(sys.argv[2]), sys.argv[3] == "True"
reader, seen, reads = StoreReader(path), 0, 0
while time.monotonic() < end or not seen:
    if reopens:
        reader.close()
        reader = StoreReader(path)
    steps = reader.series("loss", after_step=seen)[0].tolist()
    assert steps == list(range(seen + 1, seen + 1 + len(steps))), (seen, steps[:9])
    seen += len(steps)
    assert reader.state().get("step", 0) >= seen
    assert len(reader.events(after_id=max(0, seen - 1))) >= min(1, seen)
    reads += 1
print(reads)
"""
pytestmark = pytest.mark.system


@pytest.mark.timeout(1800)
@promise(
    FAULTS,
    "a second trainer on a run",
    "told that the run is busy, exit 5, in under a second; one winner of each race",
)
@many(3, 100)
def test_races_for_a_run(terminal, measured, times):
    assert terminal("train", *ENDLESS, "--epochs", "0").code == 0
    run = the_run(terminal)
    run.save_config(run.config().model_copy(update={"epochs": 100_000}))
    waited = []
    with Racers(terminal, 4) as racers:
        for _ in range(times):
            losers, winner = racers.race(run)
            assert [loser.code for loser in losers] == [5, 5, 5], losers
            assert all("in use by another process" in loser.said for loser in losers)
            assert winner.code == 0, winner
            assert run.status() == "stopped"
            waited += [loser.seconds for loser in losers]
    # a machine that is busy with other things may hold up a few
    assert statistics.median(waited) < 1.0
    assert max(waited) < 10.0
    measured(
        f"{times} of {times} races of four `resume`, told after {statistics.median(waited):.2f} s, "
        f"{max(waited):.2f} s at most"
    )


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A terminal whose only run is being trained, to its end with the module."""
    terminal = Terminal(tmp_path_factory.mktemp("live") / "runs")
    process = terminal.start("train", *ENDLESS, "--plain")
    run = Runs(terminal.runs).find(terminal.wait_for_steps(1))
    yield terminal
    run.set_desired(Desired.STOPPED)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert run.status() == "stopped"


@promise(MORE, "`resume` of a run that is being trained", "says so; the first trains on")
def test_a_second_trainer(live):
    run = the_run(live)
    answer = live("resume", run.id)
    assert answer.code == 0
    assert "is running already" in answer.out
    live.wait_for_steps(steps(run) + 5)


@promise(MORE, "a live run is deleted", "refused, exit 5; the run trains on")
def test_a_live_run_is_not_deleted(live):
    run = the_run(live)
    assert live("runs", "delete", run.id, "--yes").code == 5
    live.wait_for_steps(steps(run) + 5)


@promise(MORE, "an export during training", "rows of one moment, all of them whole")
@many(3, 30)
def test_exports_during_training(live, cli, measured, times):
    seen = 0
    for _ in range(times):
        answer = cli("export", the_run(live).id, "--wide", "--dir", str(live.runs))
        assert answer.code == 0, answer.err
        lines = answer.out.splitlines()
        found = [int(line.split(",")[1]) for line in lines[1:]]
        assert found == list(range(found[0], found[0] + len(found)))
        assert len(found) >= seen
        seen = len(found)
    measured(f"{times} of {times}, the last of {seen:,} rows")


@pytest.mark.timeout(300)
@promise(FAULTS, "four readers while one writes", 'no "database is locked", every row in order')
@pytest.mark.parametrize("seconds", [1.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_readers_during_writes(tmp_path, measured, seconds):
    path = tmp_path / "run.db"
    StoreWriter.create(path).close()
    writer = start_and_wait(WRITE_ON, path)
    readers = [start(READ, path, str(seconds), str(number % 2 == 1)) for number in range(4)]
    reads = 0
    for reader in readers:
        out, err = reader.communicate(timeout=seconds + 120)
        assert (reader.returncode, err) == (0, "")
        reads += int(out)
    assert writer.poll() is None
    writer.kill()
    writer.communicate()
    measured(f"{reads:,} reads of four processes in {seconds:g} s, no error")


@pytest.mark.timeout(3600)
@promise(
    FAULTS,
    "dashboard killed (KILL, HUP, TERM)",
    "training is unaffected, also that which it began; the terminal is restored on HUP and TERM",
)
@many(3, 20)
def test_the_dashboard_dies(terminal, window, rng, measured, times):  # noqa: F811
    for number in range(times):
        sent = (signal.SIGKILL, signal.SIGHUP, signal.SIGTERM)[number % 3]
        owner = window("train", *ENDLESS)
        run = Runs(terminal.runs).find(terminal.wait_for_steps(1))
        guest = window("watch", run.id)
        for shown in (guest, owner):
            shown.until_shown("running")
            time.sleep(rng.uniform(0, 0.3))
            dies(shown, sent)
            terminal.wait_for_steps(steps(run) + 20)
            assert run.status() == "running"
        run.set_desired(Desired.STOPPED)
        until(lambda run=run: not run.is_live())
        assert run.status() == "stopped"
        Runs(terminal.runs).delete(run)
    measured(f"{times} of {times} that had begun the training, and as many `watch` beside them")


def dies(shown, sent):
    shown.process.send_signal(sent)
    code = shown.leave()
    if sent is signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + sent
        assert b"\x1b[?1049l" in shown.shown
        assert b"\x1b[?25h" in shown.shown
        assert termios.tcgetattr(shown.control)[3] & termios.ECHO


@pytest.mark.timeout(3600)
@promise(
    FAULTS,
    "pause, kill, look again",
    "still paused, its state kept; it goes on only when told to, and ends the same to the byte",
)
@many(1, 20)
def test_paused_and_killed(falling, tmp_path, rng, measured, times):
    for number in range(times):
        one = Terminal(tmp_path / f"runs{number}")
        process = one.start("train", *FALLING, "--plain")
        run = Runs(one.runs).find(one.wait_for_steps(1))
        time.sleep(rng.uniform(0, 0.3))
        run.set_desired(Desired.PAUSED)
        until(lambda run=run: run.status() == "paused")
        step = steps(run)
        process.kill()
        process.communicate(timeout=60)
        assert run.status() == "paused"
        assert run.desired() is Desired.PAUSED
        assert steps(run) == step
        assert newest_checkpoint(run) == step, "what was trained is lost"
        stays_paused_until_told(one, run, step)
        assert outcome(run) == falling
    measured(f"{times} of {times}")


def stays_paused_until_told(terminal, run, step):
    """Start a trainer that does as it was told before, then tell it to go on, to the end."""
    before = sitting(run)
    process = terminal.start("resume", run.id, "--as-told", "--plain")
    until(lambda: sitting(run).id > before.id or process.poll() is not None)
    until(lambda: run.status() == "paused" or process.poll() is not None)
    listed = terminal("runs", "list", "--json").json["runs"]
    assert [run["status"] for run in listed] == ["paused"]
    assert process.poll() is None
    assert run.is_live()
    assert run.status() == "paused"
    assert steps(run) == sitting(run).step == step
    answer = terminal("resume", run.id)
    assert (answer.code, answer.out) == (0, f"run {run.id} goes on\n"), answer.err
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err


@pytest.mark.timeout(600)
@promise(MORE, "many `watch` processes on a live run", "all follow it, the training is unaffected")
@many(2, 8)
def test_many_watch(terminal, window, measured, times):  # noqa: F811
    process = terminal.start("train", *ENDLESS, "--plain")
    run = Runs(terminal.runs).find(terminal.wait_for_steps(1))
    shown = [window("watch", run.id) for _ in range(times)]
    for one in shown:
        one.until_shown("running")
    terminal.wait_for_steps(steps(run) + 20)
    terminal("stop", run.id)
    for one in shown:
        one.until_shown("stopped")
        one.press("q")
        assert one.leave() == 0
    process.communicate(timeout=60)
    assert process.returncode == 0
    measured(f"{times} at once")


@pytest.mark.timeout(600)
@promise(MORE, "a run is deleted while it is watched", "the dashboard says so, and can be left")
def test_deleted_during_a_watch(terminal, cli, window):  # noqa: F811
    assert cli("train", *ENDLESS, "--epochs", "2").code == 0
    run = the_run(terminal)
    shown = window("watch", run.id)
    shown.until_shown("finished")
    assert cli("runs", "delete", run.id, "--yes").code == 0
    shown.until_shown("was deleted")
    shown.press("q")
    assert shown.leave() == 0
    assert b"Traceback" not in shown.shown
