"""Lists on the command line."""

from __future__ import annotations

import time

import pytest

from engine.errors import ConfigError
from proxprop_cli.lists import parse_names, parse_numbers, split_assignments, split_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", (1.0,)),
        ("50, 10,5e-3", (50.0, 10.0, 0.005)),
        ("logspace(0.01,1,3)", (0.01, 0.1, 1.0)),
        ("logspace(1e-4, 50, 2),7", (1e-4, 50.0, 7.0)),
        ("logspace(10,0.1,5)", (10.0, 3.162, 1.0, 0.3162, 0.1)),
        ("logspace( 0.01 , 1 , 3 )", (0.01, 0.1, 1.0)),
        # as many digits as tell them apart and keep them between the ends
        ("logspace(1,1.001,5)", (1.0, 1.0002, 1.0005, 1.0007, 1.001)),
        ("logspace(1.00046,1.00004,3)", (1.00046, 1.0002, 1.00004)),
        ("logspace(1,1,3)", (1.0, 1.0, 1.0)),
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
        "5 1",
        "1,5 1",
        "1 e3",
        "1_0",
        "1e1_0",
        "\u0661",
        "1e31",
        "logspace(1,2e30,3)",
        "logspace(1e308,1.7976931348623157e308,9)",
        "logspace (1,2,3)",
        "logspace(1,2,1 0)",
        "logspace(1,2,1_0)",
        "logspace(1 0,2,3)",
        "(1,2)",
        "1" + ",1" * 200_000,
    ],
)
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="--tau: expected"):
        parse_numbers(text, "--tau")


@pytest.mark.timing
def test_a_long_list_is_read_at_once() -> None:
    started = time.monotonic()
    assert len(parse_numbers("1," * 99_999 + "2", "--tau")) == 100_000
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1, 1", ["0.1", "1"]),
        ("[8],[8,8]", ["[8]", "[8,8]"]),
        ("[8, 8] , [] ,3", ["[8, 8]", "[]", "3"]),
        ("'a,b',\"c,\\\"d\",it's,x", ["'a,b'", '"c,\\"d"', "it's", "x"]),
        ("'it''s, a',b", ["'it''s, a'", "b"]),
        ("[8,8", ["[8", "8"]),
        ("a[b,c]", ["a[b", "c]"]),
    ],
)
def test_values(text: str, expected: list[str]) -> None:
    assert split_values(text, "--over") == expected


@pytest.mark.parametrize("text", ["", ",", "a,", ",a", "[8],,[8]", "[8], "])
def test_values_that_are_empty(text: str) -> None:
    with pytest.raises(ConfigError, match="--over: expected values"):
        split_values(text, "--over")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a=1  b=2 ", ["a=1", "b=2"]),
        ("a=[8, 8] b='c d'", ["a=[8, 8]", "b='c d'"]),
        ('a="c \\" d" b', ['a="c \\" d"', "b"]),
        ("a=it's b=it's", ["a=it's", "b=it's"]),
        ("a=[8, 8", ["a=[8,", "8"]),
        ("=1", ["=1"]),
    ],
)
def test_assignments(text: str, expected: list[str]) -> None:
    assert split_assignments(text) == expected


def test_names() -> None:
    assert parse_names("a, b", "--methods") == ("a", "b")
    for text in ("", "a,", ",a", "a,,b"):
        with pytest.raises(ConfigError, match="--methods"):
            parse_names(text, "--methods")
