"""Whatever is written where a run is meant: one line, and nothing on the disk is touched."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import strategies as st

from engine.runs import Runs
from proxprop_cli import sitting
from proxprop_cli.__main__ import main
from tests.dashboard.runs_helper import make_run
from tests.dashboard.sweep_helper import Made, make_sweep
from tests.fuzz.common import assert_decent, assert_refused, fuzz
from tests.reliability.report import many

RUN, SWEEP, NAME = "healthyq", "sweep-zzz", "my label"
COMMANDS = [
    ("runs", "show"),
    ("export",),
    ("pause",),
    ("resume",),
    ("stop",),
    ("watch",),
    ("runs", "delete", "--yes"),
]
HOSTILE = [
    *("..", ".", "/", "../outside", "../outside/kept", "/etc/passwd", "~", "~root", "a/../b"),
    *(f"../runs/{RUN}", f"./{RUN}", f"{RUN}/", f"{RUN}/config.yaml", f"{RUN}\0", f"{RUN} ", "*"),
    *(f"{SWEEP}/", f"{SWEEP}\n", ".new-x", ".hidden", "linked", "dangling", "file", "folder"),
    *("\0", "\x1b[2J", "\x1b]0;x\x07", "\u202ex", "\udcff", "\ufeff", "a\nb", "\r", "-", "--", ""),
    *("x" * 64, "x" * 65, "x" * 100_000, "-1", "$(id)", "%s", "{0}", "ＨＥＡＬＴＨＹＱ", "latest "),
]
OPTIONS = ("", "-", "json", "plain", "force")
TEXTS = st.text(max_size=30) | st.sampled_from(HOSTILE)
TEXTS |= st.lists(st.sampled_from([*HOSTILE[:9], RUN, SWEEP, "/"]), max_size=4).map("".join)
LABELS = st.text(st.characters(), min_size=1, max_size=40) | st.sampled_from(HOSTILE[:-9])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run and a sweep of a run that was not made, beside links and what is no run."""
    root = tmp_path / "runs"
    make_run(root, id=RUN, name=NAME, steps=3, per_epoch=1)
    make_sweep(root, [("exact", 1.0, 0, Made(None))], id=SWEEP)
    outside = tmp_path / "outside" / "kept"
    outside.mkdir(parents=True)
    (outside / "config.yaml").write_text("epochs: 1")
    (root / "linked").symlink_to(outside)
    (root / "dangling").symlink_to(tmp_path / "nothing")
    (root / "file").write_text("kept")
    (root / "folder").mkdir()
    (root / ".hidden").mkdir()
    return root


@pytest.fixture
def dashboards(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """``watch`` finds a terminal, and a dashboard that only notes that it was opened."""
    opened: list[object] = []
    monkeypatch.setattr("proxprop_cli.output.Output.terminal", lambda output: True)
    monkeypatch.setattr("proxprop_cli.watching.open_dashboard", lambda *a, **k: opened.append(a))
    return opened


def content_of(folder: Path) -> dict[str, object]:
    """Every file below a folder with its content; times of files are not looked at."""
    found: dict[str, object] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            # SQLite makes these for a reader
            if not name.endswith(("-wal", "-shm")):
                link = path.readlink() if path.is_symlink() else None
                found[str(path)] = link or (path.read_bytes() if path.is_file() else "folder")
    return found


def means_something(text: str) -> bool:
    """Whether a run or sweep is meant by the text: then the command is right to do as it is told.

    ``--debug`` and the like are options wherever they stand.
    """
    whole = text in ("latest", NAME, "--debug")
    return whole or (bool(text) and any(id.startswith(text) for id in (RUN, SWEEP)))


@many(15, 500)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_means_no_run(cli, root, tmp_path, dashboards, command, rng, times):
    before = content_of(tmp_path)

    def check(text: str) -> None:
        if not means_something(text):
            assert_refused(cli(*command, "--", text))

    fuzz(times, TEXTS, check, rng)
    assert content_of(tmp_path) == before
    assert not dashboards


@many(10, 300)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_one_wrong_spoils_all(cli, root, tmp_path, dashboards, command, rng, times):
    """Beside a run that is there, and as an option that is not."""
    before = content_of(tmp_path)

    def check(text: str) -> None:
        if not means_something(text):
            assert_refused(cli(*command, RUN, f"--{text}".replace("--help", "")))
            if command[0] in ("export", "watch") or "--yes" in command:
                assert_refused(cli(*command, "--", RUN, text))

    fuzz(times, TEXTS.filter(lambda text: text not in OPTIONS), check, rng)
    assert content_of(tmp_path) == before
    assert not dashboards


@many(20, 500)
def test_sweep_ids_in_files(cli, root, rng, times):
    """The id of a run in a sweep's file becomes a path: it never leads out of the folder."""
    path = root / SWEEP / "sweep.json"
    document = json.loads(path.read_text())

    def check(text: str) -> None:
        document["cells"][0]["run"] = text
        path.write_text(json.dumps(document))
        for command in (("runs", "sweeps"), ("runs", "show", SWEEP), ("runs", "delete", "-y")):
            answer = cli(*command, *([SWEEP] if "-y" in command else []))
            assert_decent(answer, (0, 6))
        path.parent.mkdir(exist_ok=True)

    fuzz(times, TEXTS.filter(lambda text: text != RUN), check, rng)
    assert (root.parent / "outside" / "kept" / "config.yaml").exists()
    assert Runs(root).find(RUN).config().name == NAME


@many(3, 200)
def test_any_name(cli, tmp_path, rng, times, monkeypatch):
    """A name is kept as it is, shown escaped, finds its run, and is nowhere on the disk."""
    monkeypatch.setattr(sitting, "prepare", lambda *_: None)
    monkeypatch.setattr(sitting, "train", lambda *_, **__: 0)
    root = tmp_path / "runs"

    def check(name: str) -> None:
        answer = cli("train", "--plain", f"--name={name}")
        if "Cs" in map(unicodedata.category, name):
            assert_refused(answer)  # bytes that are not UTF-8 come as these
            return
        assert_decent(answer, (0,))
        (run,) = Runs(root).all()
        assert run.name == run.config().name == name
        assert [path.name for path in root.iterdir()] == [run.id]
        for command in (("runs", "list"), ("runs", "show", run.id)):
            assert_decent(cli(*command), (0,))
            assert_decent(cli(*command, "--json"), (0,))
        (shown,) = cli("runs", "list", "--json").json["runs"]
        assert shown["name"] == name
        clash = name == "latest" or name.startswith("-")
        if not clash:
            assert_decent(cli("runs", "show", name), (0,))
        out = tmp_path / "out.csv"
        assert_decent(cli("export", run.id, "--force", "-o", str(out)), (0,))
        header = next(csv.reader(io.StringIO(out.read_text())))
        assert header == ["run", "name", "step", "key", "value"]
        assert cli("runs", "delete", "--yes", run.id).code == 0
        assert not list(root.iterdir())

    # no shell can give a NUL
    fuzz(times, LABELS.filter(lambda name: 0 < len(name) <= 200 and "\0" not in name), check, rng)


def test_a_name_that_the_terminal_has_no_letters_for(tmp_path, monkeypatch, capfdbinary):
    """Also where standard output takes ASCII only, every run is listed."""
    make_run(tmp_path, name="läuft ✖", steps=1, per_epoch=1)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")  # which is set otherwise
    monkeypatch.setattr("sys.argv", ["proxprop", "runs", "list", "--dir", str(tmp_path)])
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert b"l\\xe4uft" in capfdbinary.readouterr().out
