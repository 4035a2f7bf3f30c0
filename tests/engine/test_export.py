"""Exports: complete, exact, harmless in a spreadsheet, whole or not there."""

from __future__ import annotations

import csv
import io
import math
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import StorageError
from engine.export import ExportSource, export_csv
from engine.store import StoreWriter
from engine.store_reader import StoreReader

Metrics = dict[int, dict[str, float]]

KEYS = st.sampled_from(["epoch", "batch_loss", "time/train", "=key", 'quo"te,d\nline', "é"])
METRICS = st.dictionaries(
    st.integers(0, 2**53), st.dictionaries(KEYS, st.floats(), min_size=1), max_size=20
)


class Stores:
    """Makes stores and keeps them open."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def __call__(self, run: str, metrics: Metrics, name: str | None = None) -> ExportSource:
        path = self._folder / f"{len(list(self._folder.iterdir()))}.db"
        with StoreWriter.create(path) as writer:
            for step, values in metrics.items():
                writer.append_metrics(step, values)
        return ExportSource(run, self._stack.enter_context(StoreReader(path)), name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Stores]:
    folder = tmp_path / "stores"
    folder.mkdir()
    with ExitStack() as stack:
        yield Stores(folder, stack)


def text_of(*sources: ExportSource, wide: bool = False) -> str:
    stream = io.StringIO()
    export_csv(sources, stream, wide=wide)
    return stream.getvalue()


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("d", value)


def plain(text: str) -> str:
    return text.removeprefix("'")


def test_long_form(store: Stores) -> None:
    source = store("ab12", {0: {"train_loss": 0.1}, 1: {"tau": 1e-7, "batch_loss": 1 / 3}})
    assert text_of(source) == (
        "run,step,key,value\n"
        "ab12,0,train_loss,0.1\n"
        "ab12,1,batch_loss,0.3333333333333333\n"
        "ab12,1,tau,1e-07\n"
    )


def test_wide_form(store: Stores) -> None:
    source = store("ab12", {0: {"epoch": 0, "time/train": 0.0}, 1: {"b": 2.5, "a": math.nan}})
    assert text_of(source, wide=True) == (
        "run,step,epoch,a,b,time/train\nab12,0,0.0,,,0.0\nab12,1,,nan,2.5,\n"
    )


def test_several_runs_share_a_header(store: Stores) -> None:
    sources = store("one", {1: {"a": 1}}, "base, line"), store("two", {1: {"b": 2}})
    assert text_of(*sources) == 'run,name,step,key,value\none,"base, line",1,a,1.0\ntwo,,1,b,2.0\n'
    assert text_of(*sources, wide=True) == (
        'run,name,step,a,b\none,"base, line",1,1.0,\ntwo,,1,,2.0\n'
    )


def test_a_run_without_metrics_has_no_rows(store: Stores) -> None:
    assert text_of(store("ab12", {})) == "run,step,key,value\n"
    assert text_of(store("ab12", {}), wide=True) == "run,step\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_looks_like_a_formula_is_quoted(store: Stores, start: str) -> None:
    bad = f"{start}1+1{start}"
    source = store(bad, {1: {bad: -1.0}}, bad)
    (row,) = csv.DictReader(io.StringIO(text_of(source), newline=""))
    assert row == {
        "run": f"'{bad}",
        "name": f"'{bad}",
        "step": "1",
        "key": f"'{bad}",
        "value": "-1.0",
    }
    header, _ = csv.reader(io.StringIO(text_of(source, wide=True), newline=""))
    assert header == ["run", "name", "step", f"'{bad}"]


def test_numbers_stay_numbers(store: Stores) -> None:
    source = store("x", {1: {"a": -math.inf, "b": -0.0, "c": -1e300, "d": math.inf, "e": math.nan}})
    values = [row["value"] for row in csv.DictReader(io.StringIO(text_of(source)))]
    assert values == ["-inf", "-0.0", "-1e+300", "inf", "nan"]


@settings(max_examples=30, deadline=None)
@given(METRICS, METRICS)
def test_exports_are_complete_and_exact(first: Metrics, second: Metrics) -> None:
    expected = {
        (run, step, key): bits(value)
        for run, metrics in (("one", first), ("two", second))
        for step, values in metrics.items()
        for key, value in values.items()
    }
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = Stores(Path(folder), stack)
        sources = store("one", first), store("two", second)
        long, wide = io.StringIO(newline=""), io.StringIO(newline="")
        rows = export_csv(sources, long)
        steps = export_csv(sources, wide, wide=True)
        assert rows == sum(source.reader.row_count() for source in sources) == len(expected)
        assert steps == len(first) + len(second)
    long.seek(0)
    found = [
        ((row["run"], int(row["step"]), plain(row["key"])), bits(float(row["value"])))
        for row in csv.DictReader(long)
    ]
    assert len(found) == len(expected)
    assert dict(found) == expected
    wide.seek(0)
    assert {
        (row["run"], int(row["step"]), plain(key)): bits(float(value))
        for row in csv.DictReader(wide)
        for key, value in row.items()
        if key not in ("run", "step") and value
    } == expected


def test_a_file_is_replaced_when_all_is_written(store: Stores, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    source = store("ab12", {1: {"a": 1}})
    assert export_csv([source], out) == 1
    assert out.read_text() == text_of(source)
    broken = store("cd34", {1: {"a": 1}})
    broken.reader.close()
    with pytest.raises(StorageError):
        export_csv([source, broken], out)
    assert out.read_text() == text_of(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "stores"]


def test_a_link_is_followed_and_kept(store: Stores, tmp_path: Path) -> None:
    link, target = tmp_path / "link.csv", tmp_path / "target.csv"
    link.symlink_to(target)
    export_csv([store("ab12", {1: {"a": 1}})], link)
    assert link.is_symlink()
    assert target.read_text().startswith("run,step,key,value\n")


def test_a_pipe_is_written_to_not_replaced(store: Stores, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    thread = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    thread.start()
    export_csv([store("ab12", {1: {"a": 1}})], pipe)
    thread.join(timeout=10)
    assert received == ["run,step,key,value\nab12,1,a,1.0\n"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("place", ["missing/out.csv", "stores"])
def test_a_place_that_can_not_be_written_is_a_storage_error(
    store: Stores, tmp_path: Path, place: str
) -> None:
    with pytest.raises(StorageError, match=place):
        export_csv([store("ab12", {1: {"a": 1}})], tmp_path / place)
