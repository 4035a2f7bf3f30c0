"""The tiers of tests: fast (``make test``), ``system`` and ``timing`` (``make check``), ``slow``
(``make soak``).

A test that asks for a fixture that starts processes belongs to ``system`` by itself; others say so
with a marker. A fast test that starts a process all the same fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

PROCESS_FIXTURES = {"terminal", "cold_terminal", "window", "small_disk"}
_STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "pty.spawn")
_running: list[str] = []
"""The fast test that runs now, if one does."""


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
        return (yield)
    finally:
        _running.clear()


def _refuse_process(event: str, arguments: Any) -> None:
    if _running and event in _STARTS:
        raise AssertionError(f"{_running[0]} starts a process: mark it 'system' ({arguments!r})")


sys.addaudithook(_refuse_process)
