from __future__ import annotations

from tests.reliability.small_disk import small_disk  # noqa: F401 - a fixture
