"""Metrics of runs as event files for TensorBoard."""

from __future__ import annotations

import math
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from engine.atomic_files import storage_errors, sync_folder
from engine.errors import ConfigError
from engine.export import ExportSource, Metrics, load_extra

_UNSAFE = re.compile(r"[^\w.-]+")
_MAX_NAME_BYTES = 128
"""A folder's name may have 255 bytes, of which the id takes up to 65."""
_EVENT_FILE = "tfevents"
"""What TensorBoard knows its files by."""


def export_tensorboard(sources: Sequence[ExportSource], out: Path) -> int:
    """Write a folder for TensorBoard, with a folder per run: its id, or ``NAME-ID``.

    Every metric is a scalar with the key as its tag. TensorBoard keeps float32: a value is rounded
    to the nearest, which is an infinity beyond 3.4e38. The time of a step is that of the run's
    creation plus the latest ``time/wall`` up to there.

    :param out: made where it is missing; other runs may be in it.
    :returns: values written.
    :raises ConfigError: TensorBoard is not installed, ``out`` is a file, or the folder of a run
        holds event files already; nothing was written.
    :raises StorageError: a store can not be read or the folder can not be written; it is what it
        was before.
    """
    protocol = _Protocol()
    folders = [out / name for name in _folder_names(sources)]
    count = 0
    with storage_errors(out), ExitStack() as undo:
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out}: expected a folder, found a file")
        for folder in folders:
            _require_no_events(folder)
        _make_folder(out, undo)
        drafts: list[Path] = []
        for source in sources:
            draft = out / f".{secrets.token_hex(8)}.tmp"
            with draft.open("xb") as stream:
                undo.callback(draft.unlink, missing_ok=True)
                count += protocol.write(source.reader, stream)
                stream.flush()
                os.fsync(stream.fileno())
            drafts.append(draft)
        for source, draft, folder in zip(sources, drafts, folders, strict=True):
            _make_folder(folder, undo)
            target = folder / f"events.out.{_EVENT_FILE}.{_created(source.reader):010.0f}.proxprop"
            draft.rename(target)
            undo.callback(target.unlink, missing_ok=True)
            sync_folder(folder)
        sync_folder(out)
        undo.pop_all()
    return count


class _Protocol:
    """TensorBoard's record writer and messages, without the thread of its event writer: what the
    disk refuses is to be known here, not on standard error."""

    def __init__(self) -> None:
        kind = "tensorboard"
        self._records = load_extra(kind, "tensorboard.summary.writer.record_writer").RecordWriter
        self._event = load_extra(kind, "tensorboard.compat.proto.event_pb2").Event
        self._summary = load_extra(kind, "tensorboard.compat.proto.summary_pb2").Summary

    def write(self, reader: Metrics, stream: BinaryIO) -> int:
        """Write the metrics of one run; gives the number of values."""
        records = self._records(stream)
        created, elapsed, count = _created(reader), 0.0, 0

        def put(**content: Any) -> None:
            event = self._event(wall_time=created + elapsed, **content)
            records.write(event.SerializeToString())

        put(file_version="brain.Event:2")
        for step, group in groupby(reader.rows(), key=itemgetter(0)):
            metrics = {key: value for _, key, value in group}
            wall = metrics.get("time/wall", math.nan)
            elapsed = wall if math.isfinite(wall) else elapsed
            values = [
                self._summary.Value(tag=key, simple_value=value) for key, value in metrics.items()
            ]
            put(step=step, summary=self._summary(value=values))
            count += len(values)
        return count


def _created(reader: Metrics) -> float:
    return float(reader.state().get("created") or 0.0)


def _folder_names(sources: Sequence[ExportSource]) -> list[str]:
    ids = [source.run for source in sources]
    names = [_folder_name(source) for source in sources]
    # "a" of run b-c and "a-b" of run c are one name; some disks know no upper case
    clash = len({name.casefold() for name in names}) < len(names)
    return ids if clash else names


def _folder_name(source: ExportSource) -> str:
    name = _UNSAFE.sub("_", source.name or "").lstrip(".")
    name = name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return f"{name}-{source.run}" if name else source.run


def _require_no_events(folder: Path) -> None:
    if folder.is_dir() and any(_EVENT_FILE in path.name for path in folder.iterdir()):
        raise ConfigError(
            f"{folder} holds event files already, and TensorBoard would draw both;"
            " give another folder with --output"
        )


def _make_folder(folder: Path, undo: ExitStack) -> None:
    if not folder.is_dir():
        folder.mkdir()
        undo.callback(_remove_folder, folder)


def _remove_folder(folder: Path) -> None:
    # somebody else may have put something there meanwhile
    with suppress(OSError):
        folder.rmdir()
