"""Processes that start together on a cold cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from engine.config import DataConfig
from engine.data import prepare
from tests.engine.holding import start
from tests.reliability.report import many

# prepares the data in each folder that it reads the path of, and prints their hash
PREPARE = """
import sys
from pathlib import Path
from engine.config import DataConfig
from engine.data import prepare
for line in sys.stdin:
    print(prepare(DataConfig(name="digits"), cache_dir=Path(line.strip())).digest, flush=True)
"""
COUNT = 4


def assert_prepared_once(folder: Path, digests: list[str]) -> None:
    assert len(digests) == COUNT
    assert len(set(digests)) == 1
    (name,) = [path.name for path in (folder / "decoded").iterdir()]
    assert not name.startswith(".")


@pytest.mark.system
@many(5, 25)
def test_all_processes_get_the_data(tmp_path: Path, times: int) -> None:
    """Many rounds in the same processes, so that they really meet."""
    processes = [start(PREPARE) for _ in range(COUNT)]
    for turn in range(times):
        folder = tmp_path / str(turn)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in processes if process.stdout]
        assert_prepared_once(folder, answers)
    assert [process.communicate("")[1] for process in processes] == [""] * COUNT


def test_all_threads_get_the_data(tmp_path: Path) -> None:
    together = Barrier(COUNT)

    def digest(_: int) -> str:
        together.wait()
        return prepare(DataConfig(name="digits"), cache_dir=tmp_path).digest

    with ThreadPoolExecutor(COUNT) as pool:
        assert_prepared_once(tmp_path, list(pool.map(digest, range(COUNT))))
