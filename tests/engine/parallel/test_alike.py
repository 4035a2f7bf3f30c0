"""Processes on unlike machines or data are told so before the first step."""

from __future__ import annotations

import json

import pytest

from engine.errors import ConfigError
from engine.parallel.launch import Launch
from engine.parallel.team import ALONE, Team
from engine.session import check_alike

HERE = {
    "torch": "2.13.0",
    "device": "cpu (x86_64)",
    "threads": 1,
    "processes": 2,
    "data_sha256": "ab",
    "system": "Linux",
    "seed": 3,
}


class Second(Team):
    """Rank 1 of two, whose leader says this."""

    def __init__(self, word: dict[str, object]) -> None:
        super().__init__(Launch(1, 2, 1, 2))
        self._word = word

    def content(self, own: bytes) -> bytes:
        return json.dumps(self._word).encode()


def test_a_process_alone_and_one_that_is_alike() -> None:
    check_alike(ALONE, HERE)
    check_alike(Second(HERE), HERE)


@pytest.mark.parametrize(
    ("key", "there"), [("torch", "2.12.0"), ("device", "cuda (H100)"), ("data_sha256", "cd")]
)
def test_one_that_is_not(key: str, there: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_alike(Second({**HERE, key: there}), HERE)
    assert f"process 1 is unlike process 0, with which it is to train: {key} is" in str(
        raised.value
    )
    assert f"{HERE[key]!r} here, {there!r} there" in str(raised.value)
