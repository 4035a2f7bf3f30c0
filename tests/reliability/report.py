"""Tests as promises: which row of docs/reliability.md a test is for, and what it measured.

``make soak`` writes the tables of that page from these.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FAULTS = "Faults"
BAD_INPUT = "Bad input"
MORE = "Beyond these"
_HEADS = {
    FAULTS: ("fault", "what happens"),
    BAD_INPUT: ("input", "answer"),
    MORE: ("condition", "what happens"),
}
_MEASURED = "measured"


def promise(table: str, row: str, answer: str) -> pytest.MarkDecorator:
    """Say which row of which table a test is for."""
    return pytest.mark.promise(table, row, answer)


def many(short: int, full: int) -> pytest.MarkDecorator:
    """Run a test with ``times`` as a few, and as many where there is time."""
    return pytest.mark.parametrize("times", [short, pytest.param(full, marks=pytest.mark.slow)])


def tries(short: int, full: int) -> pytest.MarkDecorator:
    """Run a test so often with other random numbers as ``rng``: a few times, and as often where
    there is time."""
    values = [
        pytest.param(None, id=f"try-{n}", marks=[pytest.mark.slow] if n >= short else [])
        for n in range(full)
    ]
    return pytest.mark.parametrize("rng", values, indirect=True)


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("reliability")
    group.addoption("--seed", default="0", help="of random faults: a number, or 'random'")
    group.addoption("--promises", metavar="FILE", help="write the tables of promises as Markdown")


def seed_of(config: pytest.Config) -> int:
    """The seed of this session; drawn once where it is to be random."""
    text = config.getoption("--seed")
    if text == "random":
        text = str(random.SystemRandom().randrange(10**6))
        config.option.seed = text
    return int(text)


def configure(config: pytest.Config) -> None:
    """One seed for all processes that run the tests side by side."""
    given = getattr(config, "workerinput", {})
    config.option.seed = given.get("seed", config.getoption("--seed"))


@pytest.hookimpl(optionalhook=True)
def configure_worker(node: Any) -> None:
    """Tell the seed to such a process."""
    node.workerinput["seed"] = str(seed_of(node.config))


def header(config: pytest.Config) -> str:
    return f"random faults and inputs: --seed {seed_of(config)}"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of this test, from the session's seed and the test's name."""
    return random.Random(f"{seed_of(request.config)} {request.node.nodeid}")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keep a measured figure for the table."""
    return lambda text: request.node.user_properties.append((_MEASURED, text))


@pytest.hookimpl(wrapper=True)
def make_report(item: pytest.Item) -> Iterator[Any]:
    report = yield
    mark = item.get_closest_marker("promise")
    report.promise = None if mark is None else mark.args
    return report


def write_tables(config: pytest.Config, reports: dict[str, list[Any]]) -> None:
    """Both tables, where they were asked for; a promise that failed says so."""
    path = config.getoption("--promises")
    if not path:
        return
    rows: dict[tuple[str, str, str], list[Any]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reports.get(outcome, []):
            kept = getattr(report, "promise", None)
            if kept is not None and (report.when == "call" or outcome != "passed"):
                # from another process it comes as a list
                rows.setdefault(tuple(kept), []).append((outcome, report))
    lines = [f"Random faults and inputs with `--seed {seed_of(config)}`."]
    for table, head in _HEADS.items():
        lines += ["", f"## {table}", "", f"| {' | '.join(head)} | measured |", "|---|---|---|"]
        for (of, row, answer), found in sorted(rows.items()):
            if of == table:
                lines.append(f"| {row} | {answer} | {_verdict(found)} |")
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _count_of(test: str) -> float:
    """The ``times`` of :func:`many` in the name of a test; 0: it has none."""
    count = re.search(r"\[(?:.*-)?([0-9.]+)\]$", test)
    return float(count[1]) if count else 0.0


def _verdict(found: list[tuple[str, Any]]) -> str:
    wrong = [outcome for outcome, _ in found if outcome != "passed"]
    if wrong:
        return ", ".join(sorted(set(wrong))).upper()
    texts = [
        (_count_of(report.nodeid), value)
        for _, report in found
        for name, value in report.user_properties
        if name == _MEASURED
    ]
    # of a short and a full count the full one
    return max(texts)[1] if texts else f"holds, {len(found)} test" + ("s" if len(found) > 1 else "")
