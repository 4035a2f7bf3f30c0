"""Tests as promises: which row of docs/reliability.md a test is for, and what it measured.

``make soak`` writes the tables of that page from these; the column *tier* says which targets of the
Makefile run the tests of a row.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
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
_TIERS = ("test", "check", "soak")
"""Targets of the Makefile; ``soak`` stands for the cases that it alone runs."""
Row = tuple[str, str, str]
"""Table, what happens, and the answer to it."""


def promise(table: str, row: str, answer: str) -> pytest.MarkDecorator:
    """Say which row of which table a test is for."""
    return pytest.mark.promise(table, row, answer)


def many(short: int, full: int) -> pytest.MarkDecorator:
    """Run a test with ``times`` as a few, and as many where there is time."""
    return pytest.mark.parametrize("times", [short, pytest.param(full, marks=pytest.mark.slow)])


def tries(short: int, full: int) -> pytest.MarkDecorator:
    """Run a test ``full`` times with different random numbers as ``rng``; all but the first
    ``short`` times are slow."""
    return pytest.mark.tries(short, full)


def _wants_slow(config: pytest.Config) -> bool:
    """Whether the session may run slow tests: to collect thousands in vain takes long."""
    return "not slow" not in config.option.markexpr


class _Collection:
    """Hooks of the collection."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        mark = metafunc.definition.get_closest_marker("tries")
        if mark is None:
            return
        short, full = mark.args
        values = [
            pytest.param(None, id=f"try-{n}", marks=[pytest.mark.slow] if n >= short else [])
            for n in range(full if _wants_slow(metafunc.config) else short)
        ]
        metafunc.parametrize("rng", values, indirect=True)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the tests of promises as they were before ``-m`` took some of them away."""
        config.stash[PROMISES] = [item for item in items if item.get_closest_marker("promise")]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if path := session.config.getoption("--tiers"):
            text = Path(path).read_text(encoding="utf-8")
            tiers = tiers_of_rows(session.config.stash[PROMISES])
            Path(path).write_text(with_tiers(text, tiers), encoding="utf-8")


PROMISES = pytest.StashKey[list[pytest.Item]]()
"""The collected tests of promises."""


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("reliability")
    group.addoption("--seed", default="0", help="of random faults: a number, or 'random'")
    group.addoption("--promises", metavar="FILE", help="write the tables of promises as Markdown")
    group.addoption("--tiers", metavar="FILE", help="correct the column of tiers in these tables")


def seed_of(config: pytest.Config) -> int:
    """The seed of this session; drawn once where it is to be random."""
    text = config.getoption("--seed")
    if text == "random":
        text = str(random.SystemRandom().randrange(10**6))
        config.option.seed = text
    return int(text)


def configure(config: pytest.Config) -> None:
    """Use one seed in all processes that run the tests side by side."""
    given = getattr(config, "workerinput", {})
    config.option.seed = given.get("seed", config.getoption("--seed"))
    config.addinivalue_line("markers", "tries(short, full): repeat a test with other numbers")
    config.pluginmanager.register(_Collection())


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
    report.promise = None if mark is None else [*mark.args, tier_of(item)]
    return report


def tier_of(item: pytest.Item) -> str:
    """Return the Makefile target that runs a test."""
    if item.get_closest_marker("slow"):
        return "soak"
    return "check" if any(map(item.get_closest_marker, ("system", "timing"))) else "test"


def tiers_of_rows(items: Iterable[pytest.Item]) -> dict[Row, str]:
    """Return the tier column of every row that tests are for."""
    tiers: dict[Row, set[str]] = {}
    for item in items:
        mark, repeated = map(item.get_closest_marker, ("promise", "tries"))
        assert mark is not None
        tiers.setdefault(mark.args, set()).add(tier_of(item))
        if repeated is not None and repeated.args[1] > repeated.args[0]:
            tiers[mark.args].add("soak")  # these are collected on demand
    return {row: _join(of_row) for row, of_row in tiers.items()}


def rows_of_page(text: str) -> Iterator[tuple[int, Row, str, str]]:
    """The rows of the page's tables: number of its line, what it says, tier, and figures."""
    table = ""
    for number, line in enumerate(text.splitlines()):
        if line.startswith("## "):
            table = line.removeprefix("## ")
        elif table in _HEADS and line.startswith("| "):
            row, answer, tier, figures = line.strip("| ").split(" | ")
            if (row, answer) != _HEADS[table]:
                yield number, (table, row, answer), tier, figures


def with_tiers(text: str, tiers: dict[Row, str]) -> str:
    """Return the page with the column of tiers as the tests have it."""
    lines = text.splitlines()
    for number, key, tier, figures in rows_of_page(text):
        lines[number] = _line(*key[1:], tiers.get(key, tier), figures)
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _join(tiers: Iterable[str]) -> str:
    return ", ".join(sorted(tiers, key=_TIERS.index))


def write_tables(config: pytest.Config, reports: dict[str, list[Any]]) -> None:
    """Write the tables, if they were asked for; a promise that failed says so."""
    path = config.getoption("--promises")
    if not path:
        return
    rows: dict[Row, list[Any]] = {}
    tiers: dict[Row, set[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reports.get(outcome, []):
            promised = getattr(report, "promise", None)
            if promised is not None and (report.when == "call" or outcome != "passed"):
                *row, tier = promised
                rows.setdefault(tuple(row), []).append((outcome, report))
                tiers.setdefault(tuple(row), set()).add(tier)
    lines = [f"Random faults and inputs with `--seed {seed_of(config)}`."]
    for table, head in _HEADS.items():
        lines += ["", f"## {table}", "", _line(*head, "tier", _MEASURED), "|---|---|---|---|"]
        for key, found in sorted(rows.items()):
            if key[0] == table:
                lines.append(_line(*key[1:], _join(tiers[key]), _verdict(found)))
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
