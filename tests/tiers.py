"""The tiers of tests: fast (``make test``), ``system`` and ``timing`` (``make check``), ``slow``
(``make soak``).

A test that asks for a fixture that starts processes belongs to ``system`` by itself; others say so
with a marker. A fast test that starts a process all the same fails.
"""

from __future__ import annotations

import multiprocessing.util
import sys
from collections.abc import Iterator
from typing import Any

import pytest

PROCESS_FIXTURES = {"terminal", "cold_terminal", "window", "small_disk", "falling"}
_STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system")
_running: list[str] = []
"""The fast test that runs now, if one does."""
_started: list[str] = []
"""What it started, or would have started."""


def collect(items: list[pytest.Item]) -> None:
    """Mark what uses a fixture that starts processes."""
    for item in items:
        if PROCESS_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("system")


def is_fast(item: pytest.Item) -> bool:
    """Whether a test is one of ``make test``."""
    return not any(item.get_closest_marker(name) for name in ("system", "timing", "slow", "gpu"))


@pytest.hookimpl(wrapper=True)
def run_protocol(item: pytest.Item) -> Iterator[Any]:
    """Refuse processes while a fast test runs."""
    if is_fast(item):
        _running.append(item.name)
    try:
        result = yield
    finally:
        _running.clear()
        started, _started[:] = list(_started), []
    # the program may have caught the refusal, and the test may have expected a failure
    assert not started, started[0]
    return result


def _refuse_process(event: str, arguments: Any) -> None:
    if _running and event in _STARTS:
        _refuse(arguments)


def _refuse(arguments: Any) -> None:
    _started.append(f"{_running[0]} starts a process: mark it 'system' ({arguments!r})")
    raise AssertionError(_started[-1])


def _spawn(path: Any, arguments: Any, descriptors: Any) -> int:
    """Start a process of :mod:`multiprocessing`, which tells no audit hook."""
    if _running:
        _refuse(arguments)
    return _spawn_process(path, arguments, descriptors)


sys.addaudithook(_refuse_process)
_spawn_process = multiprocessing.util.spawnv_passfds
multiprocessing.util.spawnv_passfds = _spawn
