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


@KILLED
def test_a_killed_process_and_a_killed_command_change_nothing(cli, asker, shared, tmp_path):
    sweep = ["sweep-tau", *LONG, "--tau", "0.01", "--epochs", "300"]
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
    again = cli(*sweep, "--dir", str(asker.runs))
    assert again.code == 0, again.err
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


def test_who_has_no_token_is_not_let_in(asker, tmp_path):
    del asker.environment["RAY_AUTH_TOKEN"]
    asker.environment["HOME"] = str(tmp_path)
    answer = asker("sweep-tau", *GRID, "--tau", "1", *asker.options)
    assert answer.code == 2
    assert "authentication failed; put the token of the cluster's head" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not asker.runs.exists()
