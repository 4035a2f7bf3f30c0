"""Trainers in the background: success is told of those that train."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import typer

from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli import sitting
from proxprop_cli.output import Output
from tests.cli.terminal import SMALL
from tests.cli.trained import train_copy
from tests.dashboard.runs_helper import make_run
from tests.reliability.report import MORE, promise

failed_start = promise(
    MORE,
    "training in the background does not begin",
    "the last line that it said is shown, its exit code is that of the command",
)


class Trainer:
    """A process that runs, or has ended."""

    def __init__(self, returncode=None):
        self.returncode = returncode

    def poll(self):
        return self.returncode


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("torch warns\nproxprop: no such thing\n\n")
    return path


@failed_start
@pytest.mark.parametrize(("ended", "code"), [(4, 4), (130, 130), (-9, 1)])
def test_one_that_fails(tmp_path, log, capsys, ended, code):
    run = make_run(tmp_path)
    with pytest.raises(typer.Exit) as raised:
        sitting.wait_until_begun(run, Trainer(ended), log, Output())
    assert raised.value.exit_code == code
    assert capsys.readouterr().err == "proxprop: no such thing\n"


@pytest.mark.parametrize("ended", [0, 7])
def test_one_that_is_over_already(tmp_path, log, ended):
    sitting.wait_until_begun(make_run(tmp_path), Trainer(ended), log, Output())


def test_a_lock_alone_is_no_training(tmp_path, log, capsys, monkeypatch):
    """What it was started with may be refused yet, such as all checkpoints."""
    run = make_run(tmp_path, status="stopped")
    with StoreWriter(run.database) as writer:
        writer.append_event(3, "RunStarted", {"resumed": False})
    earlier = sitting.latest_start(run)
    looks = []

    def look(_):
        looks.append(sitting.latest_start(run))
        if len(looks) == 2:
            with StoreWriter(run.database) as writer:
                writer.append_event(9, "RunStarted", {"resumed": True})

    monkeypatch.setattr(sitting.time, "sleep", look)
    with run.lock():
        sitting.wait_until_begun(run, Trainer(), log, Output(), earlier)
    assert looks == [earlier, earlier]
    monkeypatch.setattr(sitting, "_START_SECONDS", -1.0)
    sitting.wait_until_begun(run, Trainer(), log, Output(), earlier)  # nobody has the lock
    assert "not begun" in capsys.readouterr().err


def test_one_that_waits_for_room_and_the_folder_of_a_sweep(tmp_path, log):
    run = make_run(tmp_path, status="stopped")
    folder = SimpleNamespace(is_live=lambda: True, exists=lambda: False)
    sitting.wait_until_begun(folder, Trainer(), log, Output())
    with run.lock():
        run.set_waiting(True)
        sitting.wait_until_begun(run, Trainer(), log, Output(), sitting.latest_start(run))


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_that_is_none_of_ours(cli, tmp_path, kind):
    run = make_run(tmp_path / "runs", status="stopped", epochs=9)
    kept = tmp_path / "bashrc"
    kept.write_text("export A=1\n")
    log = run.path / "train.log"
    log.symlink_to(kept) if kind == "link" else os.mkfifo(log)
    answer = cli("resume", run.id, "--detach")
    assert answer.code == 6, answer
    assert "train.log" in answer.err
    assert kept.read_text() == "export A=1\n"
    assert f"a {kind}" in sitting.last_line(log)


@failed_start
def test_a_run_whose_checkpoints_are_all_bad(terminal):
    train_copy(terminal.runs, *SMALL, "--epochs", "2", "--json")
    (run,) = Runs(terminal.runs).all()
    for path in run.checkpoints.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-5])
    answer = terminal("resume", run.id, "--epochs", "3", "--detach")
    assert answer.code == 4
    assert "can be used" in answer.err
    assert "trains in the background" not in answer.out
