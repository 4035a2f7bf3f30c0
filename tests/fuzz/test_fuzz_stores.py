"""One run folder that is broken in any way never hides the others, and never ends a command in a
traceback or a wait without end."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.cells import read_cells
from engine.run import Run
from engine.runs import Runs
from engine.sweeps import load_sweep
from tests.fuzz.common import HEALTHY, SICK, SWEEP, assert_refused
from tests.fuzz.junk import JSON_JUNK, JUNK, forms, other
from tests.reliability.report import tries

pytestmark = pytest.mark.timeout(60)  # what waits for a pipe waits for ever

TABLES = ("keys", "metric_values", "solves", "residuals", "events", "checkpoints", "state")
TABLES += ("reconstructions",)
STATE_KEYS = ("status", "reason", "created", "updated", "step", "epoch", "side_by_side")
STATE_KEYS += ("metrics", "config", "environment")


def break_database(path: Path, rng: random.Random) -> None:
    """Change the schema or rows by SQL, as a stray program could; not all is possible."""
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
        suppress(sqlite3.Error),
    ):
        connection.execute("PRAGMA writable_schema = ON")
        for _ in range(rng.randint(1, 3)):
            table = rng.choice(TABLES)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            column = rng.choice(columns or ["gone"])
            with suppress(sqlite3.Error):
                match rng.randrange(7):
                    case 0:
                        connection.execute(f"DROP TABLE {table}")
                    case 1:
                        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
                    case 2:
                        connection.execute(f"ALTER TABLE {table} ADD COLUMN more TEXT")
                    case 3:
                        # without the NOT NULL and the types of the real one
                        connection.execute(f"CREATE TABLE other AS SELECT * FROM {table}")
                        connection.execute(f"DROP TABLE {table}")
                        connection.execute(f"ALTER TABLE other RENAME TO {table}")
                        value = rng.choice(JUNK)
                        connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
                    case 4:
                        version = rng.choice((0, 2, -1, 2**31 - 1))
                        connection.execute(f"PRAGMA user_version = {version}")
                    case _:
                        put_state(connection, rng)


def put_state(connection: sqlite3.Connection, rng: random.Random) -> None:
    value = rng.choice([json.dumps(rng.choice(JSON_JUNK)), *(v for v in JUNK if v is not None)])
    row = (rng.choice(STATE_KEYS), value)
    connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", row)


@tries(4, 250)
def test_schemas_and_rows(looked_at, root, rng):
    break_database(root / SICK / "run.db", rng)
    looked_at()


@tries(3, 100)
def test_states(looked_at, root, rng):
    """What lists and dashboards show comes from this table."""
    with closing(sqlite3.connect(root / SICK / "run.db")) as connection, connection:
        put_state(connection, rng)
    looked_at()


@tries(4, 250)
def test_bytes(looked_at, root, rng):
    """A file cut off anywhere, with bits that have flipped, or with a page of something else."""
    path = root / SICK / rng.choice(["run.db", "run.db", "run.db", "config.yaml", "desired.json"])
    content = bytearray(path.read_bytes() if path.exists() else b'{"desired": "paused"}')
    match rng.randrange(4):
        case 0:
            del content[rng.randrange(len(content)) :]
        case 1:
            for _ in range(rng.randint(1, 40)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 2:
            start = rng.randrange(len(content))
            length = min(4096, len(content) - start)
            content[start : start + length] = rng.randbytes(length)
        case 3:
            # the log of another database
            (root / SICK / "run.db-wal").write_bytes(rng.randbytes(rng.choice((1, 32, 9000))))
    path.write_bytes(content)
    looked_at()


FILES = ["run.db", "run.db-wal", "run.db-shm", "config.yaml", "desired.json", "lock", "checkpoints"]


@pytest.mark.parametrize("name", FILES)
@forms()
def test_files_that_are_something_else(looked_at, root, name, form):
    path = root / SICK / name
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    form(path)
    status = looked_at()
    if name == "run.db" and form is not other:
        assert status == "unreadable"


def test_folders_that_can_not_be_looked_into(looked_at, root, monkeypatch):
    """As the owner of everything, root has to be told so."""
    stat = os.stat

    def refuse(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if f"/{SICK}/" in os.fspath(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    # the message may differ; that there is one is what counts
    looked_at()


def test_what_can_be_done_with_the_unreadable(cli, root):
    """It is shown why it can not be read, and it can be deleted."""
    (root / SICK / "run.db").write_bytes(b"")
    listed = {run["id"]: run for run in cli("runs", "list", "--json").json["runs"]}
    assert "run.db" in listed[SICK]["reason"]
    assert_refused(cli("runs", "show", SICK), (6,))
    for command in ("pause", "stop"):
        assert_refused(cli(command, SICK), (6,))
    (cell, _) = read_cells(root, load_sweep(root, SWEEP))
    assert cell.status != "unreadable"
    assert cli("runs", "delete", "--yes", SICK).code == 0
    assert [run.id for run in Runs(root).all()] == [HEALTHY]
    assert Run(root / HEALTHY).config().name == "name of healthy"
