"""Runs that are trained once, and copied for each test that needs one."""

from __future__ import annotations

import functools
import io
import shutil
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from proxprop_cli.__main__ import run
from tests.cli.terminal import Answer
from tests.engine.small import cache_dir

_folders: list[tempfile.TemporaryDirectory[str]] = []


def train_copy(root: Path, *arguments: str) -> Answer:
    """Put a run that ``proxprop train`` has trained in a folder for runs; return its answer."""
    # a test may have changed the number of threads, on which bits depend
    folder, answer = _train(arguments, torch.get_num_threads())
    shutil.copytree(folder, root, dirs_exist_ok=True)
    return answer


@functools.cache
def _train(arguments: tuple[str, ...], threads: int) -> tuple[Path, Answer]:
    folder = tempfile.TemporaryDirectory(prefix="proxprop-trained-")
    _folders.append(folder)
    runs = Path(folder.name) / "runs"
    where = ["--dir", str(runs), "--data-dir", str(cache_dir())]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["train", *arguments, *where])
    assert code == 0, err.getvalue()
    return runs, Answer(code, out.getvalue(), err.getvalue())
