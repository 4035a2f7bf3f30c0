"""What travels of a run between machines, as bytes: configuration, store and checkpoints.

A parcel is a line of JSON, which lists names and sizes, and then the contents. Names are those of
a run's files and no others, so that no path can lead anywhere else, and nothing in it is ever
executed, as a pickle would be. Locks, words of persons and logs stay where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from engine import checkpoint
from engine.atomic_files import PRIVATE_FILE, PRIVATE_FOLDER, replace_bytes, storage_errors
from engine.control import Desired
from engine.errors import StorageError
from engine.own_files import CHECKPOINTS, is_own_file, read_own
from engine.run import Run
from engine.store_copy import read_store
from engine.store_reader import StoreReader

_FORMAT = "proxprop-run-1"
_NAME = re.compile(r"config\.yaml|run\.db|checkpoints/[0-9]{9,18}\.(?:safetensors|json)", re.ASCII)
_MAX_HEADER = 1 << 20
_MAX_BYTES = 1 << 40

Files = Mapping[str, memoryview]
"""Contents by name, relative to the folder of the run."""


def pack(run: Run) -> bytes:
    """A run as it is now; nobody else may write to it meanwhile.

    Of its checkpoints those that its store knows of; a damaged one travels too, and is passed over
    where training goes on.

    :raises StorageError: it can not be read.
    """
    contents = {"run.db": read_store(run.database)}
    with storage_errors(run.path):
        contents["config.yaml"] = read_own(run.path / "config.yaml", _MAX_BYTES)
        with StoreReader(run.database) as reader:
            rows = reader.checkpoints()
        for row in rows:
            for path in checkpoint.paths(run.checkpoints, row.step):
                if is_own_file(path, CHECKPOINTS):
                    contents[f"{run.checkpoints.name}/{path.name}"] = read_own(path, _MAX_BYTES)
    sizes = [[name, len(content)] for name, content in contents.items()]
    header = json.dumps({"format": _FORMAT, "files": sizes}).encode() + b"\n"
    return b"".join((header, *contents.values()))


def unpack(parcel: bytes) -> Files:
    """What is in a parcel.

    :raises StorageError: it is none, or has names that are not those of a run's files.
    """
    end = parcel.find(b"\n", 0, _MAX_HEADER)
    try:
        header = json.loads(parcel[: max(end, 0)])
        if header["format"] != _FORMAT:
            raise StorageError(f"a run came as {header['format']!r}, expected {_FORMAT!r}")
        files: dict[str, memoryview] = {}
        place = end + 1
        for name, size in header["files"]:
            if not _NAME.fullmatch(name) or name in files or size < 0:
                raise StorageError(f"a run came with a file {name!r}, which no run has")
            files[name] = memoryview(parcel)[place : place + size]
            place += size
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise StorageError(f"what came is no run: {type(error).__name__}: {error}") from None
    if place != len(parcel):
        raise StorageError("a run came in part")
    return files


def make_run(folder: Path, parcel: bytes) -> Run:
    """A run in a folder that is made for it, as it was packed.

    :raises StorageError: the parcel is damaged, or there is something already.
    """
    files = unpack(parcel)
    run = Run(folder)
    with storage_errors(folder):
        for made in (run.path, run.checkpoints):
            made.mkdir(mode=PRIVATE_FOLDER)
        for name, content in files.items():
            replace_bytes(folder / name, bytes(content))
        # without one, a run that was being trained might still be
        run.lock_file.touch(mode=PRIVATE_FILE)
    run.set_desired(Desired.RUNNING)
    return run
