"""SIGKILL at random moments of a real training."""

from __future__ import annotations

import time

import pytest

from engine.runs import Runs
from tests.cli.terminal import Terminal
from tests.reliability.report import FAULTS, many, promise
from tests.reliability.trainings import TRAINING, outcome, the_run, undisturbed

_KILLS = 4
"""Of one run at most."""
_SECONDS = 1.5
"""From the moment that there is a run to the latest kill."""


@pytest.mark.timeout(3600)
@promise(
    FAULTS,
    "SIGKILL at a random moment, resume, until done",
    "every checkpoint the same to the byte, no row lost, none twice",
)
@many(1, 50)
def test_killed_at_random_moments(terminal, tmp_path, rng, measured, times):
    expected = undisturbed(terminal, tmp_path / "undisturbed")
    kills = 0
    for number in range(times):
        one = Terminal(tmp_path / f"runs{number}")
        landed = killed_until_done(one, rng)
        kills += landed
        run = the_run(one)
        assert run is not None
        assert outcome(run) == expected, f"after {landed} kills"
        Runs(one.runs).delete(run)
    assert kills >= times
    measured(f"{times} of {times} runs, {kills} kills")


def killed_until_done(terminal, rng) -> int:
    """Train, kill, resume, kill …, to the end; gives how many kills met a living process."""
    kills = 0
    while True:
        run = the_run(terminal)
        command = ["train", *TRAINING] if run is None else ["resume", run.id]
        process = terminal.start(*command, "--plain")
        while the_run(terminal) is None and process.poll() is None:
            time.sleep(0.005)
        if kills < _KILLS:
            time.sleep(rng.uniform(0, _SECONDS))
            if process.poll() is None:
                process.kill()
                kills += 1
        _, err = process.communicate(timeout=120)
        if process.returncode == 0 and kills:
            return kills
        if process.returncode == 0:  # it was faster than the first kill
            run = the_run(terminal)
            assert run is not None
            Runs(terminal.runs).delete(run)
            continue
        assert process.returncode == -9, err
