"""Pictures of the screens, character by character.

After a change that is meant, write the pictures anew and look at the difference:
``UPDATE_SCREENS=1 pytest tests/dashboard/looks``.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from tests.dashboard.runs_helper import make_run, resize, screen_lines, screen_strips, trace, until
from tests.dashboard.sweep_helper import NOON

SCREENS = Path(__file__).parent / "screens"
SMALL = [(60, 20), (80, 24)]
LARGE = [(80, 24), (120, 40)]
ALL = [(60, 20), (80, 24), (120, 40), (200, 60)]


async def compare(pilot, name, sizes):
    """Compare the screen with its picture, at one size after the other."""
    for size in sizes:
        await compare_at(pilot, name, size)


async def compare_at(pilot, name, size):
    app, (width, height) = pilot.app, size
    if app.size != size:
        await resize(pilot, *size)
    path = SCREENS / f"{name}-{width}x{height}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        await pilot.pause(2)
        path.write_text(look(app), encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    with suppress(AssertionError):  # the next line says what differs
        await until(pilot, lambda: look(app) == expected, 20)
    assert look(app) == expected
    strips = screen_strips(app)
    assert len(strips) == height
    assert all(strip.cell_length <= width for strip in strips)


def look(app):
    """All characters on the screen."""
    return "\n".join(screen_lines(app)) + "\n"


def noon():
    return NOON


def a_run(root, method="cg3", id="abcd2345", steps=30, **options):
    """A run whose losses are no straight line on a logarithmic axis.

    Dots of such a line lie between two rows, and the last bit of a logarithm decides where.
    """
    losses = [2.3 * 0.98**step * (1 + 0.05 * math.cos(step / 9)) for step in range(1, steps + 1)]
    traces = [
        trace(30, "1", size=500, form="dual"),
        trace(30, "3", size=500, form="dual", true_residual=3.4e-5, descent_cosine=0.31),
        trace(30, "5", iterations=2, size=1001, form="primal", stop_reason="converged"),
    ]
    given = {"traces": traces, "epochs": 3, "values": {"batch_loss": losses}} | options
    return make_run(root, method, id=id, steps=steps, clock=noon, preset="cifar-mlp", **given)
