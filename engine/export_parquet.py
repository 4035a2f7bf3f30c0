"""Metrics of runs as Parquet, complete and exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.export import ExportSource, encodable, load_extra, wide_keys, wide_rows, writing

_CELLS = 5 * 65_536
"""Of a row group, so that 65,536 rows of the long form are in memory at a time."""
_LABELS = ("run", "name", "step")


def export_parquet(sources: Sequence[ExportSource], out: Path, *, wide: bool = False) -> int:
    """Write the metrics of runs, one run after the other, into one file.

    The columns are ``run``, ``name`` (null where a run has none), ``step``, and then ``key`` and
    ``value``; the wide form has a column per key instead, null where there is no value. NaN and
    infinities are values, never null.

    :param out: a file that is replaced when all is written.
    :param wide: one row per step instead of one per step and key.
    :returns: rows written.
    :raises ConfigError: pyarrow is not installed, or a metric of the wide form is called like a
        column that is there already.
    :raises StorageError: a store can not be read or the file can not be written.
    """
    pa = load_extra("parquet", "pyarrow")
    parquet = load_extra("parquet", "pyarrow.parquet")
    keys = wide_keys(sources) if wide else []
    for key in keys:
        if key in _LABELS:
            raise ConfigError(f"--wide: a metric is called {key!r}; leave the option out")
    schema = _schema(pa, keys, wide)
    rows = _wide(sources, keys) if wide else _long(sources)
    size = max(1, _CELLS // len(schema))
    count = 0
    with writing(out) as stream:
        writer = parquet.ParquetWriter(stream.buffer, schema)
        try:
            while group := list(islice(rows, size)):
                columns = [
                    _array(pa, column, field.type)
                    for column, field in zip(zip(*group, strict=True), schema, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                count += len(group)
            writer.close()
        finally:
            # its destructor would write to a file that is closed by then
            writer.is_open = False
    return count


def _schema(pa: Any, keys: Sequence[str], wide: bool) -> Any:
    text = pa.dictionary(pa.int32(), pa.string())
    fields = [("run", text), ("name", text), ("step", pa.int64())]
    if wide:
        fields += [(key, pa.float64()) for key in keys]
    else:
        fields += [("key", text), ("value", pa.float64())]
    try:
        metadata = {"proxprop": version("proxprop")}
    except PackageNotFoundError:
        metadata = {"proxprop": "unknown"}
    return pa.schema(fields, metadata=metadata)


def _array(pa: Any, values: Sequence[Any], kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, kind)


def _long(sources: Sequence[ExportSource]) -> Iterator[tuple[Any, ...]]:
    for source in sources:
        label = _label(source)
        for step, key, value in source.reader.rows():
            yield *label, step, key, value


def _wide(sources: Sequence[ExportSource], keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for source in sources:
        label = _label(source)
        for step, values in wide_rows(source.reader, keys):
            yield *label, step, *values


def _label(source: ExportSource) -> tuple[str, str | None]:
    return source.run, None if source.name is None else encodable(source.name)
