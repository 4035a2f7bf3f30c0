"""Every text is a mapping or one clear line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.strict_yaml import MAX_BYTES, MAX_DEPTH, parse, parse_scalar, read, render

SCALARS = [
    ("1e-3", 1e-3),
    ("1E3", 1000.0),
    ("+.5", 0.5),
    ("5.", 5.0),
    ("-7", -7),
    ("010", 10),
    ("0o17", 15),
    ("0x1f", 31),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("on", "on"),
    ("no", "no"),
    ("yes", "yes"),
    ("2020-01-01", "2020-01-01"),
    ("1_000", "1_000"),
    ("12:30:45", "12:30:45"),
    ("=", "="),
    ("'1e-3'", "1e-3"),
    ('"true"', "true"),
    ("[64, 1e2, a]", [64, 100.0, "a"]),
    ("[]", []),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found = parse(f"key: {text}", "f.yaml")["key"]
    assert found == value
    assert type(found) is type(value)
    assert parse_scalar(text) == value


def test_infinity_and_nan() -> None:
    values = parse("a: .inf\nb: -.INF\nc: .nan", "f")
    assert values["a"] == math.inf
    assert values["b"] == -math.inf
    assert math.isnan(values["c"])


def test_a_document() -> None:
    text = "\ufeff# comment\nmodel:\n  hidden: [1, 2]\n  text: |\n    two\n    lines\n"
    assert parse(text, "f") == {"model": {"hidden": [1, 2], "text": "two\nlines\n"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: {x: 1, x: 2}", "f.yaml:2:11: expected each key once, found 'x' again"),
        ("a: &x 1\nb: 2", "f.yaml:1:4: expected a value, found the anchor '&x'"),
        ("a: *x", "f.yaml:1:4: expected a value, found the alias '*x'"),
        ("a: !!python/object:os.system 1", "f.yaml:1:4: expected a plain value, found the tag"),
        ("a: !!int foo", "f.yaml:1:4: expected a plain value, found the tag"),
        ("1: a", "f.yaml:1:1: expected a key of text, found '1'"),
        ("true: a", "f.yaml:1:1: expected a key of text, found 'true'"),
        ("[a]: b", "f.yaml:1:1: expected a key of text, found a list"),
        ("", "f.yaml: expected 'key: value' lines, found an empty document"),
        ("# only a comment\n", "f.yaml: expected 'key: value' lines, found an empty document"),
        ("- a\n- b", "f.yaml:1:1: expected 'key: value' lines, found a list"),
        ("just text", "f.yaml:1:1: expected 'key: value' lines, found 'just text'"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: expected one document"),
        ("a: [1, 2", "f.yaml:1:9: expected ',' or ']'"),
        ("a: b: c", "f.yaml:1:5: expected one 'key: value' a line"),
        ("a: 1\n  b: 2", "f.yaml:2:4: expected one 'key: value' a line"),
        ("a:\n  - 1\n b: 2", "f.yaml:3:2: expected a line indented"),
        ("a:\n\tb: 1", "f.yaml:2:1: expected spaces, found a tab"),
        ("a: 'x", "f.yaml:1:6: expected a closing quote"),
        ("a: 1\nb: \x00", "f.yaml:2:4: expected text, found the character '\\x00'"),
        ('a: "\\UFFFFFFFF"', "f.yaml:1:"),
        ('a: "\\0"', "f.yaml:1:4: expected text"),
        ('a: "\\ud800"', "f.yaml:1:4: expected text"),
        ("a: " + "9" * 5000, "f.yaml:1:4: expected a number of at most 100 digits"),
        ("a: " + "[" * 100_000, "f.yaml:1:35: expected at most 32 levels"),
        ("a: %", "f.yaml:1:4: expected"),
        ("%YAML 9.9\n---\na: 1", "f.yaml:1:1: expected"),
    ],
)
def test_faults_are_one_located_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    message = str(caught.value)
    assert message.startswith(expected)
    assert "\n" not in message
    assert len(message) < 200


def test_nesting_up_to_the_bound_is_read() -> None:
    lists = MAX_DEPTH - 1
    assert parse("a: " + "[" * (lists - 1) + "]" * (lists - 1), "f")
    with pytest.raises(ConfigError, match="levels"):
        parse("a: " + "[" * (lists + 1) + "]" * (lists + 1), "f")


def test_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 256 KiB"):
        parse("a: " + "é" * (MAX_BYTES // 2), "f")
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it whole would never end
    with pytest.raises(ConfigError, match=r"huge\.yaml: expected at most 256 KiB"):
        read(huge)


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("a: ä", encoding="utf-8")
    assert read(good) == {"a": "ä"}
    good.write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(ConfigError, match=r"good\.yaml:2:4: expected UTF-8 text"):
        read(good)
    with pytest.raises(ConfigError, match="found no such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="found a folder"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="NUL"):
        read(Path("a\0b"))
    with pytest.raises(ConfigError, match="readable"):
        read(good / "below")


@pytest.mark.parametrize("text", ["run #3", "a: b", "*star", "- x", "@x", "/data: 1", "a]"])
def test_unquoted_values_stand_for_themselves(text: str) -> None:
    assert parse_scalar(text) == text


@pytest.mark.parametrize("text", ["{a: 1}", "[1", "'x", '"x" y', "[*a]", "[1] [2]", "9" * 200])
def test_values_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_scalar(text)


def test_an_empty_value_is_null() -> None:
    assert parse_scalar("") is None
    assert parse_scalar("''") == ""


KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.from_regex(r"[-+.0-9eox]{1,6}", fullmatch=True)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
@example({"a": "1e-3", "b": "0o17", "c": "on", "d": ".5", "e": 1e-08, "f": "2020-01-01", "g": "="})
def test_what_is_rendered_is_parsed_back(document: dict[str, Any]) -> None:
    assert repr(parse(render(document), "f")) == repr(document)


YAML_LIKE = st.text(
    st.sampled_from("ab01e-+.:,[]{}#&*!|>%@`'\"\\?~ \n\t\r\0\x85\u2028é"), max_size=60
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=80), YAML_LIKE))
@example("a: \ud800")
@example('"\\x"')
@example("? [a]\n: b")
@example("<<: {a: 1}")
def test_any_text_is_a_mapping_or_one_line(text: str) -> None:
    document, message = _outcome(lambda: parse(text, "f.yaml"))
    assert isinstance(document, dict) or message.startswith("f.yaml:")
    assert len(message.splitlines()) <= 1
    _, message = _outcome(lambda: parse_scalar(text))
    assert len(message.splitlines()) <= 1


def _outcome(action: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return action(), ""
    except ConfigError as error:
        return None, str(error)
