"""The texts of the list of runs."""

from __future__ import annotations

import time

from proxprop_cli.dashboard.catalog import CatalogEntry
from proxprop_cli.dashboard.widgets.run_header import STATUS
from proxprop_cli.dashboard.widgets.table import Column, Row
from proxprop_cli.output import number, score

COLUMNS = (
    Column(" ", left=True),
    Column("run", left=True),
    Column("name", rank=4, left=True),
    Column("preset", rank=3, left=True),
    Column("method", left=True),
    Column("tau", rank=1),
    Column("status", left=True),
    Column("done", rank=2),
    Column("loss", rank=1),
    Column("val", rank=2),
    Column("age", rank=5),
)
SWEEP_COLUMN = Column("sweep", rank=6, left=True)


def list_row(entry: CatalogEntry, selected: bool) -> Row:
    """A run or a sweep."""
    config, metrics = entry.config, entry.metrics
    glyph, color = STATUS.get(entry.word, ("○", "yellow"))
    tau, epochs = config.get("tau"), config.get("epochs")
    age = time.time() - entry.created
    done = f"{entry.epoch:.3g}/{epochs}" if epochs is not None else "-"
    cells = (
        "▶" if selected else " ",
        entry.id,
        str(config.get("name") or ""),
        str(config.get("preset") or config.get("data") or ""),
        str(config.get("method", "?")),
        "-" if tau is None else f"{tau:g}",
        f"{glyph} {entry.word}",
        "{}/{} runs".format(*entry.runs) if entry.runs is not None else done,
        # what was last evaluated says nothing of where it went then
        "✖" if entry.status == "diverged" else number(metrics.get("train_loss"), 3),
        "-" if entry.status == "diverged" else score(metrics, "val", 3),
        _age(age),
        entry.sweep,
    )
    return Row(entry.id, cells, ((0, "bold"), (6, color)))


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "now"
