"""Several processes at one run, and one that is gone."""

from __future__ import annotations

import signal
import termios
import time

import pytest

from engine.control import Desired
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from tests.cli.terminal import Terminal
from tests.dashboard.conftest import window  # noqa: F401 - a fixture
from tests.engine.test_locks import race
from tests.engine.test_store_faults import read_during_writes
from tests.reliability.report import FAULTS, MORE, many, promise
from tests.reliability.trainings import ENDLESS


@pytest.mark.timeout(1800)
@promise(
    FAULTS,
    "a second trainer on a run",
    "told that the run is busy (exit 5); one winner of each race",
)
@many(3, 100)
def test_races_for_a_run(tmp_path, measured, times):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    for _ in range(times):
        assert race(run, 2) == ["busy", "won"]
    measured(f"{times} of {times} races")


@promise(MORE, "`resume` of a run that is being trained", "says so; the first trains on")
def test_a_second_trainer(terminal):
    first = terminal.start("train", *ENDLESS, "--plain")
    run = Runs(terminal.runs).find(terminal.wait_for_steps(1))
    answer = terminal("resume", run.id)
    assert answer.code == 0
    assert "is running already" in answer.out
    terminal.wait_for_steps(steps(run) + 5)
    terminal("stop", run.id)
    first.communicate(timeout=60)
    assert first.returncode == 0


@pytest.mark.timeout(300)
@promise(FAULTS, "four readers while one writes", 'no "database is locked", every row in order')
@pytest.mark.parametrize("seconds", [1.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_readers_during_writes(tmp_path, measured, seconds):
    errors, reads = read_during_writes(tmp_path / "run.db", seconds)
    assert errors == []
    measured(f"{reads:,} reads in {seconds:g} s, no error")


@pytest.mark.timeout(3600)
@promise(
    FAULTS,
    "dashboard killed (KILL, HUP, TERM)",
    "training is unaffected; the terminal is restored on HUP and TERM",
)
@many(3, 20)
def test_the_dashboard_dies(terminal, window, rng, measured, times):  # noqa: F811
    process = terminal.start("train", *ENDLESS, "--plain")
    run = Runs(terminal.runs).find(terminal.wait_for_steps(1))
    for number in range(times):
        shown = window("watch", run.id)
        shown.until_shown("running")
        time.sleep(rng.uniform(0, 0.5))
        sent = (signal.SIGKILL, signal.SIGHUP, signal.SIGTERM)[number % 3]
        shown.process.send_signal(sent)
        code = shown.leave()
        if sent is signal.SIGKILL:
            assert code == -signal.SIGKILL
        else:
            assert code == 128 + sent
            assert b"\x1b[?1049l" in shown.shown
            assert b"\x1b[?25h" in shown.shown
            assert termios.tcgetattr(shown.control)[3] & termios.ECHO
        terminal.wait_for_steps(steps(run) + 1)
    assert process.poll() is None
    terminal("stop", run.id)
    process.communicate(timeout=60)
    assert process.returncode == 0
    measured(f"{times} of {times}")


@pytest.mark.timeout(1800)
@promise(FAULTS, "pause, kill, look again", "still paused; it runs only when told to")
@many(1, 20)
def test_paused_and_killed(tmp_path, rng, measured, times):
    for number in range(times):
        terminal = Terminal(tmp_path / f"runs{number}")
        process = terminal.start("train", *ENDLESS, "--plain")
        run = Runs(terminal.runs).find(terminal.wait_for_steps(1))
        time.sleep(rng.uniform(0, 0.3))
        run.set_desired(Desired.PAUSED)
        until(lambda run=run: run.status() == "paused")
        step = steps(run)
        process.kill()
        process.communicate(timeout=60)
        assert run.status() == "paused"
        assert run.desired() is Desired.PAUSED
        assert steps(run) == step
        answer = terminal("runs", "list", "--json")
        assert [run["status"] for run in answer.json["runs"]] == ["paused"]
    measured(f"{times} of {times}")


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


@promise(MORE, "a live run is deleted", "refused, exit 5; the run trains on")
def test_a_live_run_is_not_deleted(terminal):
    process = terminal.start("train", *ENDLESS, "--plain")
    run = Runs(terminal.runs).find(terminal.wait_for_steps(1))
    answer = terminal("runs", "delete", run.id, "--yes")
    assert answer.code == 5
    terminal.wait_for_steps(steps(run) + 5)
    terminal("stop", run.id)
    process.communicate(timeout=60)
    assert run.exists()


@promise(MORE, "an export during training", "rows of one moment, all of them whole")
@many(3, 30)
def test_exports_during_training(terminal, cli, measured, times):
    process = terminal.start("train", *ENDLESS, "--plain")
    run = terminal.wait_for_steps(1)
    seen = 0
    for _ in range(times):
        answer = cli("export", run, "--wide")
        assert answer.code == 0, answer.err
        lines = answer.out.splitlines()
        found = [int(line.split(",")[1]) for line in lines[1:]]
        assert found == list(range(found[0], found[0] + len(found)))
        assert len(found) >= seen
        seen = len(found)
    terminal("stop", run)
    process.communicate(timeout=60)
    measured(f"{times} of {times}, the last of {seen:,} rows")


def steps(run: Run) -> int:
    """Steps that are stored."""
    with StoreReader(run.database) as reader:
        return int(reader.state().get("step", 0))


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
