"""The store: all of a commit or nothing, exact values, nothing twice."""

from __future__ import annotations

import math
import sqlite3
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import StorageError
from engine.events import SolverTrace
from engine.store import StoreWriter
from engine.store_reader import CheckpointRow, StoreReader


def a_trace(step: int, layer: str = "0", **changes: object) -> SolverTrace:
    fields: dict[str, object] = {
        "step": step,
        "layer": layer,
        "form": "dual",
        "solver": "cg3",
        "size": 500,
        "beta": 0.05,
        "products": 2.5e9,
        "iterations": 2,
        "stop_reason": "converged",
        "residuals": (1.0, 0.1, 1e-3),
        "true_residual": 1.1e-3,
        "descent_cosine": 0.7,
    }
    return SolverTrace(**{**fields, **changes})  # type: ignore[arg-type]


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("d", value)


def fill(writer: StoreWriter, steps: range) -> None:
    for step in steps:
        writer.append_metrics(step, {"loss": 1 / step, "tau": 1.0})
        writer.append_traces([a_trace(step, "0"), a_trace(step, "1")])
        writer.append_event(step, "fact", {"step": step})
        writer.add_checkpoint(
            step, tensors_sha256="ab", json_sha256="cd", reason="epoch", epoch=1, best=step == 2
        )


def test_a_new_store_is_private_durable_and_knows_its_age(
    writer: StoreWriter, reader: StoreReader
) -> None:
    assert writer.path.stat().st_mode & 0o777 == 0o600
    assert reader.state() == {"status": "created", "created": 100.0}
    assert writer._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(StorageError, match="File exists"):
        StoreWriter.create(writer.path)


def test_nothing_is_visible_before_the_commit(writer: StoreWriter, reader: StoreReader) -> None:
    before = reader.state()
    fill(writer, range(1, 3))
    writer.set_state({"step": 2})
    assert writer.pending == 31
    assert reader.state() == before
    assert (reader.row_count(), reader.traces(), reader.events(), reader.checkpoints()) == (
        0,
        [],
        [],
        [],
    )
    writer.commit()
    assert writer.pending == 0
    assert reader.state()["step"] == 2
    assert reader.state()["updated"] > reader.state()["created"]
    assert (reader.row_count(), len(reader.traces()), len(reader.events())) == (4, 4, 2)


def test_blocks_of_steps_are_read_as_columns(writer: StoreWriter, reader: StoreReader) -> None:
    values = {"loss": (3.0, 2.0, 1.0), "tau": np.array([1, 1, 1], dtype=np.float32)}
    writer.append_block((1, 2, 3), values)
    writer.append_metrics(0, {"epoch": 0, "time/train": 0.5})
    writer.commit()
    assert reader.keys() == ("epoch", "loss", "tau", "time/train")
    steps, losses = reader.series("loss")
    assert (steps.dtype, losses.dtype) == (np.int64, np.float64)
    assert (steps.tolist(), losses.tolist()) == ([1, 2, 3], [3.0, 2.0, 1.0])
    steps, losses = reader.series("loss", after_step=2)
    assert (steps.tolist(), losses.tolist()) == ([3], [1.0])
    assert [column.shape for column in reader.series("unknown")] == [(0,), (0,)]
    with pytest.raises(ValueError, match="shorter"):
        writer.append_block((1, 2), {"loss": (1.0,)})


def test_rows_come_in_the_order_of_step_and_key(writer: StoreWriter, reader: StoreReader) -> None:
    writer.append_metrics(2, {"b": 4, "a": 3})
    writer.append_metrics(1, {"c": 2, "a": 1})
    writer.commit()
    assert list(reader.rows()) == [(1, "a", 1.0), (1, "c", 2.0), (2, "a", 3.0), (2, "b", 4.0)]


def test_rows_are_of_one_moment_and_others_may_go_on(
    writer: StoreWriter, reader: StoreReader
) -> None:
    writer.append_block(range(1, 101), {"a": range(100), "b": range(100)})
    writer.commit()
    rows = reader.rows()
    first = next(rows)
    writer.append_block(range(1, 201), {"a": range(200), "c": range(200)})
    writer.commit()
    assert len([first, *rows]) == 200
    assert len(list(reader.rows())) == 500
    abandoned = reader.rows()
    next(abandoned)
    reader.close()
    abandoned.close()


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.tuples(st.integers(0, 2**62), st.text("ab/é", max_size=3)), st.floats()))
def test_every_float_is_read_back_to_the_bit(values: dict[tuple[int, str], float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with StoreWriter.create(Path(folder) / "run.db") as writer:
            for (step, key), value in values.items():
                writer.append_metrics(step, {key: value})
        with StoreReader(Path(folder) / "run.db") as reader:
            found = {(step, key): bits(value) for step, key, value in reader.rows()}
            columns = {
                (int(step), key): bits(float(value))
                for key in sorted(reader.keys())
                for step, value in zip(*reader.series(key), strict=True)
            }
    assert found == columns == {place: bits(value) for place, value in values.items()}


def test_other_programs_see_which_value_was_not_a_number(writer: StoreWriter) -> None:
    writer.append_metrics(1, {"a": 0.5, "b": math.nan, "c": math.inf, "d": -math.inf})
    writer.commit()
    with sqlite3.connect(writer.path) as connection:
        found = connection.execute("SELECT * FROM metrics ORDER BY step, key").fetchall()
    connection.close()
    assert found == [
        (1, "a", 0.5, None),
        (1, "b", None, "nan"),
        (1, "c", None, "inf"),
        (1, "d", None, "-inf"),
    ]


def test_traces_are_read_back_whole(writer: StoreWriter, reader: StoreReader) -> None:
    infinite = a_trace(2, "b", residuals=(1.0, math.inf, -math.inf), beta=1e-300)
    traces = [a_trace(1, "a"), a_trace(1, "b", residuals=(), form="primal"), infinite]
    writer.append_traces(reversed(traces))
    writer.commit()
    assert reader.traces() == traces
    assert reader.traces(layer="b") == traces[1:]
    assert reader.traces(layer="b", after_step=1) == [infinite]
    lost = math.nan
    writer.append_traces([a_trace(3, true_residual=lost, descent_cosine=lost, residuals=(1, lost))])
    writer.commit()
    (found,) = reader.traces(after_step=2)
    unknown = (found.true_residual, found.descent_cosine, found.residuals[1])
    assert all(math.isnan(value) for value in unknown)


def test_a_replay_stores_nothing_twice(writer: StoreWriter, reader: StoreReader) -> None:
    for residuals in ((1.0, 0.5, 0.1), (1.0, 0.5)):
        writer.append_block((1, 2), {"loss": (1.0, 2.0)})
        writer.append_traces([a_trace(1, residuals=residuals)])
        writer.add_checkpoint(
            2, tensors_sha256="a", json_sha256="b", reason="end", epoch=1, best=False
        )
        writer.commit()
    assert reader.row_count() == 2
    assert [trace.residuals for trace in reader.traces()] == [(1.0, 0.5)]
    assert len(reader.checkpoints()) == 1


def test_events_keep_their_order_and_numbers(writer: StoreWriter, reader: StoreReader) -> None:
    writer.append_event(1, "Warned", {"text": "\ud800é\x1b", "value": math.inf})
    writer.append_event(1, "Paused", {})
    writer.commit()
    warned, paused = reader.events()
    assert (warned.kind, warned.step) == ("Warned", 1)
    assert warned.payload == {"text": "\ud800é\x1b", "value": math.inf}
    assert warned.time < paused.time
    assert reader.events(after_id=warned.id) == [paused]
    with pytest.raises(TypeError):
        writer.append_event(1, "odd", {"value": object()})


def test_checkpoints_are_listed_newest_first(writer: StoreWriter, reader: StoreReader) -> None:
    fill(writer, range(1, 4))
    writer.remove_checkpoint(1)
    writer.commit()
    newest, best = reader.checkpoints()
    assert newest == CheckpointRow(3, "ab", "cd", "epoch", 1, False, newest.time)
    assert (best.step, best.best) == (2, True)


def test_rewinding_deletes_what_is_past_the_step(writer: StoreWriter, reader: StoreReader) -> None:
    fill(writer, range(1, 6))
    writer.commit()
    last = reader.events()[-1].id
    writer.append_metrics(6, {"loss": 6.0})
    writer.set_state({"step": 3})
    writer.rewind(3)
    assert reader.state()["step"] == 3
    assert reader.series("loss")[0].tolist() == [1, 2, 3]
    assert {trace.step for trace in reader.traces()} == {1, 2, 3}
    assert [event.step for event in reader.events()] == [1, 2, 3]
    assert [point.step for point in reader.checkpoints()] == [3, 2, 1]
    assert reader._connection.fetch("SELECT max(step) FROM residuals") == [(3,)]
    writer.rewind(0)
    assert (reader.row_count(), reader.keys(), list(reader.rows())) == (0, (), [])
    writer.close()
    with StoreWriter(writer.path) as again:
        again.append_event(4, "fact", {})
        again.append_metrics(4, {"new": 1.0, "loss": 2.0})
    # a reader that asks for what is new must not miss the replay
    assert [event.step for event in reader.events(after_id=last)] == [4]
    assert list(reader.rows()) == [(4, "loss", 2.0), (4, "new", 1.0)]


def test_a_rewind_that_fails_changes_nothing(writer: StoreWriter, reader: StoreReader) -> None:
    fill(writer, range(1, 6))
    writer.commit()
    writer._connection.execute(
        "CREATE TEMP TRIGGER fail BEFORE DELETE ON main.checkpoints"
        " BEGIN SELECT RAISE(ABORT, 'pulled the plug'); END"
    )
    with pytest.raises(StorageError, match="pulled the plug"):
        writer.rewind(2)
    assert (reader.row_count(), len(reader.traces()), len(reader.events())) == (10, 10, 5)
    writer._connection.execute("DROP TRIGGER fail")
    writer.commit()
    assert (reader.row_count(), len(reader.traces()), len(reader.events())) == (4, 4, 2)
