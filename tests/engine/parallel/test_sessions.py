"""Whole runs of several processes, each of which is a thread, beside those of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.control import AlwaysRun, Control, Desired, Word
from engine.errors import CheckpointError, ConfigError
from engine.events import Event, RunEnded, StepsDone
from engine.parallel.team import ALONE, Team
from engine.run import Run
from engine.session import Sitting, follow, sit
from engine.store_reader import StoreReader
from tests.engine import small
from tests.engine.parallel import threads

CONVNET = {"model": {"kind": "convnet", "channels": [3, 4], "kernel": 3, "pools": 1}}
Rows = dict[tuple[int, str], float]


def config(method: str, **overrides: Any):
    """330 samples in batches of 103, so that neither the whole nor the last one can be halved."""
    return small.config(method, **{"batch_size": 103, "data__label": "digits", **overrides})


def train(run: Run, processes: int, controls: list[Control] | None = None, **options: Any) -> str:
    """Train a run by so many processes, each with its control; return how it ended."""
    controls = controls or [AlwaysRun()] * processes

    def process(team: Team) -> RunEnded | None:
        if team.rank:
            follow(team, small.cache_dir(), controls[team.rank])
            return None
        listener = options.pop("listener", lambda event: None)
        return sit(run, Sitting(controls[0], listener, small.cache_dir(), team=team, **options))

    ended, *_ = [process(ALONE)] if processes == 1 else threads.run(processes, process)
    assert ended is not None
    return f"{ended.status} {ended.reason}".strip()


def outcome(run: Run) -> tuple[bytes, Rows]:
    """The newest weights, and all rows but the clock's and the work, which depends on the form in
    which a system was solved."""
    with StoreReader(run.database) as reader:
        rows = {
            (step, key): value
            for step, key, value, *_ in reader.rows()
            if not key.startswith("time/") and key != "work"
        }
    return max(run.checkpoints.glob("*.safetensors")).read_bytes(), rows


def stop_at(step: int, word: Word) -> Callable[[Event], None]:
    """A listener that says stop once so many steps are stored."""

    def hear(event: Event) -> None:
        if isinstance(event, StepsDone) and event.steps[-1] >= step:
            word.hear(Desired.STOPPED, "test")

    return hear


@pytest.mark.parametrize(
    ("method", "processes", "changed"),
    [
        ("exact", 2, {}),
        ("cg3", 3, CONVNET),
        ("backprop", 3, {}),
        ("backprop", 2, {"loss": "mse", "optimizer__name": "adam"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_several_processes_train_the_run_of_one(runs, method, processes, changed):
    alone, shared = (runs.create(config(method, **changed)) for _ in range(2))
    assert train(alone, 1) == train(shared, processes) == "finished"
    expected, found = outcome(alone)[1], outcome(shared)[1]
    assert found.keys() == expected.keys()
    assert len({step for step, _ in found}) == 1 + 2 * 4
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


def test_a_run_is_continued_by_as_many_to_the_byte_and_by_others_if_allowed(runs):
    made = [runs.create(config("cg3", epochs=6)) for _ in range(3)]
    whole, again, other = made
    assert train(whole, 2) == "finished"
    for run in (again, other):
        word = Word()
        assert train(run, 2, [word, AlwaysRun()], listener=stop_at(8, word)) == "stopped test"
    assert train(again, 2) == "finished"
    assert outcome(again) == outcome(whole)
    with pytest.raises(CheckpointError, match="processes was 2, is 1"):
        train(other, 1)
    assert train(other, 1, allow_inexact=True) == "finished"
    for key, value in outcome(whole)[1].items():
        assert outcome(other)[1][key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


def test_a_stop_of_any_process_ends_all(runs):
    """As on a machine that is about to be taken away."""
    run, word = runs.create(config("exact", epochs=10_000)), Word()
    assert train(run, 3, [AlwaysRun(), AlwaysRun(), word], listener=stop_at(8, word)) == (
        "stopped SIGTERM"
    )
    with StoreReader(run.database) as reader:
        assert reader.checkpoints()[0].step == reader.state()["step"] >= 8


def test_a_time_limit_ends_all(runs):
    run = runs.create(config("exact", epochs=10_000, max_seconds=0.02))
    assert train(run, 3) == "finished time limit"


def test_a_divergence_ends_all_at_the_step_of_one(runs):
    hot = config("backprop", method__tau=1e5, loss="mse")
    alone, shared = (runs.create(hot) for _ in range(2))
    assert train(alone, 1) == train(shared, 2)
    ends = []
    for run in (alone, shared):
        with StoreReader(run.database) as reader:
            ends.append((reader.state()["status"], reader.state()["step"]))
    assert ends[0] == ends[1]
    assert ends[0][0] == "diverged"


def test_a_method_that_only_one_process_can_train_is_refused(runs):
    with pytest.raises(ConfigError, match="'kfac' is not for several processes"):
        train(runs.create(config("kfac")), 2)
