"""How one run of a sweep is, as its store tells it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import StorageError
from engine.locks import is_locked
from engine.method_names import FULL_BATCH
from engine.own_files import require_own_folder
from engine.run import WAITING_FOR_ROOM, Run
from engine.store_reader import StoreReader
from engine.sweeps import Cell, Sweep

Status = Literal[
    "waiting",
    "running",
    "paused",
    "finished",
    "stopped",
    "failed",
    "interrupted",
    "diverged",
    "unreadable",
]
_STORED: dict[str, Status] = {
    "created": "waiting",
    "running": "running",
    "paused": "paused",
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "diverged": "diverged",
}
ENDED = ("finished", "diverged")
"""Statuses of runs that nothing is left to do for; one that was stopped can go on."""
UNREADABLE = (
    StorageError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    LookupError,
)
"""What reading a damaged store may raise."""


@dataclass(frozen=True, slots=True)
class CellState:
    """How one run of a sweep is; metrics are those of its latest evaluation."""

    status: Status
    train_loss: float | None = None
    """Mean over all training samples; may be NaN or infinite."""
    val_accuracy: float | None = None
    """A fraction; None where there are no classes."""
    epoch: float = 0.0
    """Epochs trained so far."""
    initial_loss: float | None = None
    """``train_loss`` before the first step."""
    first_bad_step: int | None = None
    """Where a loss or an update was first not finite."""
    cause: str = ""
    """What was not finite then; for ``unreadable`` what is wrong; else why the run ended."""
    made: bool = True
    """Whether there is such a run already."""
    side_by_side: int = 1
    """Most runs that shared the machine with it, itself included."""
    val_loss: float | None = None
    """Mean over all validation samples."""
    test_loss: float | None = None
    """Mean over all test samples."""
    test_accuracy: float | None = None
    """As ``val_accuracy``."""
    seconds: float | None = None
    """Of training so far, without evaluation."""
    short_of_room: bool = False
    """Whether its process waits for room on the disk."""
    data: str = ""
    """SHA-256 of the data it was trained on; empty: none is known."""

    @property
    def word(self) -> str:
        """How it is, as people are told."""
        return WAITING_FOR_ROOM if self.short_of_room else self.status

    @property
    def diverged(self) -> bool:
        """Whether the training loss is lost for good."""
        not_finite = self.train_loss is not None and not math.isfinite(self.train_loss)
        return self.status == "diverged" or not_finite

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.status in ENDED


WAITING = CellState("waiting", made=False)
"""A cell whose run was not made yet."""


def read_cells(root: Path, sweep: Sweep) -> list[CellState]:
    """How every run of a sweep is now, in the order of its cells.

    :param root: folder of the runs.
    """
    states = [read_cell(root, cell, expected_brief(sweep, cell)) for cell in sweep.cells]
    return with_one_data_set(sweep, states)


def with_one_data_set(sweep: Sweep, states: Sequence[CellState]) -> list[CellState]:
    """The states with those runs unreadable that were trained on other data than most.

    Runs are named by the folder of their data; what lies there may have been changed between two
    of them, and their figures must not stand in one table.

    :param states: one per cell of the sweep.
    """
    trained: dict[tuple[str, ...], Counter[str]] = {}
    for cell, state in zip(sweep.cells, states, strict=True):
        if state.data:
            trained.setdefault(data_source(sweep, cell), Counter())[state.data] += 1
    found = []
    for cell, state in zip(sweep.cells, states, strict=True):
        if state.data:
            counts = trained[data_source(sweep, cell)]
            most, count = counts.most_common(1)[0]
            if state.data != most:
                cause = (
                    f"it was trained on other data (SHA-256 {state.data[:8]}…) than {count} other "
                    f"runs of {sweep.id} ({most[:8]}…)"
                )
                state = CellState("unreadable", cause=cause, data=state.data)
        found.append(state)
    return found


def data_source(sweep: Sweep, cell: Cell) -> tuple[str, ...]:
    """Where the data of a cell come from; with the same, cells should have the same data."""
    section = sweep.configs.get(cell.label, {}).get("data")
    found = section if isinstance(section, Mapping) else {}
    return tuple(str(found.get(key)) for key in ("name", "root", "image_size"))


def read_cell(root: Path, cell: Cell, expected: Mapping[str, Any] | None = None) -> CellState:
    """How the run of a cell is now.

    A store that can not be read is a state too, ``unreadable``: one must not hide the others. So
    is a run that was trained with other settings since, for example for more epochs.

    :param root: folder of the runs.
    :param expected: see :func:`expected_brief`; None: whatever the settings are.
    """
    if cell.run is None or not os.path.lexists(root / cell.run):
        return WAITING
    folder = root / cell.run
    try:
        require_own_folder(folder)
        with StoreReader(folder / "run.db") as reader:
            state = _read(reader, expected or {})
            if state.status == "running" and not is_locked(folder / "lock"):
                # it may have ended between our two looks; if so, its last word is stored by now
                state = _read(reader, expected or {})
                if state.status == "running":
                    return replace(state, status="interrupted")
            if state.status == "waiting" and is_locked(folder / "lock"):
                state = replace(state, status="running")  # it gets its data ready
            if state.status in ("running", "paused"):
                state = replace(state, short_of_room=Run(folder).is_waiting())
    except UNREADABLE as error:
        return CellState("unreadable", cause=str(error))
    return state


def expected_brief(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """What the store of a cell's run says of its settings, if it is that of the sweep."""
    found: dict[str, Any] = {
        "method": cell.method,
        "tau": cell.tau,
        "tau_theta": cell.tau_theta,
        "seed": cell.seed,
    }
    document = sweep.configs.get(cell.label, {})
    for key in ("epochs", "max_seconds", "batch_size"):
        if key in document:
            found[key] = document[key]
    if cell.method in FULL_BATCH:
        found["batch_size"] = None
    for section, key in (("model", "kind"), ("data", "name")):
        part = document.get(section)
        if isinstance(part, Mapping) and key in part:
            found[section] = part[key]
    return found


def _read(reader: StoreReader, expected: Mapping[str, Any]) -> CellState:
    state = reader.state()
    brief = state.get("config") or {}
    changed = [
        f"{key} {brief[key]} instead of {value}"
        for key, value in expected.items()
        if key in brief and brief[key] != value
    ]
    if changed:
        return CellState("unreadable", cause=f"it was changed: {', '.join(changed)}")
    metrics = state.get("metrics", {})
    status = _STORED.get(state.get("status", "created"), "unreadable")
    loss = _float(metrics.get("train_loss"))
    if status == "finished" and loss is not None and not math.isfinite(loss):
        status = "diverged"  # in its last steps, where nobody looked at it any more
    steps, losses = reader.series("train_loss")
    bad_step, cause = None, str(state.get("reason") or "")
    if status == "diverged":
        # a run that was rewound past a divergence has none stored any more
        for event in reader.events():
            if event.kind == "Diverged":
                bad_step, cause = event.step, str(event.payload.get("cause", cause))[:1000]
                break
    return CellState(
        status=status,
        train_loss=loss,
        val_accuracy=_float(metrics.get("val_accuracy")),
        val_loss=_float(metrics.get("val_loss")),
        test_loss=_float(metrics.get("test_loss")),
        test_accuracy=_float(metrics.get("test_accuracy")),
        seconds=_float(metrics.get("time/train")),
        epoch=_float(state.get("epoch")) or 0.0,
        initial_loss=float(losses[0]) if len(steps) and steps[0] == 0 else None,
        first_bad_step=bad_step,
        cause=cause,
        side_by_side=int(state.get("side_by_side", 1)),
        data=str((state.get("environment") or {}).get("data_sha256", "")),
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
