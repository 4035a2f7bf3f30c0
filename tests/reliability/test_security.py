"""What the program must never do, looked for in its source; and who may read its files."""

from __future__ import annotations

import ast
import stat
from pathlib import Path

import pytest

from engine.runs import Runs
from tests.cli.terminal import SMALL
from tests.reliability.report import MORE, promise

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "engine").rglob("*.py"), *(ROOT / "proxprop_cli").rglob("*.py")])
MODULES = {"pickle", "marshal", "shelve", "dill", "joblib", "socketserver", "http.server", "ftplib"}
CALLS = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "torch.load",
    "np.load",  # it reads pickles where it may
    "yaml.load",
    "yaml.unsafe_load",
    "socket.socket",
    "socket.create_server",
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [name for name in names if name in MODULES]
        if isinstance(node, ast.Call):
            options = {keyword.arg: keyword.value for keyword in node.keywords}
            call = dotted(node.func)
            allowed = "allow_pickle" in options and not _is_true(options["allow_pickle"])
            if call in CALLS and not (call == "np.load" and allowed):
                found.append(call)
            if _is_true(options.get("shell")) or _is_true(options.get("allow_pickle")):
                found.append(f"{call} with a shell or pickles")
            if call.endswith((".extract", ".extractall")) and "filter" not in options:
                found.append(f"{call} without a filter")
    return [f"{path.name}: {name}" for name in found]


def _is_true(node: ast.expr | None) -> bool:
    return node is not None and not (isinstance(node, ast.Constant) and node.value is False)


@promise(MORE, "pickles, shells, `eval`, servers, unfiltered archives", "none in the source")
def test_the_source():
    assert len(SOURCES) > 100
    assert [fault for path in SOURCES for fault in faults(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from http.server import HTTPServer",
        "import torch; torch.load(p)",
        "np.load(p, allow_pickle=True)",
        "np.load(p)",
        "subprocess.run(c, shell=True)",
        "archive.extractall(p)",
        "eval(text)",
    ],
)
def test_such_a_fault_would_be_found(tmp_path, text):
    path = tmp_path / "x.py"
    path.write_text(text)
    assert faults(path)


@promise(MORE, "who may read a run", "its owner alone: folders 0700, files 0600")
def test_modes(cli, tmp_path):
    assert cli("train", *SMALL, "--epochs", "2", "--method", "cg3").code == 0
    run = Runs(tmp_path / "runs").find("latest")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [run.path, *run.path.rglob("*")]}
    assert {modes[path] for path in modes if path.is_dir()} == {0o700}
    assert {modes[path] for path in modes if path.is_file()} == {0o600}
