"""A sweep with runs that were never trained, but say they were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import MethodConfig, RunConfig
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter
from engine.sweeps import Cell, Sweep, save_sweep
from tests.dashboard.runs_helper import make_run

INITIAL_LOSS = 2.303
NOON = 1_760_000_000.0


@dataclass(frozen=True)
class Made:
    """What a run of the sweep is to look like; ``status`` None: it was not made yet."""

    status: str | None = "finished"
    loss: float = 0.1
    accuracy: float = 0.9
    epoch: float = 20
    bad_step: int | None = None


def write_run(runs: Runs, id: str, config: RunConfig, made: Made) -> None:
    """A run folder that says what it is told to say."""
    run = runs.create(config, id=id)
    with StoreWriter(run.database) as writer:
        writer.append_metrics(0, {"train_loss": INITIAL_LOSS, "val_accuracy": 0.1})
        write_state(writer, made)


def write_state(writer: StoreWriter, made: Made) -> None:
    """Status and latest evaluation; the caller commits."""
    metrics = {"train_loss": made.loss, "val_accuracy": made.accuracy, "epoch": made.epoch}
    step = int(made.epoch * 26)
    if step:
        writer.append_metrics(step, metrics)
    writer.set_state({"status": made.status, "epoch": made.epoch, "step": step, "metrics": metrics})
    if made.bad_step is not None:
        cause = "the loss is not finite"
        writer.append_event(made.bad_step, "Diverged", {"cause": cause})
        writer.set_state({"reason": cause})


def make_sweep(
    root: Path,
    cells: Iterable[tuple[str, float, int, Made]],
    *,
    id: str = "sweep",
    preset: str = "digits-mlp",
    epochs: int = 20,
    created: float = 1.7e9,
) -> Sweep:
    """A sweep of (method or row that begins with one, tau, seed, what its run looks like)."""
    runs = Runs(root)
    made_cells = []
    for number, (row, tau, seed, made) in enumerate(cells):
        method = row.partition(" ")[0]
        theta = None if method == "backprop" else 0.05
        name = None
        if made.status is not None:
            name = f"{id}-{number}"
            settings = MethodConfig(name=method, tau=tau, tau_theta=theta or 1.0)
            config = RunConfig(preset=preset, seed=seed, epochs=epochs, method=settings)
            write_run(runs, name, config, made)
        made_cells.append(Cell(method, tau, theta, seed, name, row if row != method else ""))
    sweep = Sweep(id, preset, epochs, created, tuple(made_cells))
    save_sweep(root, sweep)
    return sweep


def make_comparison(
    root: Path, rows: Sequence[str], seeds: int = 3, *, id: str = "comparison-a", made: int = 99
) -> Sweep:
    """Rows with runs that have curves; of each the first ``made`` seeds are there."""
    cells = []
    for number, row in enumerate(rows):
        method = row.partition(" ")[0]
        for seed in range(seeds):
            name = f"of-{id}-{number}-{seed}"
            if seed < made:
                make_seed(root, name, method, number, seed)
            theta = None if method == "backprop" else 1.0  # what make_run has
            cells.append(Cell(method, 1.0, theta, seed, name, row if row != method else ""))
    sweep = Sweep(id, "digits-mlp", 6, NOON, tuple(cells), "comparison")
    save_sweep(root, sweep)
    return sweep


def make_seed(root: Path, name: str, method: str, row: int, seed: int, **options: Any) -> Run:
    """A run whose loss is a little above that of the seed before."""
    factor = 0.9 - 0.01 * row
    losses = [2.3 * factor ** (step / 4) * (1 + 0.15 * seed) for step in range(1, 61)]
    given = {"steps": 60, "scale": (factor**0.25, 1 + 0.15 * seed)} | options
    values = {"batch_loss": losses}
    return make_run(root, method, id=name, seed=seed, values=values, clock=lambda: NOON, **given)


TAUS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)


def a_grid() -> list[tuple[str, float, int, Made]]:
    """4 methods, 9 step sizes, 3 seeds: cells of every kind. The curves are made up."""
    grid: list[tuple[str, float, int, Made]] = []
    limits = {"backprop": 0.1, "cg1": 1.0, "cg3": 3.0, "exact": 10.0}
    for row, (method, limit) in enumerate(limits.items()):
        for column, tau in enumerate(TAUS):
            for seed in range(3):
                loss = min(2.25, 0.0013 / (tau / limit) ** 1.3 * (1 + 0.1 * seed) + 0.0001 * row)
                made = Made(loss=loss, accuracy=max(0.1, 0.96 - loss / 3))
                if tau > 2 * limit or (tau > limit / 2 and seed == 2 and method == "cg3"):
                    bad = 40 + 3 * column + seed
                    made = Made("diverged", 9.1, 0.1, 2, bad_step=bad)
                if method == "exact" and column >= 6:
                    started = Made("stopped" if column == 8 else "paused", 1.62, 0.41, 7)
                    made = started if seed == 0 and column > 6 else Made(None)
                if method == "cg3" and column == 8 and seed == 2:
                    made = Made("running", 1.41, 0.55, 3)  # nobody has it: interrupted
                grid.append((method, tau, seed, made))
    return grid


def set_created(run: Run, moment: float) -> None:
    """Let a run have been made at another moment, in seconds since the epoch."""
    run.lock_file.write_text(repr(moment))
    with StoreWriter(run.database) as writer:
        writer.set_state({"created": moment})
