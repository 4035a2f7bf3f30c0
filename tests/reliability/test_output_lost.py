"""Output that nobody takes: it ends no training, and nothing else without a word."""

from __future__ import annotations

import errno
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from engine.runs import Runs
from engine.store_reader import StoreReader
from proxprop_cli import streams
from proxprop_cli.commands.export import _StandardOutput
from proxprop_cli.exit_codes import Exit
from tests.cli.terminal import SMALL, Terminal
from tests.reliability.disk.small_disk import fill
from tests.reliability.report import FAULTS, promise
from tests.reliability.trainings import ENDLESS, TRAINING, outcome, the_run, undisturbed, until

dropped = promise(
    FAULTS,
    "output that nobody takes: a closed terminal, pipe or stream, a full disk",
    "dropped; training, checkpoints and exit code are the same as without that",
)
KINDS = {
    "full": errno.ENOSPC,
    "no reader": errno.EPIPE,
    "terminal gone": errno.EIO,
    "closed": errno.EBADF,
}
SHORT = [*SMALL, "--epochs", "2"]


@contextmanager
def dead_end(kind):
    """A descriptor that takes nothing."""
    if kind == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    elif kind == "no reader":
        reader, descriptor = os.pipe()
        os.close(reader)
    elif kind == "terminal gone":
        control, descriptor = pty.openpty()
        os.close(control)
    else:
        descriptor = os.open(os.devnull, os.O_RDONLY)  # says the same as one that is not open
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def lost(cli, monkeypatch):
    """A command in this process whose standard output, and maybe error, takes nothing."""

    def call(kind, *arguments, both=False):
        with dead_end(kind) as descriptor, monkeypatch.context() as patch:
            for name in ("stdout", "stderr") if both else ("stdout",):
                patch.setattr(sys, name, streams.open_stream(descriptor))
            return cli(*arguments)

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_takes_everything_and_says_once_what_it_dropped(kind, monkeypatch):
    with dead_end(kind) as descriptor, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams.open_stream(descriptor))
        assert streams.output_failure() is None
        sys.stdout.write("x" * 100_000 + "\n")
        assert streams.output_failure().errno == KINDS[kind]
        assert [note.partition(":")[0] for note in streams.take_notes()] == ["standard output"]
        sys.stdout.write("more\n")
        assert streams.take_notes() == []


def test_what_there_is_room_for_later_is_written(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file:
        stream = streams.open_stream(file.fileno())
        with longest_file(10):
            stream.write("much too long\n")
        stream.write("later\n")
    assert path.read_bytes() == b"much too llater\n"


@contextmanager
def longest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_pipe_that_never_waits_is_waited_for(monkeypatch):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    parts = []
    room = SimpleNamespace(select=lambda *_: parts.append(os.read(reader, 1 << 20)))
    monkeypatch.setattr(streams, "select", room)
    stream = streams.open_stream(writer)
    stream.write("x" * 200_000 + "\n")
    parts.append(os.read(reader, 1 << 20))
    assert b"".join(parts) == b"x" * 200_000 + b"\n"
    assert stream.buffer.raw.failure is None
    os.close(reader)
    os.close(writer)


@dropped
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on(cli, lost, tmp_path, kind, both):
    expected = undisturbed(cli, tmp_path / "undisturbed", *SHORT)
    answer = lost(kind, "train", *SHORT, both=both)
    assert answer.code == 0, answer.err
    run = Runs(tmp_path / "runs").find("latest")
    assert outcome(run) == expected
    with StoreReader(run.database) as reader:
        noted = [event for event in reader.events() if event.kind == "Warned"]
    assert len([one for one in noted if "standard output" in one.payload["text"]]) == 1
    told = [line for line in answer.err.splitlines() if "standard output" in line]
    assert len(told) == (0 if both or kind == "no reader" else 1)


def test_a_sweep_and_its_table_go_on(lost, tmp_path):
    options = ["--tau", "1,0.1", "--methods", "cg3", "--seeds", "1", "--epochs", "1"]
    answer = lost("no reader", "sweep-tau", *SMALL, *options, both=True)
    assert answer.code == 0
    assert [run.status() for run in Runs(tmp_path / "runs").all()] == ["finished"] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [["runs", "list"], ["presets", "list", "--json"], ["--help"]])
def test_what_is_there_to_be_read_says_that_it_was_not(lost, kind, command):
    answer = lost(kind, *command)
    if kind == "no reader":
        assert (answer.code, answer.err) == (Exit.ERROR, "")
        return
    assert answer.code == Exit.STORAGE
    assert answer.err.count("\n") == 1
    assert answer.err.startswith(f"proxprop: standard output: {os.strerror(KINDS[kind])}")


def test_an_export_that_nobody_reads_ends_at_once(monkeypatch):
    with dead_end("no reader") as descriptor, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams.open_stream(descriptor, by_line=False))
        target = _StandardOutput()
        lines = ("a line of some length\n" for _ in range(1000))
        with pytest.raises(BrokenPipeError):
            list(map(target.write, lines))
        assert len(list(lines)) > 100
        sys.stdout.flush()


@dropped
@pytest.mark.parametrize("redirected", [">/dev/full", "<&- >&- 2>&-", "| head -3"])
def test_training_from_a_shell_goes_on(cold_terminal, tmp_path, redirected):
    expected = undisturbed(Terminal(tmp_path / "other"), tmp_path / "undisturbed", *TRAINING)
    line = f"{shlex.join(cold_terminal.command('train', *TRAINING, '--plain'))} {redirected}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=cold_terminal.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search("Traceback|internal error", done.stderr)
    assert outcome(the_run(cold_terminal)) == expected


@dropped
def test_a_terminal_is_closed(terminal):
    control, device = pty.openpty()
    streams = {"stdin": device, "stdout": device, "stderr": device}
    process = terminal.start("train", *ENDLESS, "--plain", **streams, start_new_session=True)
    os.close(device)
    run = Runs(terminal.runs).find(terminal.wait_for_steps())
    os.close(control)
    process.send_signal(signal.SIGHUP)
    step = terminal("runs", "show", run.id, "--json").json["steps"]
    terminal.wait_for_steps(step + 50)
    assert terminal("stop", run.id, "--json").json["status"] == "stopped"
    assert process.wait(60) == 0


@dropped
def test_the_log_is_on_a_full_disk(small_disk, tmp_path):
    terminal = Terminal(small_disk / "runs")
    expected = undisturbed(terminal, tmp_path / "undisturbed", *TRAINING)
    started = terminal("train", *TRAINING, "--detach", "--json")
    assert started.code == 0, started.err
    run = Runs(terminal.runs).find(started.json["run"])
    fill(small_disk / "filler")
    until(lambda: run.is_waiting() or not run.is_live())
    (small_disk / "filler").unlink()
    until(lambda: not run.is_live())
    assert outcome(run) == expected
