"""The program and what it is started in: variables, folders, a keyboard that is none."""

from __future__ import annotations

import importlib
import os
import pwd
import sys
from pathlib import Path

import pytest

from engine import filesystems
from engine.config import resolve
from engine.errors import ConfigError, StorageError
from engine.runs import Runs
from proxprop_cli import startup
from proxprop_cli.app import app
from proxprop_cli.command_class import help_of
from proxprop_cli.output import Output
from tests.cli.terminal import SMALL
from tests.dashboard.runs_helper import make_run
from tests.reliability.report import BAD_INPUT, MORE, promise


@pytest.fixture
def home(tmp_path, monkeypatch):
    importlib.import_module("matplotlib.font_manager")  # keeps a list of fonts in the home folder
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def no_home(monkeypatch):
    """Neither a variable nor an entry for this user."""

    def unknown(_):
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "PROXPROP_DIR", "PROXPROP_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


home_in_paths = promise(
    BAD_INPUT,
    "`~` in `--dir=~/runs`, in any other path or variable",
    "the home folder, exit 0; of a user that there is not: refused, exit 2",
)
no_folder = promise(
    BAD_INPUT, "an empty path, no home folder, a deleted working folder", "one line, exit 2 or 6"
)


@home_in_paths
def test_the_home_folder_in_paths(cli, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(home / "runs", id="abcd2345")
    assert cli("runs", "show", "abcd2345", "--dir=~/runs").code == 0
    assert cli("export", "abcd2345", "--dir=~/runs", "--output=~/a.csv").code == 0
    assert cli("plot", "abcd2345", "--dir=~/runs", "--output=~/a.svg").code == 0
    monkeypatch.setenv("PROXPROP_DIR", "~/runs")
    assert cli("runs", "show", "abcd2345").code == 0
    monkeypatch.setenv("PROXPROP_DATA_DIR", "~/sets")
    assert cli("diagnose", *SMALL[:4], "--data", "--csv=~/a2.csv", "-o~/a2.svg").code == 0
    found = {path.name for path in home.iterdir()}
    assert found == {"runs", "sets", "a.csv", "a.svg", "a2.csv", "a2.svg"}
    assert not (tmp_path / "~").exists()


@home_in_paths
@pytest.mark.parametrize(
    "command",
    [
        ["runs", "list", "--dir=~nobody-here/runs"],
        ["train", "--set", "data.name=imagefolder", "--set", "data.root=~nobody-here/x"],
        ["train", "--preset", "~nobody-here/x.yaml"],
    ],
    ids=lambda command: command[-1],
)
def test_the_home_of_a_user_that_there_is_not(cli, command):
    answer = cli(*command)
    assert answer.code == 2
    assert "there is no user 'nobody-here'; write ./~nobody-here" in answer.err


@no_folder
@pytest.mark.parametrize(
    "command",
    [
        ["runs", "list", "--dir", ""],
        ["train", "--data-dir="],
        ["export", "latest", "-o", ""],
        ["plot", "latest", "--output="],
        ["diagnose", "--csv="],
        ["reproduce", "usps", "-o", ""],
        ["train", "--set", "data.name=imagefolder", "--set", "data.root=''"],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_refused(cli, command):
    answer = cli(*command)
    assert answer.code == 2, answer
    assert answer.err.count("\n") == 1


@no_folder
@pytest.mark.usefixtures("no_home")
def test_without_a_home_folder(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("PROXPROP_DIR", raising=False)  # the fixture of commands sets it
    monkeypatch.chdir(tmp_path)
    answer = cli("runs", "list")
    assert answer.code == 6
    assert "give --dir or PROXPROP_DIR" in answer.err
    assert cli("runs", "list", "--dir", "~/runs").code == 6
    assert cli("runs", "list", "--dir", str(tmp_path / "runs")).code == 0
    monkeypatch.delenv("PROXPROP_DATA_DIR", raising=False)
    answer = cli("train", *SMALL, "--dir", str(tmp_path / "runs"))
    assert answer.code == 6
    assert "give --data-dir or PROXPROP_DATA_DIR" in answer.err
    assert not list(tmp_path.glob("*~*"))


@pytest.mark.usefixtures("no_home")
def test_a_home_that_is_no_absolute_path(variables):
    variables.setenv("HOME", "home")
    with pytest.raises(StorageError, match="no home folder"):
        filesystems.home_expanded("~/runs")
    variables.setenv("HOME", "")
    startup.set_variables()
    with pytest.raises(StorageError, match="no home folder"):
        filesystems.home_expanded("~/runs")


@no_folder
def test_a_deleted_working_folder(cli, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    answer = cli("train", *SMALL)
    assert answer.code == 6
    assert answer.err.count("\n") == 1
    assert "working folder" in answer.err


@pytest.fixture
def variables(monkeypatch):
    """Variables that are put back."""
    changed = ("COLUMNS", "LINES", "MPLBACKEND", "PYTHONSAFEPATH", "PYTHONPATH")
    for name in (*changed, "THP_MEM_ALLOC_ENABLE"):
        monkeypatch.setenv(name, "before")
    return monkeypatch


def test_the_size_of_a_terminal_is_not_that_of_another(variables):
    variables.setattr(startup, "_has_size", lambda descriptor: False)
    startup.set_variables()
    assert os.environ["COLUMNS"] == "before"
    variables.setattr(startup, "_has_size", lambda descriptor: descriptor == 2)
    startup.set_variables()
    assert not {"COLUMNS", "LINES"} & os.environ.keys()


def test_figures_do_not_need_the_packages_of_a_notebook(variables):
    variables.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    startup.set_variables()
    assert "MPLBACKEND" not in os.environ


def test_a_checkout_that_is_not_installed_is_found_by_its_processes(variables):
    root = str(Path(startup.__file__).parents[1])
    variables.setattr(sys, "path", [root, "/elsewhere"])
    startup.protect_children()
    assert os.environ["PYTHONPATH"] == f"{root}{os.pathsep}before"
    assert os.environ["PYTHONSAFEPATH"] == "1"
    variables.setenv("PYTHONPATH", "before")
    variables.setattr(sys, "path", ["/elsewhere", root])
    startup.protect_children()
    assert os.environ["PYTHONPATH"] == "before"


@promise(
    MORE,
    "standard input is no keyboard, or that of another job",
    "lines instead of the dashboard, and nothing is read; `watch` refuses, exit 2",
)
def test_no_dashboard_without_a_keyboard(cli, tmp_path, monkeypatch):
    make_run(tmp_path / "runs")
    monkeypatch.setattr("proxprop_cli.output.Output.terminal", lambda self: not self.as_json)
    monkeypatch.setattr("proxprop_cli.output.encoding", lambda: "utf-8")
    monkeypatch.setattr("proxprop_cli.watching.open_dashboard", None)
    monkeypatch.setattr("proxprop_cli.progress.DataProgress.__call__", lambda *_: None)
    reader, writer = os.pipe()
    os.write(writer, b"next\n")
    with open(reader) as stdin:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdin", stdin)
        watched, trained = cli("watch"), cli("train", *SMALL, "--epochs", "1")
        assert stdin.readline() == "next\n"
    os.close(writer)
    assert (trained.code, watched.code) == (0, 2)
    assert "finished after 6 steps" in trained.out
    assert "standard input" in watched.err
    assert watched.err.count("\n") == 1


def test_whose_keyboard_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert not Output.has_keyboard()
    control, device = os.openpty()
    with open(device) as stdin:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdin", stdin)
        assert Output.has_keyboard()
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
        assert not Output.has_keyboard()
    os.close(control)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["-o", "a.parquet"], "parquet"),
        (["-o", "A.PQ"], "parquet"),
        (["-o", "a.csv"], "csv"),
        (["-o", "a"], "csv"),
        (["-o", "a.csv", "--format", "parquet"], None),
        (["-o", "a.parquet", "--format", "csv"], None),
        (["-o", "a.csv", "--format", "tensorboard"], None),
    ],
    ids=lambda options: " ".join(options) if isinstance(options, list) else str(options),
)
def test_the_name_of_an_export_says_what_it_is(cli, tmp_path, monkeypatch, options, kind):
    make_run(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    answer = cli("export", "latest", *options)
    if kind is None:
        assert answer.code == 2
        assert "--format" in answer.err
        assert not Path(options[1]).exists()
        return
    assert answer.code == 0, answer.err
    assert Path(options[1]).read_bytes().startswith(b"PAR1" if kind == "parquet" else b"run,")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--epochs", "1_000"],
        ["train", "--tau=1_0"],
        ["train", "--epochs", "１０"],
        ["train", "--set", "epochs=1_000"],
        ["sweep-tau", "--tau", "1_000"],
        ["sweep-tau", "--seeds", "1_0"],
        ["diagnose", "--samples", "1_0"],
    ],
    ids=" ".join,
)
def test_numbers_are_spelled_as_in_presets(cli, arguments):
    answer = cli(*arguments)
    assert answer.code == 2, answer
    assert answer.err.count("\n") == 1


def test_a_name_may_look_like_a_number(cli, tmp_path):
    assert cli("train", *SMALL, "--epochs", "1", "--name", "2026_11").code == 0
    assert Runs(tmp_path / "runs").find("2026_11").name == "2026_11"


def test_an_empty_folder_of_data_is_refused():
    with pytest.raises(ConfigError, match=r"data\.root"):
        resolve({"data": {"name": "imagefolder", "root": ""}})


def test_help_is_there_without_docstrings(monkeypatch):
    commands = [command.callback for command in app.registered_commands]
    for group in app.registered_groups:
        commands += [command.callback for command in group.typer_instance.registered_commands]
    assert len(commands) > 15
    for command in commands:
        expected = help_of(command)
        monkeypatch.setattr(command, "__doc__", None)
        assert help_of(command) == expected
        assert expected


@pytest.mark.system
@pytest.mark.parametrize("command", [["train", "--help"], ["runs", "delete", "--help"]])
def test_help_of_an_optimised_python(cold_terminal, command):
    expected = cold_terminal(*command)
    cold_terminal.environment["PYTHONOPTIMIZE"] = "2"
    assert cold_terminal(*command) == expected
