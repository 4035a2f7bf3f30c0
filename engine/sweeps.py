"""Sweeps and comparisons: which runs make up a table of rows, step sizes and seeds.

A sweep is a folder ``<runs root>/<sweep id>/`` with a file ``sweep.json``; its runs are ordinary
runs beside it. Lists of runs pass it over, because it has no ``config.yaml``. Nothing here needs
to check the configuration of a run, so that a grid is on the screen at once.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from engine.atomic_files import PRIVATE_FOLDER, storage_errors, sync_folder
from engine.errors import ConfigError, StorageError
from engine.own_files import (
    SWEEP,
    is_own_file,
    is_own_folder,
    read_own,
    replace_own,
    require_own_folder,
)

VERSION = 1
"""Of the file's format."""
MAX_BYTES = 1 << 25
"""Largest ``sweep.json``."""
MAX_CELLS = 100_000
"""Most runs of a sweep."""

_FILE = "sweep.json"
_ID = re.compile(r"(?!latest\Z)[a-z0-9][a-z0-9-]{0,63}")
"""Names of folders as :mod:`engine.runs` has them, which is not imported for the time it takes."""
_METHOD = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAX_TEXT = 200
_MAX_CREATED = 1e11

Kind = Literal["sweep", "comparison"]
"""A grid of step sizes, or variants with one step size each."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep, there or still to be made."""

    method: str
    tau: float
    """Step size."""
    tau_theta: float | None
    """Proximal step size; None for BackProp, which has none. One a row."""
    seed: int
    run: str | None = None
    """Id of the run; there may be no such run yet. None: it has no name yet."""
    row: str = ""
    """What tells it from other cells of its method, tau and seed."""

    @property
    def label(self) -> str:
        """The row of the grid it belongs to."""
        return self.row or self.method


@dataclass(frozen=True, slots=True)
class Sweep:
    """Runs that differ by row, step size and seed only."""

    id: str
    preset: str
    """What is trained, for people."""
    epochs: int
    """Of the row that is trained longest."""
    created: float
    """Seconds since the epoch."""
    cells: tuple[Cell, ...]
    kind: Kind = "sweep"
    level: float | None = None
    """Training loss at or below which a step size counts as stable; None: made from the runs."""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By row: the configuration document of its runs, but for step size and seed."""


def save_sweep(root: Path, sweep: Sweep) -> None:
    """Write ``sweep.json``, a new one or in the place of the old one.

    :param root: folder of the runs.
    :raises ConfigError: the sweep is not valid, or its id is that of a run.
    :raises StorageError: it can not be written; an old file is what it was before.
    """
    _check(sweep)
    folder = root / sweep.id
    if (folder / "config.yaml").exists():
        raise ConfigError(f"{sweep.id!r} is a run already; choose another id for the sweep")
    document = {"version": VERSION, **asdict(sweep)}
    del document["id"]  # the folder's name is the only one
    text = json.dumps(document, indent=1, allow_nan=False)
    require_own_folder(folder)
    with storage_errors(folder):
        root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not folder.is_dir():
            folder.mkdir(mode=PRIVATE_FOLDER)
            sync_folder(root)
    replace_own(folder / _FILE, text.encode())


def load_sweep(root: Path, id: str) -> Sweep:
    """Read a sweep.

    :param root: folder of the runs.
    :raises ConfigError: there is no such sweep.
    :raises StorageError: its file can not be read, is damaged or of another version.
    """
    if not _ID.fullmatch(id):
        raise ConfigError(f"invalid sweep id {id!r}: use up to 64 of a-z, 0-9 and -")
    path = sweep_file(root, id)
    if not is_sweep(root, id):
        raise ConfigError(f"no sweep {id!r} in {root}")
    with storage_errors(path):
        content = read_own(path, MAX_BYTES)
    try:
        found = json.loads(content, parse_constant=_refuse_constant)
        version = found["version"]
        if version != VERSION:
            raise ConfigError(f"expected version {VERSION}, found {version!r}")
        sweep = _sweep(id, found)
        _check(sweep)
    except ConfigError as error:
        raise StorageError(f"{path}: {error}") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise StorageError(f"{path}: no sweep: {type(error).__name__}: {error}") from error
    return sweep


def sweep_ids(root: Path) -> list[str]:
    """Ids of every sweep, those that can not be read among them.

    :raises StorageError: the folder can not be listed.
    """
    with storage_errors(root):
        try:
            names = [entry.name for entry in os.scandir(root) if not entry.is_symlink()]
        except FileNotFoundError:
            return []
        return sorted(n for n in names if _ID.fullmatch(n) and is_sweep(root, n))


def read_sweeps(root: Path) -> tuple[list[Sweep], dict[str, str]]:
    """Every sweep that can be read, newest first; by id what is wrong with each of the others.

    :raises StorageError: the folder can not be listed.
    """
    found: list[Sweep] = []
    unreadable: dict[str, str] = {}
    for id in sweep_ids(root):
        try:
            found.append(load_sweep(root, id))
        except ConfigError:
            continue  # deleted meanwhile
        except StorageError as error:
            unreadable[id] = str(error)
    return sorted(found, key=lambda sweep: (sweep.created, sweep.id), reverse=True), unreadable


def all_sweeps(root: Path) -> list[Sweep]:
    """Every sweep, newest first; one that is damaged does not hide the others and is left out.

    :raises StorageError: the folder can not be listed.
    """
    return read_sweeps(root)[0]


def unreadable_sweeps(root: Path) -> dict[str, str]:
    """What is wrong with each sweep that is damaged or of another version, by its id.

    :raises StorageError: the folder can not be listed.
    """
    return read_sweeps(root)[1]


def is_sweep(root: Path, id: str) -> bool:
    """Whether there is a file of a sweep; not in a folder that can not be looked into."""
    return is_own_folder(root / id) and is_own_file(sweep_file(root, id), SWEEP)


def sweep_file(root: Path, id: str) -> Path:
    """Where a sweep is kept; replaced, never changed."""
    return root / id / _FILE


def _sweep(id: str, found: dict[str, Any]) -> Sweep:
    cells = found["cells"]
    if not isinstance(cells, list) or len(cells) > MAX_CELLS:
        raise ConfigError(f"cells: expected a list of at most {MAX_CELLS}")
    return Sweep(
        id=id,
        preset=found["preset"],
        epochs=found["epochs"],
        created=found["created"],
        cells=tuple(
            Cell(
                cell["method"],
                cell["tau"],
                cell["tau_theta"],
                cell["seed"],
                cell.get("run"),
                cell.get("row", ""),
            )
            for cell in cells
        ),
        kind=found.get("kind", "sweep"),
        level=found.get("level"),
        configs=found.get("configs", {}),
    )


def _check(sweep: Sweep) -> None:
    if not _ID.fullmatch(sweep.id):
        raise ConfigError(f"invalid sweep id {sweep.id!r}: use up to 64 of a-z, 0-9 and -")
    if not isinstance(sweep.preset, str) or len(sweep.preset) > _MAX_TEXT:
        raise ConfigError(f"preset: expected text of at most {_MAX_TEXT} characters")
    if not _is_integer(sweep.epochs):
        raise ConfigError(f"epochs: expected an integer of at least 0, found {sweep.epochs!r}")
    if not (_is_number(sweep.created) and 0 <= sweep.created <= _MAX_CREATED):
        raise ConfigError("created: expected seconds since the epoch, from 0 to 1e11")
    if sweep.kind not in ("sweep", "comparison"):
        raise ConfigError(f"kind: expected 'sweep' or 'comparison', found {sweep.kind!r}")
    if sweep.level is not None and not (_is_number(sweep.level) and sweep.level > 0):
        raise ConfigError("level: expected a training loss greater than 0, or null")
    if not (isinstance(sweep.configs, Mapping) and all(map(_is_mapping, sweep.configs.values()))):
        raise ConfigError("configs: expected a mapping of rows to configurations")
    if len(sweep.cells) > MAX_CELLS:
        raise ConfigError(f"cells: expected at most {MAX_CELLS}, found {len(sweep.cells)}")
    places: set[tuple[str, float, int]] = set()
    rows: dict[str, tuple[str, float | None]] = {}
    for number, cell in enumerate(sweep.cells):
        where = f"cells[{number}]"
        _check_cell(cell, where)
        place = (cell.label, cell.tau, cell.seed)
        if place in places:
            raise ConfigError(f"{where}: row, tau and seed are those of an earlier cell")
        places.add(place)
        # a mean over runs that differ in more than the seed would mean nothing
        same = (cell.method, cell.tau_theta)
        if rows.setdefault(cell.label, same) != same:
            raise ConfigError(f"{where}: expected one method and one tau_theta in a row")


def _check_cell(cell: Cell, where: str) -> None:
    if not (isinstance(cell.method, str) and _METHOD.fullmatch(cell.method)):
        raise ConfigError(f"{where}.method: expected the name of a method")
    if not (_is_number(cell.tau) and cell.tau > 0):
        raise ConfigError(f"{where}.tau: expected a number greater than 0")
    if cell.tau_theta is not None and not (_is_number(cell.tau_theta) and cell.tau_theta > 0):
        raise ConfigError(f"{where}.tau_theta: expected a number greater than 0, or null")
    if not _is_integer(cell.seed):
        raise ConfigError(f"{where}.seed: expected an integer of at least 0")
    if not (isinstance(cell.row, str) and len(cell.row) <= _MAX_TEXT):
        raise ConfigError(f"{where}.row: expected text of at most {_MAX_TEXT} characters")
    # the id becomes a path, so it must not lead out of the folder
    if cell.run is not None and not (isinstance(cell.run, str) and _ID.fullmatch(cell.run)):
        raise ConfigError(f"{where}.run: expected the id of a run, or null")


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"expected a finite number, found {text}")
