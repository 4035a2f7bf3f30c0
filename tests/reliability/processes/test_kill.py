"""SIGKILL at random moments of a real training."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from engine.runs import Runs
from tests.cli.terminal import Terminal
from tests.reliability.report import FAULTS, many, promise
from tests.reliability.trainings import (
    FALLING,
    newest_checkpoint,
    newest_row,
    outcome,
    sitting,
    steps,
    the_run,
)

_KILLS = 3
"""Of one run at least, but for one that is done before."""
_SECONDS = 0.3
"""From the first step of a sitting that is stored to the latest kill."""


@pytest.mark.system
@pytest.mark.timeout(7200)
@promise(
    FAULTS,
    "SIGKILL at a random moment, resume, until done",
    "every checkpoint the same to the byte, nothing that was stored is lost, nothing is there "
    "twice",
)
@many(1, 50)
def test_killed_at_random_moments(falling, tmp_path, rng, measured, times):
    assert falling["fallbacks"], "nothing would be there twice"
    kills = rewound = 0
    for number in range(times):
        one = Terminal(tmp_path / f"runs{number}")
        found = killed_until_done(one, rng)
        run = the_run(one)
        assert run is not None
        assert outcome(run) == falling, f"after {found}"
        # a kill just after a checkpoint would test little
        assert found.rewound >= 1, found
        kills, rewound = kills + found.kills, rewound + found.rewound
        Runs(one.runs).delete(run)
    measured(
        f"{times} of {times} runs, {kills} kills, {rewound} of them past the newest checkpoint"
    )


@dataclass
class Kills:
    """How many met a process that had stored a step, and how many one that had stored steps since
    its newest checkpoint."""

    kills: int = 0
    rewound: int = 0


def killed_until_done(terminal, rng) -> Kills:
    """Train, kill, resume, kill …, to the end."""
    found = Kills()
    while True:
        run = the_run(terminal)
        before, newest = (None, 0) if run is None else (sitting(run), newest_checkpoint(run))
        command = ["train", *FALLING] if run is None else ["resume", run.id]
        process = terminal.start(*command, "--plain")
        began = a_stored_step(terminal, process, before)
        if began is not None:
            assert began.step == newest, "it goes on from the newest checkpoint"
            assert began.payload["resumed"] == (newest > 0)
        if began is not None and (found.kills < _KILLS or not found.rewound):
            time.sleep(rng.uniform(0, _SECONDS))
            process.kill()
        _, err = process.communicate(timeout=240)
        if process.returncode == 0:
            return found
        assert process.returncode == -9, err
        run = the_run(terminal)
        assert run is not None
        assert run.status() == "interrupted"
        assert newest_row(run) <= steps(run)
        found.kills += 1
        found.rewound += newest_row(run) > newest_checkpoint(run)


def a_stored_step(terminal, process, before):
    """Wait until this sitting has stored a step; gives how it began, or nothing where it is over
    by then."""
    while process.poll() is None:
        run = the_run(terminal)
        began = None if run is None else sitting(run)
        if began is not None and (before is None or began.id > before.id):
            # rows and state are stored together, and what is to be done anew is gone by now
            row = newest_row(run)
            assert row <= steps(run)
            if row > began.step:
                return began
        time.sleep(0.02)
    return None
