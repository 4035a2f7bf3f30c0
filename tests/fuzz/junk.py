"""What does not belong into a store or in the place of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.common import HEALTHY

JUNK: list[Any] = [None, "", "text", "\x1b[2J", b"\xff\xfe", -1, 2**62, -(2**63), 1e308, -0.5]
JUNK += [float("inf"), "nan", "[]", "{", '{"a": 1}', "[" * 2000, "1" * 400, "NaN"]
JSON_JUNK: list[Any] = [None, True, "", "text", "\x1b[2J", -1, 10**400, 1e308, float("nan"), [], {}]
JSON_JUNK += [[1], {"a": {"b": []}}, {"train_loss": "x"}, {"train_loss": [1]}, {"tau": "x"}]
JSON_JUNK += [{"method": []}, float("-inf"), 0.5, {"epochs": {}}, {"": None}, 1e12]


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def other(path: Path) -> None:
    path.symlink_to(f"../{HEALTHY}/{path.name}")


def empty(path: Path) -> None:
    path.touch()


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\x00" * 3000)


def array(path: Path) -> None:
    path.write_text("[" * 100_000)


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # sparse: to read it all would never end


def forms() -> pytest.MarkDecorator:
    """Run a test with ``form``, which makes at a path what does not belong there.

    The fast ones are a pipe, which may be waited for without end, and bytes that are no text.
    """
    most: list[Callable[[Path], None]] = [os.mkfifo, binary]
    rest = [folder, nowhere, huge, loop, device, other, empty, array]
    values = [pytest.param(form, id=form.__name__) for form in most]
    values += [pytest.param(form, id=form.__name__, marks=pytest.mark.slow) for form in rest]
    return pytest.mark.parametrize("form", values)
