"""Sweeps on a Ray cluster that is there: real processes, killed and gone on with."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter

import pytest

from engine.cells import read_cell
from engine.control import Desired
from engine.run import Run
from engine.runs import Runs
from tests.cli.cluster_helper import GRID, LONG, ends, outcomes, starts
from tests.cli.ray_cluster import (
    PATIENCE,
    Asker,
    Cluster,
    cluster,
    ray_is_there,
    until,
    wait_for_ends,
)
from tests.cli.sweeps import figures, trained_steps
from tests.reliability.report import FAULTS, promise
from tests.reliability.trainings import newest_checkpoint, steps

pytestmark = [ray_is_there, pytest.mark.system, pytest.mark.timeout(900)]

KILLED = promise(
    FAULTS,
    "processes of a cluster killed at random moments",
    "every run ends once, the same to the byte as without a cluster, no row twice",
)


@pytest.fixture(scope="session")
def shared():
    with cluster(cpus=2) as found:
        yield found


@pytest.fixture
def asker(tmp_path, shared):
    return Asker(tmp_path / "home", shared)


def test_the_same_grid_as_here(cli, asker, tmp_path):
    grid = ["sweep-tau", *GRID, "--tau", "1,1e6", "--methods", "backprop,cg3"]
    there = asker(*grid, "--epochs", "3", "--json", *asker.options)
    assert there.code == 0, there.err
    here = cli(*grid, "--epochs", "3", "--json")
    assert figures(there) == figures(here)
    assert outcomes(asker.runs) == outcomes(tmp_path / "runs")
    assert ends(asker.runs) == [1] * 4


@KILLED
def test_a_killed_process_and_a_killed_command_change_nothing(cli, asker, shared, tmp_path):
    sweep = ["sweep-tau", *LONG, "--tau", "0.01", "--epochs", "400"]
    process = asker.start(*sweep, *asker.options)
    (cell,) = asker.sweep().cells
    run = Run(asker.runs / str(cell.run))
    until(lambda: run.exists() and steps(run) > 0)
    run.set_desired(Desired.PAUSED)  # it comes home
    until(lambda: read_cell(asker.runs, cell).status == "paused")
    kept = newest_checkpoint(run)
    (first,) = shared.seats()
    first.kill()
    until(lambda: steps(run) > kept)
    process.kill()
    out, err = process.communicate(timeout=PATIENCE)
    assert f"run {run.id}: paused by itself" in err
    assert "going on with backprop" in out
    wait_for_ends(shared.seats)
    assert not run.is_live()
    answer = asker(*sweep, *asker.options)
    assert answer.code == 0, answer.err
    assert min(starts(asker.runs)[1:]) >= kept > 0
    assert cli(*sweep).code == 0
    assert outcomes(asker.runs) == outcomes(tmp_path / "runs")
    assert ends(asker.runs) == [1]


@KILLED
@pytest.mark.slow
@pytest.mark.parametrize("times", [40])
@pytest.mark.timeout(7200)
def test_killed_at_random_moments(terminal, asker, shared, rng, measured, times):
    taus = ",".join(f"{0.01 + number / 1000:g}" for number in range(times))
    sweep = ["sweep-tau", *LONG, "--epochs", "200", "--tau", taus]
    here = terminal(*sweep, "--jobs", "2", seconds=3600)
    assert here.code == 0, here.err
    kills = 0
    for _ in range(10):
        process = asker.start(*sweep, *asker.options)
        # one that is killed at once again and again is given up, so there is an end to it
        kills += kill_at_random(process, shared, rng, times - kills)
        _, err = process.communicate(timeout=600)
        if process.returncode == 0:
            break
        assert process.returncode == 1, err
        assert "not come to their end" in err
    assert process.returncode == 0, err
    assert kills >= times // 2
    assert outcomes(asker.runs) == outcomes(terminal.runs)
    assert Counter(ends(asker.runs)) == {1: times}
    measured(f"{times} of {times} runs, {kills} kills")


def kill_at_random(
    process: subprocess.Popen[str], there: Cluster, rng: random.Random, most: int
) -> int:
    """Kill processes that train, one after the other, until so many or the sweep is over."""
    kills = 0
    while process.poll() is None and kills < most:
        time.sleep(rng.uniform(0.2, 3))
        if seats := sorted(there.seats(".news"), key=lambda seat: seat.pid):
            rng.choice(seats).kill()
            kills += 1
    return kills


def test_pause_resume_and_stop_from_another_process(asker, shared):
    grid = [*LONG, "--tau", "0.01", "--epochs", "100000", *asker.options]
    process = asker.start("sweep-tau", *grid)
    sweep = asker.sweep()
    status = lambda: read_cell(asker.runs, sweep.cells[0]).status  # noqa: E731
    until(lambda: sum(trained_steps(asker, sweep)) > 5)
    assert asker("pause", sweep.id).code == 0
    until(lambda: status() == "paused")
    before = trained_steps(asker, sweep)
    assert asker("resume", sweep.id).code == 0
    until(lambda: trained_steps(asker, sweep) > before)
    assert asker("stop", sweep.id).code == 0
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert f"proxprop resume {sweep.id} --engine ray --address {shared.address}'" in err
    assert status() == "stopped"
    # what was stopped after a step came home with that step
    (run,) = Runs(asker.runs).all()
    assert newest_checkpoint(run) == steps(run)
    wait_for_ends(shared.seats)


def test_who_has_no_token_is_not_let_in(asker, tmp_path):
    del asker.environment["RAY_AUTH_TOKEN"]
    asker.environment["HOME"] = str(tmp_path)
    answer = asker("sweep-tau", *GRID, "--tau", "1", *asker.options)
    assert answer.code == 2
    assert "authentication failed; put the token of the cluster's head" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not asker.runs.exists()
