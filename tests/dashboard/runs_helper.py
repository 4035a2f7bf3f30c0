"""Runs with made-up stores, for tests of the dashboard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.config import resolve
from engine.events import SolverTrace
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter

if TYPE_CHECKING:
    from textual.strip import Strip

PER_EPOCH = 10


def trace(step: int, layer: str = "1", iterations: int = 3, **changes: Any) -> SolverTrace:
    residuals = tuple(0.3**k for k in range(iterations + 1)) if iterations else ()
    values: dict[str, Any] = {
        "step": step,
        "layer": layer,
        "form": "dual",
        "solver": f"cg{iterations}" if iterations else "exact",
        "size": 500,
        "beta": 20.0,
        "products": 1.5e6,
        "iterations": iterations,
        "stop_reason": "max iterations" if iterations else "direct",
        "residuals": residuals,
        "true_residual": 0.02,
        "descent_cosine": 0.5,
    }
    return SolverTrace(**(values | changes))


def make_run(
    root: Path,
    method: str = "exact",
    *,
    steps: int = 40,
    status: str = "finished",
    values: Mapping[str, Sequence[float]] | None = None,
    traces: Sequence[SolverTrace] = (),
    diverged: tuple[int, str] | None = None,
    per_epoch: int = PER_EPOCH,
    id: str | None = None,
    scale: tuple[float, float] = (0.98, 1.0),
    clock: Callable[[], float] = time.time,
    **overrides: Any,
) -> Run:
    """A run that has trained ``steps`` steps, ``per_epoch`` an epoch.

    :param values: per-step metrics to use in place of a falling loss.
    :param scale: by what the evaluated training loss falls a step, and by what it is larger.
    """
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    document = {"epochs": max(1, steps // per_epoch), "preset": "digits-mlp"}
    run = Runs(root, clock=clock).create(resolve(document, method=method, overrides=dotted), id=id)
    numbers = list(range(1, steps + 1))
    falling = [2.3 * 0.98**step for step in numbers]
    given = dict(values) if values is not None else {"batch_loss": falling}
    times = {
        "time/train": [0.01 * step for step in numbers],
        "time/wall": [0.02 * step for step in numbers],
        "work": [2.5 * step for step in numbers],
    }
    with StoreWriter(run.database, clock=clock) as writer:
        started = {
            "epoch": 0,
            "resumed": False,
            "steps_per_epoch": per_epoch,
            "environment": {"backprop_products": 1_000_000},
        }
        writer.append_event(0, "RunStarted", started)
        writer.append_block(numbers, given | times)
        metrics: dict[str, float] = {}
        for step in range(0, steps + 1, per_epoch):
            metrics = {
                "epoch": step / per_epoch,
                "train_loss": 2.3 * scale[0] ** step * scale[1],
                "val_loss": 2.3 * 0.985**step,
                "train_accuracy": 1 - 0.9 * 0.98**step,
                "val_accuracy": 1 - 0.9 * 0.985**step,
                "time/train": 0.01 * step,
                "time/wall": 0.02 * step,
            }
            writer.append_metrics(step, metrics)
        writer.append_traces(traces)
        for one in traces:
            writer.append_metrics(one.step, {f"solver/{one.layer}/residual": one.true_residual})
        if diverged is not None:
            writer.append_event(diverged[0], "Diverged", {"cause": diverged[1]})
        writer.set_state(
            {"status": status, "step": steps, "epoch": steps / per_epoch, "metrics": metrics}
        )
        writer.commit()
    return run


def hostile_values(steps: int, seed: int) -> dict[str, list[float]]:
    """Per-step losses with everything a float can be."""
    random = np.random.default_rng(seed)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e308, -1e308, 5e-324, 1e10])
    values = np.exp(random.normal(0, 3, steps))
    chosen = random.random(steps) < 0.3
    values[chosen] = random.choice(special, chosen.sum())
    constant = [1e10] * steps
    return {"batch_loss": values.tolist(), "direction_norm": constant}


def in_app(app: Any, script: Any, size: tuple[int, int] = (120, 40)) -> None:
    """Run ``await script(pilot)`` in an app without a terminal."""

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await script(pilot)

    asyncio.run(go())


async def until(pilot: Any, condition: Any, seconds: float = 60.0) -> None:
    """Wait until something is true."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "waited in vain"
        await pilot.pause(0.02)


async def live_screen(pilot: Any) -> Any:
    """Wait until a screen on runs has read them all, and return it."""
    await until(pilot, lambda: getattr(pilot.app.screen, "views", None))
    screen = pilot.app.screen
    await until(pilot, lambda: screen.are_known and all(view.series for view in screen.views))
    return screen


async def resize(pilot: Any, width: int, height: int) -> None:
    """Give the screen another size and wait until it has it."""
    await pilot.resize_terminal(width, height)
    await until(pilot, lambda: pilot.app.screen.size == (width, height))
    await pilot.pause()


# What a person notices of an app. Textual has no public names for some of it.


def screen_strips(app: Any) -> list[Strip]:
    """Return the lines of the screen with their styles."""
    strips: list[Strip] = app.screen._compositor.render_strips()
    return strips


def screen_lines(app: Any) -> list[str]:
    """Return the lines of the screen without trailing spaces."""
    return [strip.text.rstrip() for strip in screen_strips(app)]


def screen_text(app: Any) -> str:
    """Return the lines of the screen as one text."""
    return "\n".join(screen_lines(app))


def notices(app: Any) -> list[str]:
    """Return the messages in the corner of the screen."""
    return [note.message for note in app._notifications]


def has_left(app: Any) -> bool:
    """Return whether the app was left."""
    return app.return_code is not None
