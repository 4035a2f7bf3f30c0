"""A store that somebody sent is data: whatever is in it, a question ends, and does nothing else."""

from __future__ import annotations

import _thread
import os
import shutil
import sqlite3
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from engine import store_connection, store_reader
from engine.errors import StorageError
from engine.events import Reconstructed
from engine.store import StoreWriter
from engine.store_connection import StoreConnection
from engine.store_copy import read_store, replace_store
from engine.store_format import database_errors
from engine.store_opening import mark_of, open_for_reading, open_for_writing
from engine.store_reader import StoreReader
from tests.engine.test_store import a_trace
from tests.reliability.report import BAD_INPUT, promise

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT {} FROM n"
STRANGE = {
    "a view for a table": f"DROP TABLE state; CREATE VIEW state AS {ENDLESS.format('x AS key, x')}",
    "another view": "CREATE VIEW more AS SELECT 1",
    "another view of that name": "DROP VIEW metrics; CREATE VIEW metrics AS SELECT * FROM state",
    "a trigger": "CREATE TRIGGER t AFTER DELETE ON events BEGIN DELETE FROM events; END",
    "a virtual table": "CREATE VIRTUAL TABLE v USING fts5(text)",
    "another table": "CREATE TABLE more (text)",
    "an index": "CREATE INDEX i ON events (kind)",
    "an index of a function": "CREATE INDEX i ON events (lower(kind))",
    "a missing table": "DROP TABLE solves",
    "a column": "ALTER TABLE events ADD COLUMN more TEXT",
    "a computed column": "ALTER TABLE events ADD COLUMN m TEXT AS (zeroblob(1000000000))",
    "a check": "DROP TABLE state; CREATE TABLE state (key TEXT PRIMARY KEY,"
    " value TEXT NOT NULL CHECK (length(zeroblob(1000000000)) > 0)) WITHOUT ROWID",
    "a default": "DROP TABLE checkpoints; CREATE TABLE checkpoints"
    " (step INTEGER PRIMARY KEY, reason TEXT DEFAULT (hex(randomblob(9))))",
}
REFUSED = promise(
    BAD_INPUT,
    "a store with other tables, views or triggers, a link or a pipe in the place of one",
    "unreadable with the reason, exit 6; other runs are listed, nothing is followed or run",
)
ENDS = promise(
    BAD_INPUT,
    "a store that has no end: rows in circles, texts of any size, slow questions",
    "one line after 10 s at most, exit 6; Ctrl-C ends the question at once",
)


@pytest.fixture
def whole(path: Path) -> Path:
    """A store with something in every table."""
    with StoreWriter.create(path) as writer:
        writer.append_block(range(3000), {"loss": range(3000), "tau": range(3000)})
        writer.append_traces([a_trace(step, layer) for step in (1, 2) for layer in "01"])
        writer.append_event(1, "fact", {"text": "x"})
        writer.add_checkpoint(
            1, tensors_sha256="a", json_sha256="b", reason="end", epoch=1, best=True
        )
        writer.add_reconstructions(Reconstructed(1, 1.0, "test", (3,), (1, 2, 2), b"1234", b"5678"))
        writer.set_state({"reason": "because", "metrics": {"train_loss": 0.5}})
    return path


def change(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def read_all(path: Path) -> None:
    """Ask everything there is to ask."""
    with suppress(StorageError), StoreReader(path) as reader:
        questions: list[Callable[[], object]] = [
            reader.state,
            reader.keys,
            reader.row_count,
            lambda: list(reader.rows()),
            lambda: reader.series("loss"),
            lambda: reader.buckets("loss", 16),
            lambda: reader.samples("loss", 16),
            lambda: reader.latest(["loss", "tau"], 5),
            reader.traces,
            reader.last_traces,
            reader.events,
            reader.checkpoints,
            reader.reconstructions,
            reader.check,
        ]
        for question in questions:
            with suppress(StorageError):
                question()


@REFUSED
@pytest.mark.parametrize("script", STRANGE.values(), ids=STRANGE)
def test_other_tables_are_refused_before_anything_is_asked(whole: Path, script: str) -> None:
    change(whole, script)
    before = whole.read_bytes()
    for opened in (StoreReader, StoreWriter, open_for_writing):
        with pytest.raises(StorageError, match="expected the tables of proxprop, found") as caught:
            opened(whole)
        assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="expected the tables"):
        read_store(whole)
    assert whole.read_bytes() == before


def test_other_tables_do_not_come_home(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(whole, tmp_path / "copy.db"))
    change(copy, STRANGE["a trigger"])
    before = whole.read_bytes()
    with pytest.raises(StorageError, match="found another trigger 't'"):
        replace_store(whole, copy)
    assert whole.read_bytes() == before


@REFUSED
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_followed(whole: Path, tmp_path: Path, suffix: str, kind: str):
    target = tmp_path / "diary"
    target.write_bytes(whole.read_bytes())
    place = whole.with_name(f"{whole.name}{suffix}")
    place.unlink(missing_ok=True)
    makers = {"link": lambda: place.symlink_to(target), "pipe": lambda: os.mkfifo(place)}
    makers.get(kind, place.mkdir)()
    before = target.read_bytes()
    for opened in (StoreReader, StoreWriter, open_for_writing):
        with pytest.raises(StorageError, match=f"expected a file of proxprop, found a {kind}"):
            opened(whole)
    assert target.read_bytes() == before


@REFUSED
def test_a_journal_that_names_a_file_to_remove_is_not_played_back(whole: Path) -> None:
    """SQLite removes the file that a rollback journal calls its super-journal."""
    whole.with_name("run.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    for opened in (StoreReader, open_for_writing):
        with pytest.raises(StorageError, match=r"run\.db-journal: expected at most 0 bytes"):
            opened(whole)


def test_a_file_too_large_to_be_ours_is_not_read(whole: Path) -> None:
    os.truncate(whole, 1 << 40)
    with pytest.raises(StorageError, match="expected at most 17,179,869,184 bytes"):
        StoreReader(whole)


JUNK = ["'text'", "x'00ff'", "1e308", "-9223372036854775808", "9e999", "printf('%.2000c', 'x')"]
JUNK += ["'[[[['", "'{}'", "NULL"]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize(
    "table", ["keys", "metric_values", "solves", "residuals", "events", "checkpoints", "state"]
)
def test_values_of_other_types_are_an_error_and_nothing_else(
    whole: Path, table: str, junk: str
) -> None:
    with closing(sqlite3.connect(whole, isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    for column in columns:
        copy = Path(shutil.copy(whole, whole.with_name("copy.db")))
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            with suppress(sqlite3.Error):
                connection.execute(
                    f"UPDATE {table} SET {column} = {junk} WHERE {columns[0]} ="
                    f" (SELECT max({columns[0]}) FROM {table})"
                )
        read_all(copy)


@ENDS
@pytest.mark.parametrize(
    ("statement", "question"),
    [
        ("INSERT INTO state VALUES ('more', printf('\"%.2000000c\"', 'x'))", "state"),
        ("UPDATE state SET value = printf('\"%.20000c\"', 'x') WHERE key = 'reason'", "state"),
        ("UPDATE events SET payload = printf('{\"t\": \"%.2000000c\"}', 'x')", "events"),
        ("UPDATE events SET kind = printf('%.2000c', 'x')", "events"),
        ("UPDATE events SET time = 9e99", "events"),
        (
            "UPDATE solves SET layer = printf('%.2000c', 'x') WHERE step = 1 AND layer = '0'",
            "traces",
        ),
        ("UPDATE keys SET name = printf('%.2000c', 'x') WHERE id = 1", "keys"),
        ("UPDATE checkpoints SET reason = printf('%.2000c', 'x')", "checkpoints"),
        ("UPDATE reconstructions SET samples = '[]', inputs = '', outputs = ''", "reconstructions"),
    ],
)
def test_texts_of_any_size_are_refused(whole: Path, statement: str, question: str) -> None:
    change(whole, statement)
    with StoreReader(whole) as reader, pytest.raises(StorageError) as caught:
        getattr(reader, question)()
    assert len(str(caught.value)) < 500


@ENDS
def test_tables_of_any_size_are_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(whole, "INSERT INTO events SELECT NULL, step, 0, 'fact', '{}' FROM metric_values")
    with StoreReader(whole) as reader:
        assert len(reader.events()) > 3000
        monkeypatch.setattr(store_reader, "_MAX_TEXT_BYTES", 100_000)
        with pytest.raises(StorageError, match="a table has more than 100,000 bytes"):
            reader.events()


def page_of(path: Path, table: str) -> tuple[int, int]:
    """Where the root of a table lies, and how long a page is."""
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (root,) = connection.execute(sql, (table,)).fetchone()
    return (root - 1) * size, size


@ENDS
@pytest.mark.parametrize("target", ["itself", "its first child"])
def test_rows_in_circles_come_to_an_end(whole: Path, target: str) -> None:
    """Every pointer of an inner page leads to one page: a tree of a few pages has endless rows."""
    place, size = page_of(whole, "metric_values")
    content = bytearray(whole.read_bytes())
    assert content[place] == 2, "an inner page of an index"
    (count,) = struct.unpack_from(">H", content, place + 3)
    cells = struct.unpack_from(f">{count}H", content, place + 12)
    page = place // size + 1
    if target != "itself":
        (page,) = struct.unpack_from(">I", content, place + cells[0])
    for pointer in (place + 8, *(place + cell for cell in cells[1:])):
        struct.pack_into(">I", content, pointer, page)
    whole.write_bytes(content)
    begin = time.monotonic()
    with StoreReader(whole) as reader:
        for question in (lambda: reader.series("loss"), lambda: list(reader.rows()), reader.check):
            with pytest.raises(StorageError):
                question()
    read_all(whole)
    assert time.monotonic() - begin < 30


@ENDS
def test_a_tree_of_few_pages_with_rows_without_number(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inner pages below inner pages, each with all of its pointers to the same one."""
    monkeypatch.setattr(store_connection, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(store_reader, "_CHECK_SECONDS", 0.2)
    place, size = page_of(whole, "metric_values")
    content = bytearray(whole.read_bytes())
    (count,) = struct.unpack_from(">H", content, place + 3)
    cells = struct.unpack_from(f">{count}H", content, place + 12)
    (*inner, leaf) = [struct.unpack_from(">I", content, place + cell)[0] for cell in cells[:9]]
    root = bytes(content[place : place + size])
    for page, child in zip([place // size + 1, *inner], [*inner, leaf], strict=True):
        begin = (page - 1) * size
        content[begin : begin + size] = root
        for pointer in (8, *cells):
            struct.pack_into(">I", content, begin + pointer, child)
    whole.write_bytes(content)
    with StoreReader(whole) as reader:
        questions: list[Callable[[], object]] = [
            lambda: reader.series("loss"),
            lambda: list(reader.rows()),
            reader.row_count,
            reader.check,
        ]
        for question in questions:
            with pytest.raises(StorageError):
                question()
        reader.buckets("loss", 16)  # it ends at another key


@ENDS
def test_a_question_without_end_is_ended(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_connection, "ANSWER_SECONDS", 0.05)
    with StoreReader(whole) as reader:
        with pytest.raises(StorageError, match=r"run\.db: no answer within 0\.05 s"):
            reader._connection.fetch(ENDLESS.format("max(x)"))
        assert reader.row_count() == 6000, "the next question has time of its own"


@ENDS
@pytest.mark.parametrize("opened", [open_for_reading, open_for_writing])
def test_an_interrupt_is_heard_during_a_question(
    whole: Path, opened: Callable[[Path], StoreConnection]
) -> None:
    with closing(opened(whole)) as connection:
        threading.Timer(0.05, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt), database_errors(whole):
            connection.execute(ENDLESS.format("max(x)"))


def test_a_mark_changes_with_commits_and_with_files(whole: Path, tmp_path: Path) -> None:
    old = time.time() - 1000
    kept = mark_of(whole)
    with StoreWriter(whole) as writer:
        for step in range(3):
            writer.append_metrics(5000 + step, {"loss": 1.0})
            writer.commit()
            assert mark_of(whole) != kept, "one of so lately is like no other"
            kept = mark_of(whole)
    assert kept is not None
    copy = Path(shutil.copy(whole, tmp_path / "copy.db"))
    for path in (whole, copy):
        os.utime(path, (old, old))
    copy.replace(whole)
    found = mark_of(whole)
    assert found is not None
    assert found.file != kept.file
    whole.unlink()
    assert mark_of(whole) is None


def test_a_settled_mark_stays(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    mark = mark_of(whole)
    read_all(whole)
    assert mark_of(whole) == mark, "to read is no change"


def test_long_paths_are_told_of(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 200) / ("b" * 200) / ("c" * 200)
    folder.mkdir(parents=True)
    (folder / "run.db").touch()
    with pytest.raises(StorageError, match="expected a path of at most 500 bytes"):
        StoreReader(folder / "run.db")
