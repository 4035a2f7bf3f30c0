"""Random keys and sizes on hostile data: the dashboard never fails."""

from __future__ import annotations

import random

import pytest

from engine.runs import Runs
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.live import LiveScreen
from tests.dashboard.runs_helper import hostile_values, in_app, make_run, trace, until

KEYS = (
    *"pxymvXhjklr12345e",
    *("plus", "minus", "tab", "shift+tab", "enter", "escape", "question_mark", "slash", "space"),
    *("up", "down", "left", "right", "home", "end", "pageup", "pagedown"),
)
SIZES = [(1, 1), (2, 2), (3, 1), (1, 30), (10, 4), (20, 6), (40, 10), (60, 20), (80, 24), (120, 40)]
SIZES += [(200, 60), (300, 100), (300, 1)]


@pytest.mark.parametrize("seed", range(4))
def test_random_keys_and_sizes(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    nan = float("nan")
    runs = [
        make_run(root, "cg3", steps=300, values=hostile_values(300, seed), traces=[trace(300)]),
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
    random_ = random.Random(seed)
    shown = random_.sample(runs, random_.randint(1, 6))

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        for _ in range(120):
            if random_.random() < 0.2:
                await pilot.resize_terminal(*random_.choice(SIZES))
            await pilot.press(random_.choice(KEYS))
            if not isinstance(pilot.app.screen, LiveScreen) and random_.random() < 0.5:
                await pilot.press("escape", "escape", "space", "down", "space", "enter")
            for strips in ([w.render_line(0) for w in pilot.app.screen.query("Chart") if w.size],):
                assert all("\x1b" not in strip.text for strip in strips)

    in_app(Dashboard(Runs(root), [run.id for run in shown]), script, random_.choice(SIZES))
