"""Whether this machine is fit: Python, torch, folders, locks and stores, each with a remedy.

Everything is looked at, nothing is changed but files of our own that are removed again.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.atomic_files import sync_folder
from engine.errors import ProxPropError
from engine.filesystems import filesystem, require_local
from engine.locks import RunLock, is_locked
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import CheckpointRow, StoreReader
from engine.summary import disagreement

State = Literal["ok", "note", "wrong"]
"""Fit; fit, but worth knowing; not fit."""

_LEAST_PYTHON = (3, 11)
_LEAST_FREE = 2 << 30
_EXTRAS = {
    "parquet": "pyarrow",
    "tensorboard": "tensorboard",
    "cluster": "ray",
    "baselines": "pytorch_optimizer curvlinops",
}
_LOADED = ("parquet", "tensorboard")
"""Extras that load quickly; others take seconds, so it is only seen that they are there."""
_SHOWN = 5
_DENIED = os.strerror(errno.EACCES)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look has found.

    :ivar fix: what to do; empty where nothing is to be done.
    """

    name: str
    state: State
    text: str
    fix: str = ""


def examine(runs_root: Path, data_dir: Path) -> Iterator[Finding]:
    """Look at everything, from what all needs to what is nice to have.

    :param runs_root: folder of the runs; may not be there yet.
    :param data_dir: where data sets are kept; may not be there yet.
    """
    yield _python()
    yield from _guarded("torch", _torch)
    yield from _guarded("torchvision", _torchvision)
    for extra, module in _EXTRAS.items():
        yield _extra(extra, module)
    yield Finding("SQLite", "ok", sqlite3.sqlite_version)
    for name, folder, option in (
        ("runs folder", runs_root, "--dir or PROXPROP_DIR"),
        ("data folder", data_dir, "--data-dir or PROXPROP_DATA_DIR"),
    ):
        yield _folder(name, folder, option)
    yield from _guarded("stores", lambda: _stores(Runs(runs_root)))


def _guarded(name: str, look: Callable[[], Finding]) -> Iterator[Finding]:
    """A look that fails is a finding too, whatever it fails with."""
    try:
        yield look()
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything
        line = " ".join(str(error).split())[:200]
        fix = f"install the program anew; if that does not help, report this about {name}"
        yield Finding(name, "wrong", f"{type(error).__name__}: {line}", fix)


def _python() -> Finding:
    text = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    if sys.version_info < _LEAST_PYTHON:
        return Finding("Python", "wrong", text, "install Python 3.11 or newer")
    return Finding("Python", "ok", text)


def _torch() -> Finding:
    import torch

    devices = [
        kind
        for kind, there in (
            ("cuda", torch.cuda.is_available()),
            ("mps", torch.backends.mps.is_available()),
            ("cpu", True),
        )
        if there
    ]
    threads = torch.get_num_threads()
    text = f"{torch.__version__}, {' and '.join(devices)}, {threads} CPU threads"
    product = torch.ones(8, 8) @ torch.ones(8, 8)
    if float(product.sum()) != 512.0:
        return Finding("torch", "wrong", f"{text}; a product of ones is wrong", "reinstall torch")
    return Finding("torch", "ok", text)


def _torchvision() -> Finding:
    from engine.data.torchvision_import import import_torchvision

    return Finding("torchvision", "ok", str(import_torchvision().__version__))


def _extra(extra: str, modules: str) -> Finding:
    names = importlib.metadata.packages_distributions()
    versions = []
    try:
        for module in modules.split():
            if extra in _LOADED:
                importlib.import_module(module)
            elif importlib.util.find_spec(module) is None:
                raise ImportError(module)
            versions.append(f"{module} {importlib.metadata.version(names[module][0])}")
    except Exception:  # noqa: BLE001 - missing or broken: the remedy is the same
        fix = f"pip install 'proxprop[{extra}]' to use it"
        return Finding(extra, "note", "not installed", fix)
    return Finding(extra, "ok", ", ".join(versions))


def _folder(name: str, folder: Path, option: str) -> Finding:
    """Writable, on a local disk, with locks that hold, with room."""
    base = folder
    while not base.exists() and base != base.parent:
        base = base.parent
    other = f"choose another one with {option}"
    try:
        require_local(folder)
    except ProxPropError as error:
        return Finding(name, "wrong", str(error), other)
    try:
        with tempfile.TemporaryDirectory(prefix=".proxprop-look-", dir=base) as made:
            sync_folder(Path(made))
            if not _locks_hold(Path(made) / "lock"):
                return Finding(name, "wrong", f"{folder}: locks do not hold there", other)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return Finding(name, "wrong", f"{folder}: can not be written ({reason})", other)
    free = shutil.disk_usage(base).free
    kind = filesystem(folder)
    new = "" if folder.exists() else ", made when first used"
    text = f"{folder} ({kind or 'local'}, {free / 2**30:.1f} GiB free{new})"
    if free < _LEAST_FREE:
        return Finding(name, "note", text, "free some space: training waits where the disk is full")
    return Finding(name, "ok", text)


def _locks_hold(path: Path) -> bool:
    with RunLock(path):
        held = is_locked(path)
    return held and not is_locked(path)


def _stores(runs: Runs) -> Finding:
    """Every database whole and its own run's, every newest checkpoint the one that was written."""
    if runs.root.exists() and not runs.root.is_dir():
        text = f"{runs.root}: expected a folder of runs, found a file"
        return Finding("stores", "wrong", text, "choose another one with --dir or PROXPROP_DIR")
    found = runs.all()
    bad = {run.id: trouble for run in found if (trouble := _trouble(run))}
    if not bad:
        return Finding("stores", "ok", f"{len(found):,} runs, all whole")
    named = [f"{id}: {trouble}" for id, trouble in list(bad.items())[:_SHOWN]]
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    denied = [trouble for trouble in bad.values() if _DENIED in trouble]
    fixes = ["make those files readable that are denied to you"] if denied else []
    if len(denied) < len(bad):
        fixes.append(
            "'proxprop runs delete' removes a run; a damaged checkpoint is passed over by 'resume'"
        )
    text = f"{len(bad)} of {len(found):,} runs: {'; '.join(named)}{more}"
    return Finding("stores", "wrong", text, "; ".join(fixes))


def _read_checkpoint(run: Run, row: CheckpointRow) -> None:
    try:
        from engine.checkpoint import Hashes, read
    except ImportError:
        return  # without torch, which is told of elsewhere
    read(run.checkpoints, row.step, Hashes(row.tensors_sha256, row.json_sha256))


def _trouble(run: Run) -> str:
    """What is wrong with a run; empty where nothing is."""
    try:
        config = run.config()
        with StoreReader(run.database) as reader:
            state = reader.state()
            rows = reader.checkpoints()
            reader.check()
        if rows and not run.is_live():  # a trainer may remove it while we look
            _read_checkpoint(run, rows[0])
        return disagreement(config, state)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one hides no other
        return " ".join(str(error).split())[:200] or type(error).__name__
