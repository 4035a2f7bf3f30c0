"""Modules in the working folder with the names of ours, or of Python's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runs import Runs
from tests.cli.terminal import SMALL
from tests.reliability.report import MORE, promise
from tests.reliability.trainings import until

ROOT = Path(__file__).parents[2]
NAMES = ("engine", "json", "queue", "random", "socket", "torch", "typer", "yaml")


@pytest.fixture
def research(tmp_path):
    """A folder with code of somebody's, all of which would be the end of us."""
    folder = tmp_path / "research"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"raise SystemExit('this is another {name}')\n")
    (folder / "proxprop_cli.py").write_text("raise SystemExit('this is another program')\n")
    return folder


@pytest.fixture
def script(tmp_path):
    """As the script that is installed, for which the working folder is no place of modules."""
    path = tmp_path / "bin" / "script.py"
    path.parent.mkdir()
    path.write_text(
        "from proxprop_cli.__main__ import main\nif __name__ == '__main__':\n    main()\n"
    )
    return path


@promise(
    MORE,
    "an `engine.py`, `random.py` or any other module lies in the working folder",
    "our processes import our own and those of Python",
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", *SMALL, "--epochs", "2", "--detach"],
        [
            "sweep-tau",
            *SMALL,
            "--epochs",
            "1",
            "--tau",
            "1,0.1",
            "--methods",
            "cg3",
            "--seeds",
            "1",
        ],
    ],
    ids=lambda arguments: arguments[0],
)
def test_processes_import_our_modules(cold_terminal, research, script, arguments):
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=research,
        env=cold_terminal.environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "this is another" not in done.stderr
    for run in Runs(cold_terminal.runs).all():
        until(lambda run=run: not run.is_live())
        assert run.status() == "finished"


def test_a_module_that_is_looked_for_in_the_working_folder(cold_terminal, research):
    """As torchrun does."""
    (research / "proxprop_cli.py").unlink()
    done = subprocess.run(
        cold_terminal.command("train", *SMALL, "--epochs", "1"),
        cwd=research,
        env=cold_terminal.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "finished after 6 steps" in done.stdout


def test_a_checkout_that_is_not_installed(cold_terminal, tmp_path):
    """Its own folder is where it is looked for, also by the processes that it starts."""
    for name in ("engine", "proxprop_cli", "presets"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name)
    marked = tmp_path / "checkout" / "proxprop_cli" / "commands" / "resume.py"
    marked.write_text(
        marked.read_text() + "\nimport sys\nsys.stderr.write(f'here: {__file__}\\n')\n"
    )
    done = subprocess.run(
        cold_terminal.command("train", *SMALL, "--epochs", "1", "--detach"),
        cwd=tmp_path / "checkout",
        env=cold_terminal.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (run,) = Runs(cold_terminal.runs).all()
    until(lambda: not run.is_live())
    assert run.status() == "finished"
    assert f"here: {marked}" in (run.path / "train.log").read_text()
