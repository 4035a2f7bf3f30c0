"""Random keys and sizes on hostile data: the dashboard never fails."""

from __future__ import annotations

import pytest

from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.comparison import ComparisonScreen
from proxprop_cli.dashboard.screens.grid import GridScreen
from proxprop_cli.dashboard.screens.live import LiveScreen
from proxprop_cli.dashboard.screens.run_list import RunListScreen
from tests.dashboard.runs_helper import hostile_values, in_app, make_run, trace, until
from tests.dashboard.sweep_helper import Made, make_comparison, make_sweep
from tests.reliability.report import FAULTS, promise, tries

KEYS = (
    *"pxymvXhjklr12345etb",
    *("plus", "minus", "tab", "shift+tab", "enter", "escape", "question_mark", "slash", "space"),
    *("up", "down", "left", "right", "home", "end", "pageup", "pagedown"),
)
SIZES = [(1, 1), (2, 2), (3, 1), (1, 30), (10, 4), (20, 6), (40, 10), (60, 20), (80, 24), (120, 40)]
SIZES += [(200, 60), (300, 100), (300, 1)]


@pytest.fixture
def presses(request):
    """How many keys to press: a few where the test is to be fast."""
    return 120 if request.node.get_closest_marker("slow") else 24


@promise(FAULTS, "resize from 1x1 to 300x100, and keys, at random", "no exception")
@tries(1, 31)
def test_random_keys_and_sizes(tmp_path, monkeypatch, rng, presses):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    nan = float("nan")
    runs = [
        make_run(
            root,
            "cg3",
            steps=300,
            values=hostile_values(300, rng.getrandbits(32)),
            traces=[trace(300)],
        ),
        make_run(root, "exact", steps=30, name="\x1b[2J\u202e" * 20, status="diverged"),
        make_run(
            root,
            "cg10",
            steps=10,
            values={"batch_loss": [nan] * 10},
            traces=[trace(10, true_residual=nan, residuals=(1.0, nan, float("inf")))],
        ),
        make_run(root, "backprop", steps=0, status="created"),
        *(make_run(root, "cg3", steps=steps, per_epoch=1) for steps in (1, 2, 3, 5, 8)),
    ]
    shown = rng.sample(runs, rng.randint(1, 6))
    drive(Dashboard(Runs(root), [run.id for run in shown]), LiveScreen, rng, presses)


def drive(app, screen, rng, keys):
    """Press keys on a screen, and on whatever they lead to."""

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, screen))
        for _ in range(keys):
            if rng.random() < 0.2:
                await pilot.resize_terminal(*rng.choice(SIZES))
            await pilot.press(rng.choice(KEYS))
            if not isinstance(pilot.app.screen, screen) and rng.random() < 0.5:
                await pilot.press("escape", "escape", "space", "down", "space", "enter")
            for kind in ("Chart", "StabilityGrid"):
                found = [w.render_line(0) for w in pilot.app.screen.query(kind) if w.size]
                assert all("\x1b" not in strip.text for strip in found)

    in_app(app, script, rng.choice(SIZES))


def hostile_sweep(root, rng):
    """A grid of every kind of cell, with names and losses nobody would wish for."""
    losses = [float("nan"), float("inf"), 0.0, -1.0, 1e308, 5e-324, 0.1]
    statuses = ["finished", "running", "paused", "stopped", "diverged", "created", None]
    cells = [
        (row, tau, number, Made(rng.choice(statuses), rng.choice(losses), bad_step=7))
        for row in ("exact evil\x1b[2J\u202e", "cg3 長い名前 tau=1", "backprop")
        for tau in (1e30, 1.0, 1e-30)
        for number in range(2)
    ]
    return make_sweep(root, cells)


@promise(FAULTS, "resize from 1x1 to 300x100, and keys, at random", "no exception")
@pytest.mark.parametrize("kind", ["grid", "comparison", "list"])
@tries(1, 13)
def test_random_keys_on_sweeps_and_lists(tmp_path, monkeypatch, kind, rng, presses):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    screen = {"grid": GridScreen, "comparison": ComparisonScreen, "list": RunListScreen}[kind]
    grid = hostile_sweep(root, rng)
    comparison = make_comparison(root, ("exact", "cg3 evil\x1b[2J"), 3, made=1)
    for row, method in enumerate(("exact", "cg3")):  # unequal seeds, and one that is lost
        name, values = f"of-comparison-a-{row}", hostile_values(20, rng.getrandbits(32))
        make_run(root, method, id=f"{name}-1", seed=1, steps=20, values=values, status="running")
        make_run(root, method, id=f"{name}-2", seed=2, steps=5, status="diverged")
    sweep = {"grid": grid.id, "comparison": comparison.id}.get(kind)
    drive(Dashboard(Runs(root), sweep=sweep), screen, rng, presses // 3)
