"""What a sweep or a comparison is made of: its runs, their names, and the order to train them in.

A run is named by its own content (configuration without labels), and a sweep by its runs. So the
same command finds the same sweep again and goes on with it, and a larger grid finds the cells of
a smaller one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.clock import now
from engine.config import RunConfig, merge, validate
from engine.errors import ConfigError
from engine.sweeps import MAX_CELLS, Cell, Kind, Sweep

DEFAULT_MAX_RUNS = 1000
"""More than that is more likely a mistake than a wish."""

_LABELS = ("preset", "name")
_KEPT = ("keep", "keep_best")
_HASH_LETTERS = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One method, or one variant, before step sizes and seeds are given to it.

    :ivar label: what to call it; unique in the sweep.
    :ivar config: of its runs; step size and seed are replaced.
    :ivar taus: step sizes, in any order.
    """

    label: str
    config: RunConfig
    taus: tuple[float, ...]


def plan_sweep(
    title: str,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    kind: Kind = "sweep",
    level: float | None = None,
    max_runs: int = DEFAULT_MAX_RUNS,
) -> Sweep:
    """The sweep with all its cells; nothing is written.

    :param title: what is trained, for people.
    :param level: see :class:`engine.sweeps.Sweep`.
    :raises ConfigError: there are too many runs or none, a row or a step size is there twice, or a
        step size is not valid.
    """
    count = sum(len(row.taus) for row in rows) * len(seeds)
    if count > min(max_runs, MAX_CELLS):
        fix = "--max-runs raises the limit" if max_runs < MAX_CELLS else "make the grid smaller"
        raise ConfigError(
            f"{count:,} runs asked for, at most {min(max_runs, MAX_CELLS):,} allowed; {fix}"
        )
    if not count:
        raise ConfigError("expected at least one method, one step size and one seed")
    _refuse_twins("row", [row.label for row in rows])
    _refuse_twins("seed", seeds)
    cells: list[Cell] = []
    configs: dict[str, dict[str, Any]] = {}
    for row in rows:
        _refuse_twins(f"{row.label}: step size", row.taus)
        configs[row.label] = row.config.model_dump(mode="json")
        for tau in sorted(row.taus, reverse=True):
            for seed in seeds:
                config = _with(configs[row.label], tau, seed)
                proximal = config.method.uses_tau_theta
                cells.append(
                    Cell(
                        method=config.method.name,
                        tau=config.method.tau,
                        tau_theta=config.method.tau_theta if proximal else None,
                        seed=seed,
                        run=run_id(config),
                        row="" if row.label == config.method.name else row.label,
                    )
                )
    _refuse_same_runs(cells)
    return Sweep(
        id=f"{kind}-{_short_hash(sorted(str(cell.run) for cell in cells))}",
        preset=title,
        epochs=max(row.config.epochs for row in rows),
        created=now(),
        cells=tuple(cells),
        kind=kind,
        level=level,
        configs=configs,
    )


def cell_config(sweep: Sweep, cell: Cell) -> RunConfig:
    """The configuration of one run.

    :raises ConfigError: the sweep's file does not tell it, or was changed and is wrong now.
    """
    document = sweep.configs.get(cell.label)
    if document is None:
        raise ConfigError(f"sweep {sweep.id}: no configuration for the row {cell.label!r}")
    return _with(document, cell.tau, cell.seed)


def run_id(config: RunConfig) -> str:
    """The name of a run, made from all that decides what it does.

    CPU threads that were left to the program are no part of that, though bits may depend on them.
    """
    # without defaults, so that a key which is new in another version changes no name
    return f"{config.method.name}-{_short_hash(_content(config, exclude_defaults=True))}"


def thrifty(config: RunConfig) -> RunConfig:
    """The same run with the latest checkpoint alone: a sweep has many, and none is looked at."""
    log = config.log.model_copy(update={"keep": 1, "keep_best": False})
    return config.model_copy(update={"log": log})


def is_same_run(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configurations differ in labels, CPU threads and kept checkpoints at most."""
    first, second = _content(one), _content(other)
    return {**first, "threads": None} == {**second, "threads": None}


def schedule(cells: Iterable[Cell]) -> list[Cell]:
    """The order to train cells in: the picture first, then its details.

    First seed before the next; in it the ends of every row, the middle, and then always the middle
    of what is still open; at each step size all rows.
    """
    cells = list(cells)
    taus = sorted({cell.tau for cell in cells}, reverse=True)
    rank = {taus[index]: number for number, index in enumerate(_coarse_first(len(taus)))}
    seeds = {seed: number for number, seed in enumerate(dict.fromkeys(c.seed for c in cells))}
    return sorted(cells, key=lambda cell: (seeds[cell.seed], rank[cell.tau]))


def _coarse_first(count: int) -> list[int]:
    """Indices 0 to count - 1: both ends, then the middles of the gaps, level by level."""
    order = [0, count - 1] if count > 1 else [0] * count
    gaps = [(0, count - 1)]
    while gaps:
        below = []
        for low, high in gaps:
            if high - low > 1:
                middle = (low + high) // 2
                order.append(middle)
                below += [(low, middle), (middle, high)]
        gaps = below
    return order


def _with(document: Mapping[str, Any], tau: float, seed: int) -> RunConfig:
    return validate(merge(document, {"method": {"tau": tau}, "seed": seed}), source="sweep")


def _content(config: RunConfig, *, exclude_defaults: bool = False) -> dict[str, Any]:
    document = config.model_dump(mode="json", exclude_defaults=exclude_defaults)
    document.get("data", {}).pop("label", None)
    for key in _KEPT:
        document.get("log", {}).pop(key, None)
    return {key: value for key, value in document.items() if key not in _LABELS}


def _short_hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_HASH_LETTERS]


def _refuse_twins(what: str, values: Sequence[object]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ConfigError(f"{what} {value} is there more than once")


def _refuse_same_runs(cells: Sequence[Cell]) -> None:
    seen: dict[str | None, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.run, cell)
        if other is not cell:
            raise ConfigError(f"the rows {other.label!r} and {cell.label!r} are the same runs")
