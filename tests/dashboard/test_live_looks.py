"""What the live screen looks like where something asks for attention, at the small sizes.

Pictures are written anew as in test_looks.py.
"""

from __future__ import annotations

import pytest

from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.choice import Choice
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from proxprop_cli.dashboard.widgets.table import Table
from tests.dashboard.runs_helper import in_app, make_run, trace, until
from tests.dashboard.sweep_helper import NOON
from tests.dashboard.test_looks import _fixed_clock as _fixed_clock
from tests.dashboard.test_looks import a_run, clock, compare, ids, look

SMALL = [(60, 20), (80, 24)]
CAUSE = "update direction is infinite"


async def opened(pilot, *keys):
    await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
    screen = pilot.app.screen
    await until(pilot, lambda: screen.views and all(view.series for view in screen.views))
    await pilot.press(*keys)
    await pilot.pause(0.1)
    await until(pilot, lambda: look(pilot.app).splitlines()[-1].strip())  # the keys
    return screen


def a_failure(root, **options):
    """A run that diverged long after the only step that was traced."""
    values = {"batch_loss": [2.3 * 1.9**step for step in range(1, 16)] + [float("inf")]}
    return a_run(
        root,
        "cg5",
        id="v73brm5w",
        steps=16,
        per_epoch=7,
        traces=[trace(1, layer, iterations=5) for layer in "135"],
        values=values,
        status="diverged",
        diverged=(16, CAUSE),
        **options,
    )


@pytest.mark.parametrize("size", SMALL, ids=ids)
def test_log_of_a_divergence(tmp_path, size):
    run = a_failure(tmp_path)

    async def script(pilot):
        screen = await opened(pilot, "5")
        seen = look(pilot.app)
        assert f"✖ {CAUSE}" in screen.query_one("#log").render().plain
        assert seen.count(CAUSE) >= 2  # below the header, and in the log
        compare(seen, f"log-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


@pytest.mark.parametrize("size", [*SMALL, (120, 40)], ids=ids)
def test_solvers_of_a_run_that_diverged_later(tmp_path, size):
    run = a_failure(tmp_path)

    async def script(pilot):
        await opened(pilot, "3")
        compare(look(pilot.app), f"diverged-later-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


@pytest.mark.parametrize("size", [*SMALL, (120, 40)], ids=ids)
def test_running(tmp_path, size):
    run = a_run(tmp_path, status="running", epochs=50, batch_size=500, data__validation=0)
    with StoreWriter(run.database, clock=clock) as writer:
        found = {"test_accuracy": 0.412, "val_accuracy": 0.428, "train_loss": 1.25}
        writer.set_state({"metrics": found})
        writer.commit()

    async def script(pilot):
        await opened(pilot)
        seen = look(pilot.app)
        assert "6 %" in seen
        assert "abcd2345" in seen
        assert "cg3 · tau 1" in seen
        assert "test 41.2 %" in seen
        compare(seen, f"running-{ids(size)}")

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


@pytest.mark.parametrize("size", SMALL, ids=ids)
def test_stopped_run_says_how_to_go_on(tmp_path, size):
    run = a_run(tmp_path, status="stopped")

    async def script(pilot):
        await opened(pilot)
        assert "'proxprop resume abcd2345' goes on" in look(pilot.app)

    in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


@pytest.mark.parametrize("size", SMALL, ids=ids)
def test_several_runs_that_differ_in_little(tmp_path, size):
    runs = [
        a_run(tmp_path, "cg5", id=id, steps=steps, traces=(), status=status)
        for id, steps, status in (("v73brm5w", 30, "finished"), ("k2n9c4qa", 20, "diverged"))
    ]

    async def script(pilot):
        await opened(pilot, "v" if size == (80, 24) else "3")
        seen = look(pilot.app)
        assert "● cg5 tau 1 · v73brm5w" in seen if size[0] == 60 else "● v73brm5w" in seen
        assert "✖" in seen
        compare(seen, f"overlay-alike-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path), [run.id for run in runs]), script, size)


@pytest.mark.parametrize("size", SMALL, ids=ids)
@pytest.mark.parametrize(("key", "words"), [("s", "goes on from it."), ("q", "the state is kept")])
def test_questions_about_a_live_run(tmp_path, size, key, words):
    run = a_run(tmp_path, status="running", epochs=50)

    async def script(pilot):
        screen = await opened(pilot)
        await until(pilot, lambda: screen.views[0].is_live)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.pause(0.1)
        seen = look(pilot.app)
        for word in (*words.split(), "cancel"):
            assert word in seen
        compare(seen, f"question-{key}-{ids(size)}")

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script, size)


@pytest.mark.parametrize("size", SMALL, ids=ids)
def test_question_about_deleting(tmp_path, size, monkeypatch):
    for number in range(4):
        make_run(tmp_path, id=f"run-of-a-long-name-{number}", clock=clock)
    monkeypatch.setattr("proxprop_cli.dashboard.list_rows.time.time", lambda: NOON + 300)

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, RunListScreen))
        table = pilot.app.screen.query_one("#runs", Table)
        await until(pilot, lambda: len(table.keys) == 4)
        await pilot.press(*["space"] * 4, "d")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.pause(0.1)
        seen = look(pilot.app)
        for word in ("metrics?", "delete", "cancel"):
            assert word in seen
        compare(seen, f"question-delete-{ids(size)}")

    in_app(Dashboard(Runs(tmp_path)), script, size)
