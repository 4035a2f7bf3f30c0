"""Parquet and TensorBoard: read back with their own readers, every value compared."""

from __future__ import annotations

import errno
import gc
import math
import os
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from engine.errors import ConfigError, StorageError, StorageFullError
from engine.export import ClosedStore, ExportSource
from engine.export_parquet import export_parquet
from engine.export_tensorboard import export_tensorboard
from engine.store import StoreWriter

CREATED = 1.7e9
METRICS = {
    0: {"epoch": 0.0, "train_loss": 2.3, "=evil, key": 1.0},
    1: {"batch_loss": math.nan, "tau": 1e308, "time/wall": 0.25, "é/ü\n": -0.0},
    2: {"batch_loss": math.inf, "tau": 5e-324, "time/wall": 0.5},
    2**53: {"batch_loss": -math.inf, "tau": 1 / 3},
    2**53 + 1: {"time/wall": math.nan, "tau": 1e-7},
}
Stores = Callable[..., ExportSource]
BOTH = pytest.mark.parametrize("kind", ["parquet", "tensorboard"])


@pytest.fixture
def store(tmp_path: Path) -> Stores:
    (tmp_path / "stores").mkdir()

    def make(run: str, metrics: Any = METRICS, name: str | None = None) -> ExportSource:
        path = tmp_path / "stores" / f"{run}.db"
        with StoreWriter.create(path, clock=lambda: CREATED) as writer:
            for step, values in metrics.items():
                writer.append_metrics(step, values)
        return ExportSource(run, ClosedStore(path), name)

    return make


@pytest.fixture
def pq() -> Any:
    return pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def tb() -> Any:
    return pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def export(kind: str, sources: list[ExportSource], out: Path) -> int:
    pytest.importorskip("pyarrow" if kind == "parquet" else kind)
    return (export_parquet if kind == "parquet" else export_tensorboard)(sources, out)


def bits(value: float | None) -> bytes | None:
    if value is None:
        return None
    return b"nan" if math.isnan(value) else struct.pack("d", value)


def logged(source: ExportSource) -> list[tuple[int, str, bytes | None]]:
    return [(step, key, bits(value)) for step, key, value in source.reader.rows()]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """The operating system refuses to let a file grow further; readers of SQLite need 32 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_parquet_holds_every_value(store: Stores, tmp_path: Path, pq: Any) -> None:
    sources = [store("one"), store("two", {7: {"a": 1.5}}, "=name\ud800"), store("three", {})]
    out = tmp_path / "link"
    out.symlink_to(tmp_path / "out.parquet")
    assert export_parquet(sources, out) == len(logged(sources[0])) + 1
    assert out.is_symlink()
    table = pq.read_table(out)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("run", "dictionary<values=string, indices=int32, ordered=0>"),
        ("name", "dictionary<values=string, indices=int32, ordered=0>"),
        ("step", "int64"),
        ("key", "dictionary<values=string, indices=int32, ordered=0>"),
        ("value", "double"),
    ]
    assert table["value"].null_count == 0
    rows = table.to_pylist()
    found = [(row["step"], row["key"], bits(row["value"])) for row in rows]
    assert found == logged(sources[0]) + logged(sources[1])
    labels = [("one", None)] * (len(rows) - 1) + [("two", "=name\\ud800")]
    assert [(row["run"], row["name"]) for row in rows] == labels
    assert b"proxprop" in pq.read_metadata(out).metadata


def test_wide_parquet_holds_every_value(store: Stores, tmp_path: Path, pq: Any) -> None:
    sources = [store("one"), store("two", {7: {"a": math.nan}}, "base")]
    out = tmp_path / "out.parquet"
    assert export_parquet(sources, out, wide=True) == 6
    table = pq.read_table(out)
    keys = sorted({key for source in sources for _, key, _ in source.reader.rows()} - {"epoch"})
    keys.sort(key=lambda key: key.startswith("time/"))
    assert table.schema.names == ["run", "name", "step", "epoch", *keys]
    assert {str(table.schema.field(key).type) for key in keys} == {"double"}
    for source in sources:
        rows = [row for row in table.to_pylist() if row["run"] == source.run]
        assert {row["name"] for row in rows} == {source.name}
        found = {
            (row["step"], key): bits(row[key])
            for row in rows
            for key in ["epoch", *keys]
            if row[key] is not None
        }
        assert found == {(step, key): value for step, key, value in logged(source)}


def test_runs_without_metrics_make_a_parquet_file_without_rows(
    store: Stores, tmp_path: Path, pq: Any
) -> None:
    assert export_parquet([store("one", {})], out := tmp_path / "out.parquet") == 0
    assert pq.read_table(out).schema.names == ["run", "name", "step", "key", "value"]
    assert export_parquet([store("two", {})], out, wide=True) == 0
    assert pq.read_table(out).schema.names == ["run", "name", "step"]


def test_a_metric_called_like_a_column_is_refused(store: Stores, tmp_path: Path, pq: Any) -> None:
    source = store("one", {1: {"step": 3.0}})
    with pytest.raises(ConfigError, match="a metric is called 'step'"):
        export_parquet([source], tmp_path / "out.parquet", wide=True)
    assert export_parquet([source], tmp_path / "out.parquet") == 1


def test_many_rows_are_written_group_by_group(tmp_path: Path, pq: Any) -> None:
    steps, out = range(1, 40_001), tmp_path / "out.parquet"
    values = np.random.default_rng(0).normal(size=(2, len(steps)))
    path = tmp_path / "run.db"
    with StoreWriter.create(path) as writer:
        writer.append_block(tuple(steps), dict(zip("ab", values.tolist(), strict=True)))
    written_before_the_end = []

    class Watched(ClosedStore):
        def rows(self) -> Iterator[tuple[int, str, float]]:
            for number, row in enumerate(super().rows()):
                if number == 70_000:
                    drafts = [file for file in tmp_path.iterdir() if file != path]
                    written_before_the_end.append(sum(file.stat().st_size for file in drafts))
                yield row

    assert export_parquet([ExportSource("one", Watched(path))], out) == 80_000
    (size,) = written_before_the_end
    assert size > 65_536 * 8, "what is read is not all kept in memory first"
    file = pq.ParquetFile(out)
    groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert groups == [65_536, 80_000 - 65_536]
    table = file.read()
    assert np.array_equal(table["step"].to_numpy(), np.repeat(steps, 2))
    assert np.array_equal(table["value"].to_numpy(), values.T.ravel())
    assert table["key"].to_pylist() == ["a", "b"] * len(steps)
    assert export_parquet([ExportSource("one", ClosedStore(path))], out, wide=True) == len(steps)
    table = pq.read_table(out)
    assert np.array_equal(table["a"].to_numpy(), values[0])
    assert np.array_equal(table["b"].to_numpy(), values[1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_device_is_a_storage_error(store: Stores, pq: Any) -> None:
    with pytest.raises(StorageFullError, match="/dev/full"):
        export_parquet([store("one")], Path("/dev/full"))
    assert not Path("/dev/full").is_file()
    gc.collect()  # a writer that is left open would complain here


def test_tensorboard_holds_every_value(store: Stores, tmp_path: Path, tb: Any) -> None:
    sources = [store("one"), store("two", {3: {"a": 1 / 3}}, "base"), store("three", {})]
    out = tmp_path / "logs"
    assert export_tensorboard(sources, out) == len(logged(sources[0])) + 1
    assert sorted(path.name for path in out.iterdir()) == ["base-two", "one", "three"]
    times = {0: 0.0, 1: 0.25, 2: 0.5, 2**53: 0.5, 2**53 + 1: 0.5, 3: 0.0}
    for source, name in zip(sources, ["one", "base-two", "three"], strict=True):
        events = tb.EventAccumulator(str(out / name), size_guidance={tb.SCALARS: 0}).Reload()
        found = {
            (scalar.step, tag): (bits(scalar.value), scalar.wall_time)
            for tag in events.Tags()["scalars"]
            for scalar in events.Scalars(tag)
        }
        with np.errstate(over="ignore"):
            assert found == {
                (step, key): (bits(float(np.float32(value))), CREATED + times[step])
                for step, key, value in source.reader.rows()
            }


def test_names_become_safe_folders(store: Stores, tmp_path: Path, tb: Any) -> None:
    names = ["../../up", "/etc", "..", "a b\x00\x1b\n=c", "é" * 300, "\ud800", "", "."]
    sources = [store(f"r{n}", {1: {"a": n}}, name) for n, name in enumerate(names)]
    out = tmp_path / "logs"
    assert export_tensorboard(sources, out) == len(names)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["_.._up-r0", "_etc-r1", "r2", "a_b_c-r3", "é" * 64 + "-r4", "_-r5", "r6", "r7"]
    )
    assert len(list(out.glob("*/*tfevents*"))) == len(names)


def test_names_that_clash_give_way_to_ids(store: Stores, tmp_path: Path, tb: Any) -> None:
    sources = [store("c", {1: {"a": 1}}, "A-b"), store("b-c", {1: {"a": 2}}, "a")]
    export_tensorboard(sources, tmp_path / "logs")
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["b-c", "c"]


def test_event_files_are_never_joined_by_others(store: Stores, tmp_path: Path, tb: Any) -> None:
    out = tmp_path / "logs"
    first, second = store("one"), store("two")
    export_tensorboard([second], out)
    before = listing(out)
    with pytest.raises(ConfigError, match="two holds event files already"):
        export_tensorboard([first, second], out)
    assert listing(out) == before
    (out / "one").mkdir()
    (out / "one" / "notes.txt").write_text("mine")
    export_tensorboard([first], out)
    assert len(listing(out)) == len(before) + 3
    with pytest.raises(ConfigError, match="expected a folder"):
        export_tensorboard([first], out / "one" / "notes.txt")
    assert (out / "one" / "notes.txt").read_text() == "mine"


@BOTH
@pytest.mark.parametrize("fault", ["store", "write", "sync", "rename"])
@pytest.mark.parametrize("old", [True, False])
def test_what_fails_leaves_everything_as_it_was(
    store: Stores,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    fault: str,
    old: bool,
) -> None:
    (place := tmp_path / "place").mkdir()
    out = place / "out"
    if old and kind == "parquet":
        out.write_text("old")
    elif old:
        (out / "one").mkdir(parents=True)
        (out / "one" / "notes.txt").write_text("old")
    before = listing(place)
    # beyond what readers of SQLite need, where files can not grow
    count = {"parquet": 16_000, "tensorboard": 2_000}[kind] if fault == "write" else 10
    second_store = tmp_path / "second.db"
    with StoreWriter.create(second_store, clock=lambda: CREATED) as writer:
        steps = tuple(range(1, count + 1))
        writer.append_block(steps, {"a": [step**0.5 for step in steps]})
    sources = [store("one", {1: {"a": 1.0}}), ExportSource("two", ClosedStore(second_store))]
    error: type[StorageError] = StorageFullError

    rename, calls = Path.rename, []

    def second(draft: Path, target: Path) -> Path:
        calls.append(target)
        return rename(draft, target) if len(calls) == 1 else full()

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if fault == "store":
            sources.append(ExportSource("gone", ClosedStore(tmp_path / "gone.db")))
            error = StorageError
        elif fault == "sync":
            patch.setattr(os, "fsync", full)
        elif fault == "rename":
            patch.setattr(Path, "replace", full)
            patch.setattr(Path, "rename", second)
        if fault == "write":
            export(kind, sources[:1], tmp_path / "warm")  # loads modules, which may write files
            with small_files(65_536), pytest.raises(StorageError, match="too large"):
                export(kind, sources, out)
        else:
            with pytest.raises(error):
                export(kind, sources, out)
    gc.collect()
    assert listing(place) == before
    if old and kind == "parquet":
        assert out.read_text() == "old"
    assert export(kind, sources[:2], out) == count + 1


@BOTH
def test_a_missing_place_is_a_storage_error(store: Stores, tmp_path: Path, kind: str) -> None:
    with pytest.raises(StorageError, match="missing"):
        export(kind, [store("one")], tmp_path / "missing" / "out")
