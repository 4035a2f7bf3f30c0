from __future__ import annotations

import time

import pytest

pytest.register_assert_rewrite("tests.dashboard.looks.pictures")


@pytest.fixture(autouse=True)
def _fixed_time_zone(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
