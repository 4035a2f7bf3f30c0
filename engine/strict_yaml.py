"""YAML without its surprises: what a document seems to say is what it says.

Scalars follow YAML 1.2's core schema: ``1e-3`` is a number, ``no`` and ``on`` are text and
``2020-01-01`` is no date. Refused are duplicate keys, anchors and aliases, tags, keys that are not
text, nesting without bound, documents over 256 KiB and documents that would take long to read:
those of very many lines or values. Every fault is a :class:`ConfigError` of one line,
``source:line:column: expected ...``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from engine.errors import ConfigError, shortened

MAX_BYTES = 1 << 18
"""Largest document, in bytes of UTF-8; PyYAML takes up to a second for 1 MiB."""
MAX_DEPTH = 32
"""Deepest nesting of mappings and lists."""
MAX_LINES = 10_000
"""Most lines of a document."""
MAX_TOKENS = 10_000
"""Most keys, values and marks between them: PyYAML takes 14 µs and 350 bytes for each, so that a
list of 256 KiB would cost 4 s and 80 MB."""

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_MAX_DIGITS = 100
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY_OR_NAN = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")

# PyYAML's wording where it names the symptom only
_CLEARER = (
    ("mapping values are not allowed", "expected one 'key: value' a line; quote text with ': '"),
    ("could not find expected ':'", "expected ':' after the key"),
    ("expected <block end>", "expected a line indented like the ones before it"),
    ("expected ',' or ']'", "expected ',' or ']' in the list"),
    ("expected ',' or '}'", "expected ',' or '}' in the mapping"),
    ("found character '\\t'", "expected spaces, found a tab"),
    ("found unexpected end of stream", "expected a closing quote"),
    ("but found another document", "expected one document, found a second one after '---'"),
    ("expected the node content", "expected a value"),
    ("expected <document start>", "expected the end of the document"),
)


def parse(text: str, source: str) -> dict[str, Any]:
    """Read a document whose top level is a mapping.

    :param source: file name or place that errors begin with.
    :raises ConfigError: one line, ``source:line:column: expected ...``.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        _refuse_size(source)
    node, loader = _compose(text, source)
    if node is None:
        raise ConfigError(f"{source}: expected 'key: value' lines, found an empty document")
    if not isinstance(node, yaml.MappingNode):
        loader.fail(node.start_mark, f"expected 'key: value' lines, found {_kind(node)}")
    value: dict[str, Any] = loader.value(node)
    return value


def read(path: Path) -> dict[str, Any]:
    """Read a file as :func:`parse` does; it must be UTF-8.

    :raises ConfigError: also where the file is missing or can not be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a YAML file, found no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a YAML file, found a folder") from None
    except ValueError:
        raise ConfigError(f"{str(path)!r}: expected a file name, found a NUL in it") from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        _refuse_size(str(path))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode())
        raise ConfigError(
            f"{path}:{line}:{column}: expected UTF-8 text, found the byte 0x{data[error.start]:02x}"
        ) from None
    return parse(text, str(path))


def parse_scalar(text: str) -> Any:
    """The value of a command line's ``key=value``: a YAML scalar or a flow list.

    Text that is neither quoted nor in brackets stands for itself, with any ``:`` or ``#`` in it.

    :raises ConfigError: for a list or quoted text that does not end, and for a mapping.
    """
    text = text.strip()
    if len(text) > MAX_BYTES:
        _refuse_size("value")
    if not text.startswith(("[", "{", "'", '"')):
        if _NOT_TEXT.search(text):
            raise ConfigError(f"expected text, found {_short(text)}")
        try:
            return _resolve(text)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    node, loader = _compose(text, "value")
    if node is None or isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"expected a scalar or a [list], found {_short(text)}; write key.part=value"
        )
    return loader.value(node)


def render(document: Mapping[str, Any]) -> str:
    """YAML text that :func:`parse` turns back into the same values, keys in the given order."""
    text: str = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes text that is a number to :func:`parse`, though not to YAML 1.1."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML folds Unicode's line ends, which loses them, everywhere but in double quotes
        style = '"' if re.search("[\r\x85\u2028\u2029\ufeff]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)

for _tag, _pattern in (("float", _FLOAT), ("float", _INFINITY_OR_NAN), ("int", _BASED_INT)):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


class _Loader(yaml.SafeLoader):
    """Composes nodes and turns them into plain values; refuses what this module refuses."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self._source = source
        self._depth = 0
        self._tokens = 0

    def fail(self, mark: Any, message: str) -> NoReturn:
        raise ConfigError(f"{self._source}:{mark.line + 1}:{mark.column + 1}: {message}")

    def fetch_more_tokens(self) -> None:
        self._tokens += 1
        if self._tokens > MAX_TOKENS:
            mark = self.get_mark()
            self.fail(mark, f"expected at most {MAX_TOKENS:,} keys and values")
        super().fetch_more_tokens()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            alias = shortened(f"'*{event.anchor}'")
            self.fail(event.start_mark, f"expected a value, found the alias {alias}")
        if event.anchor is not None:
            anchor = shortened(f"'&{event.anchor}'")
            self.fail(event.start_mark, f"expected a value, found the anchor {anchor}")
        if event.tag is not None:
            self.fail(
                event.start_mark, f"expected a plain value, found the tag {_short(event.tag)}"
            )
        if self._depth >= MAX_DEPTH:
            self.fail(event.start_mark, f"expected at most {MAX_DEPTH} levels of nesting")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        assert isinstance(node, yaml.ScalarNode)
        text: str = node.value
        if _NOT_TEXT.search(text):
            self.fail(node.start_mark, f"expected text, found {_short(text)}")
        if node.style is not None:
            return text
        try:
            return _resolve(text)
        except ValueError as error:
            self.fail(node.start_mark, str(error))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node)
            if not isinstance(key, str):
                self.fail(key_node.start_mark, f"expected a key of text, found {_kind(key_node)}")
            if key in mapping:
                self.fail(key_node.start_mark, f"expected each key once, found {_short(key)} again")
            mapping[key] = self.value(value_node)
        return mapping


def _compose(text: str, source: str) -> tuple[yaml.Node | None, _Loader]:
    """The document's node, or none where it is empty; no alias, anchor or tag in it."""
    loader: _Loader | None = None
    if sum(map(text.count, "\n\r\x85\u2028\u2029")) >= MAX_LINES + text.count("\r\n"):
        raise ConfigError(f"{source}: expected at most {MAX_LINES:,} lines, found more")
    try:
        loader = _Loader(text, source)
        return loader.get_single_node(), loader
    except yaml.reader.ReaderError as error:
        line, column = _position(text[: error.position])
        message = f"expected text, found the character {chr(error.character)!a}"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = _clearer(error)
    except (ValueError, OverflowError):
        # an escape such as \UFFFFFFFF, which PyYAML hands to chr() unchecked
        line, column = (loader.line + 1, loader.column + 1) if loader else (1, 1)
        message = "expected an escape of an existing character"
    raise ConfigError(f"{source}:{line}:{column}: {message}")


def _clearer(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or error.context or "expected YAML").split())
    found = [text for start, text in _CLEARER if problem.startswith(start)]
    if found:
        return found[0]
    return problem if problem.startswith("expected") else f"expected YAML, {problem}"


def _resolve(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema; :raises ValueError: for an absurd integer."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text) or _BASED_INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError(
                f"expected a number of at most {_MAX_DIGITS} digits, found {_short(text)}"
            )
        return int(text, 0 if _BASED_INT.fullmatch(text) else 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY_OR_NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _position(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what follows this text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else _short(node.value)


def _short(text: str) -> str:
    return shortened(ascii(text) if _NOT_TEXT.search(text) else repr(text))


def _refuse_size(source: str) -> NoReturn:
    raise ConfigError(f"{source}: expected at most {MAX_BYTES >> 10} KiB of YAML, found more")
