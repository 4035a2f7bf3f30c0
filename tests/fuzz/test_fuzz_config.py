"""Whatever is in a preset file, it gives a configuration or one line, soon and in little memory."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import strategies as st

from engine import strict_yaml
from engine.config import dump, known_keys, unfold, validate
from engine.errors import ConfigError
from engine.strict_yaml import MAX_BYTES
from proxprop_cli import presets, sitting
from proxprop_cli.commands.options import build_config
from tests.fuzz.common import SECONDS, assert_decent, assert_refused, fuzz, soon
from tests.reliability.report import many, tries

MEGABYTES = 200

PRESETS = sorted((Path(__file__).parents[2] / "presets").glob("*.yaml"))
TOKENS = [
    *("*a", "&a ", "<<: *a", "!!python/object/apply:os.system [ls]", "!!binary aGk=", "!t ", "? "),
    *("\ufeff", "\0", "\t", "\r", "\x1b[2J", "\x85", "\u2028", "é", "---\n", "...\n", "%YAML 9\n"),
    *("{", "}", "[", "]", ": ", "- ", ",", "#", "'", '"', "|\n", ">\n", "\\", "@", "`", "\n"),
    *(".nan", ".inf", "1e999", "9" * 99, "9" * 5000, "0x" + "f" * 5000, "-1", "0", "1e-3", "null"),
    *("2020-01-01", "12:30:45", "true", "on", "''", "method.tau", "x" * 5000, "[" * 40),
]
"""What a line of YAML does not expect."""
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.dates()
    | st.binary(max_size=8)
    | st.text(max_size=10)
    | st.sampled_from([*known_keys(), "cg3", "exact", "convnet", "mlp", "adam", 10**90]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from([*known_keys(), "methods.exact", "methods.cg", "methods.cg3.tau", "model"])
KEYS |= st.text(max_size=12)


@pytest.fixture
def built(tmp_path):
    """What both commands make of a file with this content, without the program around it."""
    file = tmp_path / "preset.yaml"

    def read(assignments: Sequence[str]) -> None:
        try:
            config = build_config(str(file), assignments, None, {})
        except ConfigError:
            return  # what becomes of it is the same for all, and looked at below
        assert validate(strict_yaml.parse(dump(config), "again")) == config

    def check(content: bytes, *assignments: str) -> None:
        file.write_bytes(content)
        soon(lambda: read(assignments))

    return check


@pytest.fixture
def given_file(cli, tmp_path, monkeypatch):
    """Give a file with this content to ``presets show`` and to ``train``; gives the exit code."""

    def stop_here(*_: object) -> None:
        raise typer.Exit(0)  # the configuration is made

    monkeypatch.setattr(sitting, "prepare", stop_here)
    file = tmp_path / "preset.yaml"

    def check(content: bytes, *options: str) -> int:
        file.write_bytes(content)
        shown = soon(lambda: cli("presets", "show", str(file), *options))
        trained = cli("train", "--preset", str(file), *options)
        assert trained.code == shown.code
        for answer in (shown, trained):
            if answer.code == 0:
                assert_decent(answer)
            else:
                assert_refused(answer)
        return shown.code

    return check


@many(100, 20_000)
def test_any_bytes(built, rng, times):
    texts = st.text(max_size=200) | st.lists(st.sampled_from(TOKENS), max_size=12).map("".join)
    encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
    encoded = st.tuples(texts, encodings).map(lambda t: t[0].encode(t[1], "replace"))
    fuzz(times, st.binary(max_size=200) | encoded, built, rng)


@many(50, 10_000)
def test_any_document(built, rng, times):
    """Known keys with values that are not theirs, beside keys that are not known."""

    def check(settings: list[tuple[str, Any]]) -> None:
        document: dict[Any, Any] = {}
        for dotted, value in settings:
            # the values of one section meet in it
            head, tail = next(iter(unfold(dotted, value).items()))
            old = document.get(head)
            both = isinstance(old, dict) and isinstance(tail, dict)
            document[head] = {**old, **tail} if both else tail
        built(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "replace"))

    fuzz(times, st.lists(st.tuples(KEYS, VALUES), max_size=5), check, rng)


@tries(10, 500)
def test_nearly_a_preset(given_file, rng):
    """Texts of real presets with a few faults in them."""
    lines = rng.choice(PRESETS).read_text().splitlines(keepends=True)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0:
                lines[at] = lines[at] * rng.randint(0, 2)
            case 1:
                lines[at] = " " * rng.randint(0, 5) + lines[at].lstrip()
            case 2:
                column = rng.randint(0, len(lines[at]))
                lines[at] = lines[at][:column] + rng.choice(TOKENS) + lines[at][column:]
            case 3:
                lines[at] = re.sub(r":.*", lambda _: f": {rng.choice(TOKENS)}", lines[at], count=1)
            case 4:
                lines[at] = re.sub(r"\w+:", lambda _: f"{rng.choice(TOKENS)}:", lines[at], count=1)
            case 5:
                rng.shuffle(lines)
    given_file("".join(lines).encode())


@tries(10, 300)
def test_a_preset_with_other_values(given_file, rng):
    """A value replaced, deleted, moved or put deeper: never more than a line."""
    document: Any = copy.deepcopy(presets.load(str(rng.choice(PRESETS)))[0])
    odd = [None, True, -1, 0, 1e308, 2**63, 10**90, "", "x", [], {}, [[1]], {"a": {"b": 1}}, "cg0"]
    for _ in range(rng.randint(1, 3)):
        section = document
        while nested := [value for value in section.values() if isinstance(value, dict) and value]:
            if rng.random() < 0.4:
                break
            section = rng.choice(nested)
        key = rng.choice(list(section) or ["x"])
        value = section.pop(key, None)
        if rng.random() < 0.7:
            section[rng.choice([key, key, key + "s", ""])] = rng.choice([*odd, {key: value}])
    given_file(yaml.safe_dump(document).encode())


@many(50, 10_000)
def test_any_assignment(built, rng, times):
    preset = PRESETS[0].read_bytes()
    texts = st.text(max_size=30) | st.sampled_from(TOKENS)
    keys = KEYS | st.just("data.root")
    assignment = st.tuples(keys, texts).map("=".join) | texts | st.just("data.root=~nobody-here/x")
    fuzz(times, assignment, lambda text: built(preset, text), rng)


@many(40, 2_000)
def test_any_name_of_a_preset(cli, rng, times, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundled = set(presets.names())
    odd = st.sampled_from(["~nobody-here/x.yaml", "x" * 300, "/", ".yaml", "a/\0", "..", "~", "."])
    names = st.text(max_size=20).filter(lambda text: text not in bundled)
    names |= names.map(lambda text: f"{text}.yaml")
    odd |= st.just("x/" * 5_000)
    fuzz(times, names | odd, lambda name: assert_refused(cli("presets", "show", "--", name)), rng)


def test_falsy_is_not_absent(given_file):
    for text in ("method: {name: ''}", "method: {name: 0}", "methods: 0", "methods: {cg3: []}"):
        assert given_file(text.encode()) == 2
    assert given_file(b"method: {name: cg3}", "--method=") == 2
    assert given_file(b"methods:\n") == 0


def test_a_preset_deep_in_the_file_system(cli, tmp_path):
    """The name of a file is more than a label may have."""
    folder = tmp_path / ("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text("epochs: 3")
    answer = cli("presets", "show", str(folder / "small.yaml"), "--json")
    assert answer.code == 0
    assert answer.json["preset"].endswith("bbb/small.yaml")


def filled(unit: str, before: str = "", after: str = "") -> str:
    """As large as a document may be."""
    return before + unit * ((MAX_BYTES - len(before) - len(after)) // len(unit.encode())) + after


COSTLY = {
    "flow list": filled("1,", "a: [", "1]"),
    "mappings in a list": filled("{},", "a: [", "1]"),
    "keys": "".join(f"k{number}: 1\n" for number in range(20_000)),
    "long key": filled("x", "", ": 1"),
    "long scalar": filled("x", "description: "),
    "quoted scalar": filled("x", 'description: "', '"'),
    "escapes": filled("\\x41", 'description: "', '"'),
    "line ends in quotes": filled("\n", 'a: "', '"'),
    "folded lines": filled(" x\n", "a: >\n"),
    "comments": filled("#\n", "", "a: 1"),
    "directives": filled("%F a\n", "", "---\na: 1"),
    "ends of the document": filled("...\n", "a: 1\n"),
    "brackets": filled("[", "a: "),
    "tag": filled("!", "a: "),
    "anchor": filled("a", "a: &"),
    "digits": filled("9", "epochs: 1."),
    "hexadecimal": filled("f", "epochs: 0x"),
    "too large": "a" * (MAX_BYTES + 1),
    "a name": filled("x", "name: "),
    "layers": "model: {hidden: [" + "1," * 4_900 + "1]}",
    "methods": "methods: {" + ", ".join(f"cg{n}: {{tau: 1}}" for n in range(1, 950)) + "}",
    "dotted key": filled("a.", "", ": 1"),
    "all at once": filled("\\n", "#\n" * 9_000 + "x: [" + "1," * 4_000 + '"', '"]'),
}
MEASURE = """
import json, re, sys, time
from pathlib import Path
from proxprop_cli.__main__ import run
figures = {}
for file in sorted(Path(sys.argv[1]).iterdir()):
    seconds = []
    while len(seconds) < 3 and not (seconds and seconds[-1] < 1.0):
        # the first file pays for what the program imports; a busy machine may hold one try up
        start = time.process_time()
        code = run(["presets", "show", str(file)])
        seconds.append(time.process_time() - start)
    # of this program; getrusage knows that of the process it was forked from too
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
    figures[file.stem] = code, min(seconds), peak / 1024
sys.stderr.write("\\n" + json.dumps(figures))
"""


@pytest.mark.timing
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_costly_documents(tmp_path):
    """None takes a second or 200 MB, the program around it included, which loads no torch."""
    for name, text in COSTLY.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr
    figures: dict[str, tuple[int, float, float]] = json.loads(done.stderr.splitlines()[-1])
    for name, (code, seconds, megabytes) in figures.items():
        assert code in (0, 2), name
        assert seconds < SECONDS, name
        assert megabytes < MEGABYTES, name
