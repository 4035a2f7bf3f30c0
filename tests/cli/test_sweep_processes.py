"""Sweeps in real processes: killed, interrupted, paused, stopped, and resumed."""

from __future__ import annotations

import os
import signal

from engine.cells import read_cell
from engine.runs import Runs
from engine.store_reader import StoreReader
from engine.sweeps import all_sweeps
from tests.cli.sweeps import (
    LONG,
    figures,
    is_gone,
    only_sweep,
    times_started,
    trained_steps,
    until_trained,
    workers_of,
)
from tests.cli.terminal import SMALL, Terminal, end
from tests.reliability.report import FAULTS, MORE, promise
from tests.reliability.trainings import until

ENDLESS = [*LONG, "--epochs", "100000"]


def statuses(terminal, sweep):
    return [read_cell(terminal.runs, cell).status for cell in sweep.cells]


def test_a_sweep_of_new_interpreters(cold_terminal):
    grid = [*SMALL, "--epochs", "1", "--tau", "1,0.1", "--methods", "exact", "--seeds", "1"]
    answer = cold_terminal("sweep-tau", *grid, "--jobs", "2", "--json")
    assert answer.code == 0, answer.err
    assert [cell["status"] for cell in answer.json["cells"]] == ["finished"] * 2


@promise(
    FAULTS, "sweep interrupted and started again", "finished runs are kept, none is trained twice"
)
def test_a_killed_sweep_ends_as_if_nothing_had_happened(terminal, tmp_path):
    command = ["sweep-tau", *LONG, "--epochs", "400"]
    undisturbed = Terminal(tmp_path / "other")(*command, "--json")
    process = terminal.start(*command, "--plain")
    sweep = only_sweep(terminal)
    until_trained(terminal, sweep, 100)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate(timeout=60)
    # orphans notice it, keep their state and leave
    until(lambda: all(map(is_gone, workers)))
    states = dict(zip([str(c.run) for c in sweep.cells], statuses(terminal, sweep), strict=True))
    stopped = {run for run, status in states.items() if status == "stopped"}
    assert stopped
    assert set(states.values()) <= {"stopped", "finished", "waiting"}
    answer = terminal(*command, "--json")
    assert answer.code == 0, answer.err
    assert figures(answer) == figures(undisturbed)
    assert times_started(terminal.runs) == {run: 1 + (run in stopped) for run in states}


def test_an_interrupted_sweep_keeps_its_runs(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain")
    sweep = only_sweep(terminal)
    for steps, number, code in ((20, signal.SIGINT, 130), (200, signal.SIGTERM, 143)):
        until_trained(terminal, sweep, steps)
        workers = workers_of(process.pid)
        answer = end(process, number)
        assert answer.code == code
        assert f"'proxprop resume {sweep.id}' goes on" in answer.err
        assert "Traceback" not in answer.err
        assert all(map(is_gone, workers))
        process = terminal.start("resume", sweep.id[:14], "--json")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert set(statuses(terminal, sweep)) == {"finished"}


def test_workers_that_die_are_replaced(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain")
    sweep = only_sweep(terminal)
    until_trained(terminal, sweep, 70)
    killed, ended = workers_of(process.pid)
    os.kill(killed, signal.SIGKILL)
    os.kill(ended, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "going on with backprop" in out
    assert statuses(terminal, sweep) == ["finished"] * 3


def test_runs_of_a_sweep_paused_and_stopped_by_themselves(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain", "--jobs", "1")
    sweep = only_sweep(terminal)
    until_trained(terminal, sweep, 20, runs=1)
    (run,) = (run.id for run in Runs(terminal.runs).all())
    assert terminal("pause", run).code == 0
    answer = terminal("resume", sweep.id)
    assert answer.out.strip() == f"{sweep.id} goes on"
    assert terminal("stop", run).code == 0
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"run {run}: paused by itself; 'proxprop resume {run}'" in err
    assert f"run {run}: stopped before its end (asked to stop)" in err
    assert "   3/3" not in out
    again = terminal("sweep-tau", *LONG, "--json")
    assert again.code == 0, again.err
    assert {cell["status"] for cell in again.json["cells"]} == {"finished"}


@promise(MORE, "two sweeps with the same runs at once", "each run is trained once, by one of them")
def test_two_sweeps_with_the_same_runs_at_the_same_time(terminal):
    larger = [part if part != "0.01,0.02,0.03" else "0.01,0.02,0.03,0.04" for part in LONG]
    one = terminal.start("sweep-tau", *LONG, "--plain")
    two = terminal.start("sweep-tau", *larger, "--plain")
    for process in (one, two):
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    assert sorted(times_started(terminal.runs).values()) == [1, 1, 1, 1]


def test_who_waits_for_another_sweep_s_run_cannot_stop_it(terminal):
    first = [part if part != "0.01,0.02,0.03" else "0.01" for part in ENDLESS]
    one = terminal.start("sweep-tau", *first, "--plain")
    sweep = only_sweep(terminal)
    until_trained(terminal, sweep, 5, runs=1)
    two = terminal.start("sweep-tau", *ENDLESS, "--plain")
    until(lambda: len(all_sweeps(terminal.runs)) == 2)
    until(lambda: len(Runs(terminal.runs).all()) == 3)
    answer = end(two, signal.SIGINT)
    assert answer.code == 130
    assert "trained by another process; waiting for it" in answer.err
    before = trained_steps(terminal, sweep)[0]
    until(lambda: trained_steps(terminal, sweep)[0] > before + 5)
    assert end(one, signal.SIGINT).code == 130
    assert times_started(terminal.runs)[str(sweep.cells[0].run)] == 1


def test_an_interrupt_while_processes_start_is_quiet(cold_terminal):
    process = cold_terminal.start("sweep-tau", *LONG, "--plain", start_new_session=True)
    until(lambda: workers_of(process.pid))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err


def test_pause_resume_and_stop_from_another_process(terminal):
    process = terminal.start("sweep-tau", *ENDLESS, "--plain")
    sweep = only_sweep(terminal)
    until_trained(terminal, sweep, 5)
    busy = terminal("sweep-tau", *ENDLESS, "--plain")
    assert busy.code == 5
    assert "is being trained already" in busy.err
    assert terminal("pause", sweep.id, "--json").json["status"] == "paused"
    until(lambda: statuses(terminal, sweep).count("paused") == 2)
    before = trained_steps(terminal, sweep)
    assert terminal("resume", sweep.id).code == 0
    until(lambda: sum(trained_steps(terminal, sweep)) > sum(before))
    assert terminal("stop", sweep.id).code == 0
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert statuses(terminal, sweep).count("stopped") == 2
    stopped = zip(sweep.cells, statuses(terminal, sweep), strict=True)
    for cell in [cell for cell, status in stopped if status == "stopped"]:
        with StoreReader(terminal.runs / str(cell.run) / "run.db") as reader:
            held = {event.kind: event.step for event in reader.events()}
        assert held["Paused"] == held["Unpaused"]
    assert terminal("stop", sweep.id).code == 2
