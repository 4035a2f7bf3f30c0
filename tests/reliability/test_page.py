"""The tables of docs/reliability.md and the tests that they are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.report import PROMISES, rows_of_page, tiers_of_rows

ROOT = Path(__file__).parents[2]


def test_every_row_has_a_test_and_every_test_its_row(request):
    """And its tier; ``pytest --collect-only --tiers=docs/reliability.md`` corrects those."""
    tests = request.config.stash[PROMISES]
    files = {path for path in (ROOT / "tests").rglob("test_*.py") if "promise(" in source(path)}
    if not files - {Path(__file__)} <= {item.path for item in tests}:
        pytest.skip("only some of the tests were collected")
    rows = list(rows_of_page(source(ROOT / "docs" / "reliability.md")))
    page = {row: tier for _, row, tier, _ in rows}
    assert len(page) == len(rows), "a row is there twice"
    expected = tiers_of_rows(tests)
    different = [row for row in page.keys() | expected.keys() if page.get(row) != expected.get(row)]
    assert not [(row, page.get(row), expected.get(row)) for row in different]


def source(path):
    return path.read_text(encoding="utf-8")
