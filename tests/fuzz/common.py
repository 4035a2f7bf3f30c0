"""How often the fuzz tests try, and what every answer to bad input has in common."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Collection
from random import Random
from typing import Any

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.cli.terminal import Answer

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


def limit() -> float:
    """Seconds of the processor that a reply may take: one, or more where the processor is slow now,
    such as one whose caches others use. A list tells, which took PyYAML 0.56 to 0.64 s on one that
    nobody else used, where the bar holds."""
    start = time.process_time()
    yaml.safe_load("[" + "1, " * 20_000 + "1]")
    return SECONDS * max(1.0, (time.process_time() - start) / 0.6)


def assert_soon(seconds: float) -> None:
    """What an answer to bad input took of the processor, so that a busy machine does not count."""
    assert seconds < SECONDS or seconds < limit()


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
