"""From the stores of runs to what :mod:`engine.figures.curves` draws."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.cells import UNREADABLE, read_cells
from engine.errors import ConfigError, StorageError
from engine.figures.seeds import Array, Group, RunCurves
from engine.numbers import short_number
from engine.own_files import read_own
from engine.run import Run
from engine.store_reader import StoreReader
from engine.strict_yaml import MAX_BYTES
from engine.sweeps import Sweep

X_AXES = ("epoch", "wall", "train", "work", "step")

_KEYS = {"wall": "time/wall", "train": "time/train", "work": "work"}
_SEED_LINE = re.compile(r"^seed:.*\n?", re.MULTILINE)


@dataclass(slots=True)
class _Draft:
    label: str
    runs: list[Run]
    hue: int
    dash: int
    unreadable: int = 0


def read_groups(
    sources: Sequence[Run | Sweep],
    root: Path,
    xs: Sequence[str],
    metrics: Sequence[str],
    *,
    taus: dict[str, float | None] | None = None,
    skipped: list[str] | None = None,
) -> list[Group]:
    """The curves of runs and of the runs of sweeps, those that differ by seed only together.

    Runs of a sweep belong together by row and step size; others where all of their configuration
    but the seed is equal. Runs of a sweep that were not made yet are passed over. One that can not
    be read is left out, and the group says so.

    :param root: folder of the runs.
    :param xs: of :data:`X_AXES`.
    :param taus: by row of a sweep the only step size to take; None: all.
    :param skipped: gets a line for every run that could not be read.
    :raises ConfigError: no run is left.
    :raises StorageError: no run can be read.
    """
    problems: list[str] = [] if skipped is None else skipped
    drafts: list[_Draft] = []
    plain: list[Run] = []
    for source in sources:
        if isinstance(source, Run):
            plain.append(source)
        else:
            drafts += _of_sweep(source, root, taus, problems)
    drafts += _of_runs(plain, problems)
    if not drafts:
        raise ConfigError("there is no run to draw")
    if len(sources) > 1 or plain:
        for number, draft in enumerate(drafts):
            draft.hue = draft.dash = number
    labels = [draft.label for draft in drafts]
    groups = []
    for draft in drafts:
        clear = labels.count(draft.label) == 1
        first = draft.runs[0].id if draft.runs else "unreadable"
        label = draft.label if clear else f"{draft.label} [{first}]"
        runs = []
        for run in draft.runs:
            try:
                runs.append(_read_run(run, xs, metrics))
            except UNREADABLE as error:
                problems.append(f"{run.id}: {error}")
        unreadable = len(draft.runs) - len(runs) + draft.unreadable
        groups.append(Group(label, tuple(runs), draft.hue, draft.dash, unreadable))
    if not any(group.runs for group in groups):
        raise StorageError(f"no run can be read; {problems[0]}")
    return groups


def available(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """Those metrics of which some run has a finite value."""
    return [
        metric
        for metric in metrics
        if any(
            key == metric and np.isfinite(y).any()
            for group in groups
            for run in group.runs
            for (_, key), (_, y) in run.series.items()
        )
    ]


def _of_sweep(
    sweep: Sweep, root: Path, taus: dict[str, float | None] | None, problems: list[str]
) -> list[_Draft]:
    rows = list(dict.fromkeys(cell.label for cell in sweep.cells))
    columns = sorted({cell.tau for cell in sweep.cells}, reverse=True)
    if taus is not None:
        columns = []
    of_row = {row: {cell.tau for cell in sweep.cells if cell.label == row} for row in rows}
    several = any(len(found) > 1 for found in of_row.values())
    drafts: dict[tuple[str, float], _Draft] = {}
    for cell, state in zip(sweep.cells, read_cells(root, sweep), strict=True):
        if cell.run is None or not state.made:
            continue
        if taus is not None and taus.get(cell.label) != cell.tau:
            continue
        label = f"{cell.label}, τ = {short_number(cell.tau)}" if several else cell.label
        hue = rows.index(cell.label)
        shape = columns.index(cell.tau) if several and columns else hue
        draft = drafts.setdefault((cell.label, cell.tau), _Draft(label, [], hue, shape))
        if state.status == "unreadable":
            problems.append(f"{cell.run}: {state.cause}")
            draft.unreadable += 1
        else:
            draft.runs.append(Run(root / cell.run))
    return list(drafts.values())


def _of_runs(runs: Sequence[Run], problems: list[str]) -> list[_Draft]:
    drafts: list[tuple[str, set[Any], _Draft]] = []
    for run in dict.fromkeys(runs):
        try:
            text = read_own(run.path / "config.yaml", MAX_BYTES).decode()
            with StoreReader(run.database) as reader:
                state = reader.state()
            brief = state.get("config") or {}
            data = (state.get("environment") or {}).get("data_sha256")
            draft = _Draft(_label(run, brief), [run], 0, 0)
        except (OSError, KeyError, *UNREADABLE) as error:
            problems.append(f"{run.id}: {error}")
            drafts.append(("", set(), _Draft(run.id, [], 0, 0, unreadable=1)))
            continue
        # runs on different data are no seeds of one thing
        content = f"{data}\n{_SEED_LINE.sub('', text)}"
        seed = brief.get("seed")
        for known, seeds, other in drafts:
            # one of the same seed too was trained again: no sample of its own
            if brief and known == content and seed not in seeds:
                seeds.add(seed)
                other.runs.append(run)
                break
        else:
            drafts.append((content, {seed}, draft))
    return [draft for _, _, draft in drafts]


def _label(run: Run, brief: dict[str, Any]) -> str:
    if brief.get("name"):
        return str(brief["name"])
    if not brief:
        return run.id
    return f"{brief['method']}, τ = {short_number(float(brief['tau']))}"


def _read_run(run: Run, xs: Sequence[str], metrics: Sequence[str]) -> RunCurves:
    with StoreReader(run.database) as reader:
        state = reader.state()
        started = [e.payload for e in reader.events() if e.kind == "RunStarted"]
        per_epoch = started[-1].get("steps_per_epoch") if started else None
        if not isinstance(per_epoch, int) or per_epoch < 1:
            per_epoch = None
        found = {metric: reader.series(metric) for metric in metrics}
        places = {x: _places(reader, x, per_epoch) for x in xs}
    loss = (state.get("metrics") or {}).get("train_loss")
    series = {
        (x, metric): _against(steps, values, places[x])
        for metric, (steps, values) in found.items()
        for x in xs
        if len(steps)
    }
    lost = loss is not None and not np.isfinite(float(loss))
    return RunCurves(run.id, series, state.get("status") == "diverged" or lost)


def _places(reader: StoreReader, x: str, per_epoch: int | None) -> tuple[Array, Array] | None:
    """Known steps and where they lie on the x axis; None: steps are the axis."""
    if x == "step":
        return None
    if x == "epoch":
        steps, values = reader.series("epoch")
        last = [step for step, _ in reader.latest(["batch_loss"], 1)]
        if per_epoch and last and last[0] > (steps[-1] if len(steps) else 0):
            # an epoch that was not ended was not evaluated
            steps = np.append(steps, last[0])
            values = np.append(values, last[0] / per_epoch)
        return steps.astype(np.float64), values
    steps, values = reader.series(_KEYS[x])
    if x == "work":
        values = values / (per_epoch or np.nan)
        if len(steps) and steps[0] > 0:
            steps, values = np.insert(steps, 0, 0), np.insert(values, 0, 0.0)
    return steps.astype(np.float64), values


def _against(steps: Any, values: Array, places: tuple[Array, Array] | None) -> tuple[Array, Array]:
    at = steps.astype(np.float64)
    if places is None:
        return at, values
    known = np.isfinite(places[1])
    if not known.any():
        return np.empty(0), np.empty(0)
    x = np.interp(at, places[0][known], places[1][known], left=np.nan, right=np.nan)
    kept = np.isfinite(x)
    return x[kept], values[kept]
