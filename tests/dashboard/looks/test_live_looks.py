"""What the live screen looks like where something asks for attention, at the small sizes."""

from __future__ import annotations

import pytest

from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.looks.pictures import SMALL, a_run, compare, compare_at, noon
from tests.dashboard.runs_helper import (
    in_app,
    live_screen,
    make_run,
    resize,
    screen_text,
    trace,
    until,
)
from tests.dashboard.sweep_helper import NOON

CAUSE = "update direction is infinite"


def test_log_and_solvers_of_a_run_that_diverged_long_after_the_only_traced_step(tmp_path):
    values = {"batch_loss": [2.3 * 1.9**step for step in range(1, 16)] + [float("inf")]}
    run = a_run(
        tmp_path,
        "cg5",
        id="v73brm5w",
        steps=16,
        per_epoch=7,
        traces=[trace(1, layer, iterations=5) for layer in "135"],
        values=values,
        status="diverged",
        diverged=(16, CAUSE),
    )

    async def script(pilot):
        await live_screen(pilot)
        await pilot.press("5")
        await compare(pilot, "log", SMALL)
        assert screen_text(pilot.app).count(CAUSE) >= 2  # below the header, and in the log
        await pilot.press("3")
        await compare(pilot, "diverged-later", SMALL[::-1])

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, SMALL[0])


def test_running_and_questions_about_it(tmp_path):
    run = a_run(tmp_path, status="running", epochs=50, batch_size=500, data__validation=0)
    with StoreWriter(run.database, clock=noon) as writer:
        found = {"test_accuracy": 0.412, "val_accuracy": 0.428, "train_loss": 1.25}
        writer.set_state({"metrics": found})
        writer.commit()

    async def script(pilot):
        await live_screen(pilot)
        await compare(pilot, "running", SMALL)
        assert "test 41.2 %" in screen_text(pilot.app)

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script, SMALL[0])


@pytest.mark.parametrize("key", ["s", "q"])
def test_questions_about_a_live_run(tmp_path, key):
    run = a_run(tmp_path, status="running", epochs=50)

    async def script(pilot):
        screen = await live_screen(pilot)
        await until(pilot, lambda: screen.views[0].is_live)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await compare(pilot, f"question-{key}", SMALL)

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script, SMALL[0])


def test_stopped_run_says_how_to_go_on(tmp_path):
    run = a_run(tmp_path, status="stopped")

    async def script(pilot):
        await live_screen(pilot)
        for size in SMALL:
            await resize(pilot, *size)
            told = "'proxprop resume abcd2345' goes on"
            await until(pilot, lambda told=told: told in screen_text(pilot.app))

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, SMALL[0])


def test_several_runs_that_differ_in_little(tmp_path):
    runs = [
        a_run(tmp_path, "cg5", id=id, steps=steps, traces=(), status=status, scale=scale)
        for id, steps, status, scale in (
            ("v73brm5w", 30, "finished", (0.98, 1.0)),
            ("k2n9c4qa", 20, "diverged", (0.985, 1.1)),
        )
    ]

    async def script(pilot):
        await live_screen(pilot)
        await pilot.press("3")
        await compare_at(pilot, "overlay-alike", (60, 20))
        await pilot.press("1", "v")
        await compare_at(pilot, "overlay-alike", (80, 24))

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script, (60, 20))


def test_question_about_deleting(tmp_path, monkeypatch):
    for number in range(4):
        make_run(tmp_path, id=f"run-of-a-long-name-{number}", clock=noon)
    monkeypatch.setattr("proxprop_cli.dashboard.list_rows.time.time", lambda: NOON + 300)

    async def script(pilot):
        await until(pilot, lambda: pilot.app.screen.query("#runs"))
        table = pilot.app.screen.query_one("#runs", Table)
        await until(pilot, lambda: len(table.keys) == 4)
        await pilot.press(*["space"] * 4, "d")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await compare(pilot, "question-delete", SMALL)

    in_app(Dashboard(Runs(tmp_path)), script, SMALL[0])
