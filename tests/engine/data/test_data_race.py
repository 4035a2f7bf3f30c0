"""Processes that start together on a cold cache."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from engine.config import DataConfig
from engine.data import prepare


def _prepare(folder: str) -> str:
    return prepare(DataConfig(name="digits"), cache_dir=Path(folder)).digest


def test_all_get_the_data(tmp_path: Path) -> None:
    """Many rounds in warm processes, so that they really meet."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for turn in range(25):
            folder = tmp_path / str(turn)
            digests = pool.map(_prepare, [str(folder)] * 4, chunksize=1)
            assert len(set(digests)) == 1
            names = [path.name for path in (folder / "decoded").iterdir()]
            assert len(names) == 1
            assert not names[0].startswith(".")
