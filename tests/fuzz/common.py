"""How often the fuzz tests try, and what every answer to bad input has in common."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Collection
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.cli.terminal import Answer

T = TypeVar("T")

SECONDS = 1.0
"""What reading a preset may take."""
HEALTHY, SICK, SWEEP = "healthy", "sick", "sweep-a"
"""A run, one to be broken, and a sweep of both."""
DOCUMENTED = frozenset({0, 1, 2, 3, 4, 5, 6})
"""Exit codes of commands that only look; 1 is for ``doctor``, and for faults of the program, which
say so."""


def fuzz(
    times: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], None], rng: Random
) -> None:
    """Call ``check`` with so many examples; what fails is made small, and printed."""
    options: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}

    @seed(rng.getrandbits(64))
    @settings(max_examples=times, print_blob=True, **options)
    @given(strategy)
    def example(value: Any) -> None:
        check(value)

    example()


def soon(reply: Callable[[], T]) -> T:
    """What this gives, within a second of the processor.

    Of three tries, for a single one may be held up by the collection of what other tests left, or
    by a machine that is busy: what takes long does so each time.
    """
    for _ in range(3):
        start = time.thread_time()
        given = reply()
        seconds = time.thread_time() - start
        if seconds < SECONDS:
            return given
    raise AssertionError(f"{seconds:.2f} s")


def assert_decent(answer: Answer, codes: Collection[int] = DOCUMENTED) -> None:
    """A documented code, no traceback, nothing that a terminal would take for a command."""
    assert answer.code in codes, (answer.code, answer.err)
    shown = answer.out + answer.err
    assert "internal error" not in shown, shown
    assert "Traceback" not in shown, shown
    raw = {c for c in shown if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl")}
    assert not raw, raw


def assert_refused(answer: Answer, codes: Collection[int] = (2,)) -> None:
    """One line on standard error that says why, and nothing else."""
    assert_decent(answer, codes)
    assert answer.out == ""
    assert answer.err.startswith("proxprop: ")
    assert answer.err.count("\n") == 1, answer.err
    assert len(answer.err) < 2_000, "nobody reads that"
