"""Lists on the command line."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError
from proxprop_cli.lists import parse_names, parse_numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", (1.0,)),
        ("50, 10,5e-3", (50.0, 10.0, 0.005)),
        ("logspace(0.01,1,3)", (0.01, 0.1, 1.0)),
        ("logspace(1e-4, 50, 2),7", (1e-4, 50.0, 7.0)),
        ("logspace(10,0.1,5)", (10.0, 3.162, 1.0, 0.3162, 0.1)),
    ],
)
def test_numbers(text: str, expected: tuple[float, ...]) -> None:
    assert parse_numbers(text, "--tau") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1,",
        "1,,2",
        "x",
        "nan",
        "inf",
        "-1",
        "0",
        "1e999",
        "logspace(1,2)",
        "logspace(1,2,1)",
        "logspace(1,2,3.5)",
        "logspace(0,2,3)",
        "logspace(1,2,3",
        "logspace(1,2,1000000000)",
        "logspace(1,2,99999999999999999999)",
        "logspace(1,2,3)4",
        "linspace(1,2,3)",
        "0x10",
        "1" + ",1" * 200_000,
    ],
)
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="--tau: expected"):
        parse_numbers(text, "--tau")


def test_names() -> None:
    assert parse_names("a, b", "--methods") == ("a", "b")
    for text in ("", "a,", ",a", "a,,b"):
        with pytest.raises(ConfigError, match="--methods"):
            parse_names(text, "--methods")
