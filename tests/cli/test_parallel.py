"""Real jobs of torchrun, whose processes are killed and told to stop. What a run of several
processes comes to is proved by threads, in tests/engine/parallel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from engine.runs import Runs
from engine.store_reader import StoreReader
from tests.cli.terminal import SMALL, start
from tests.reliability.trainings import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

LONG = [*SMALL, "--epochs", "100000", "--set", "log.checkpoint_epochs=1"]
PATIENCE = 240.0
"""Seconds for whatever should take a few."""
MOST = 60.0
"""Seconds a job may live on after one of its processes has died: a few, where nothing else runs."""


class Job:
    """A command by the processes of one torchrun.

    :param folder: where they leave their process ids, and would leave runs that rank 0 alone keeps.
    """

    def __init__(self, terminal, folder, processes, *arguments, nodes=("--standalone",)):
        self._folder = folder
        folder.mkdir()
        torchrun = ["-m", "torch.distributed.run", *nodes, "--nproc-per-node", str(processes)]
        # torchrun's own way to start Python adds an option that the warm server does not know
        member = ["--no-python", sys.executable, "-m", "tests.cli.job_member", str(folder)]
        self.process = start(
            [sys.executable, *torchrun, *member, *arguments],
            env=terminal.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def pid(self, rank):
        """Process id of one of them, once it has started."""
        until(lambda: (self._folder / str(rank)).exists(), PATIENCE)
        return int((self._folder / str(rank)).read_text())

    def end(self, timeout=PATIENCE):
        """Wait; return its exit code and what it said."""
        out, err = self.process.communicate(timeout=timeout)
        assert not list(self._folder.glob("runs of *")), "rank 0 alone keeps runs"
        return self.process.returncode, out, err


@pytest.fixture
def job(terminal, tmp_path):
    """Starts a command by several processes; what is left of them in the end is told to stop."""
    started = []

    def start_job(*arguments, **options):
        started.append(Job(terminal, tmp_path / f"job{len(started)}", *arguments, **options))
        return started[-1]

    yield start_job
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(timeout=60)


def rows(terminal, run):
    """All that does not depend on the clock, nor on the form in which a system was solved."""
    with StoreReader(Runs(terminal.runs).find(run).database) as reader:
        return {
            (step, key): value
            for step, key, value, *_ in reader.rows()
            if not key.startswith("time/") and key != "work"
        }


def weights(terminal, run):
    """The newest checkpoint's tensors, as bytes."""
    return max(Runs(terminal.runs).find(run).checkpoints.glob("*.safetensors")).read_bytes()


def said(answer):
    """What the program has said, without torchrun's own words."""
    return [line for line in answer.splitlines() if line.startswith("proxprop:")]


def assert_close(found, expected, relative=1e-3):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # a sample on the verge may be seen otherwise
        close = 0.02 if key[1].endswith("accuracy") else 1e-5
        assert found[key] == pytest.approx(value, rel=relative, abs=close), key


def one_alone(terminal, *options):
    """All rows of a run of one process."""
    answer = terminal("train", *options, "--json")
    assert answer.code == 0, answer.err
    return rows(terminal, answer.json["run"])


def test_interrupted_killed_and_continued_by_another_number(terminal, job):
    """Two processes are interrupted, two of which one is killed, then one: the same as by one."""
    options = [*LONG, "--method", "cg3", "--set", "log.keep=2"]
    first = job(2, "train", *options)
    run = terminal.wait_for_steps(20, PATIENCE)
    first.process.send_signal(signal.SIGINT)
    code, out, err = first.end()
    assert code != 0
    assert said(err) == []
    assert out.startswith(f"run {run}")
    assert "stopped (SIGINT)" in out
    shown = terminal("runs", "show", run, "--json").json
    assert (shown["status"], shown["reason"]) == ("stopped", "SIGINT")
    assert shown["checkpoints"][0] == shown["steps"]

    second = job(2, "resume", run)
    terminal.wait_for_steps(shown["steps"] + 20, PATIENCE)
    os.kill(second.pid(1), signal.SIGKILL)
    code, out, err = second.end(MOST)
    assert code != 0
    assert len(said(err)) == 1, err
    assert "another process of this job has ended" in err
    assert f"going on from step {shown['steps']}" in out
    shown = terminal("runs", "show", run, "--json").json
    assert shown["status"] == "interrupted"
    epochs = shown["epoch"] + 2
    killed = Runs(terminal.runs).find(run)
    killed.save_config(killed.config().model_copy(update={"epochs": epochs}))
    refused = terminal("resume", run)
    assert refused.code == 4
    assert "processes was 2, is 1" in refused.err
    resumed = terminal("resume", run, "--allow-inexact", "--json")
    assert resumed.json["status"] == "finished"
    assert_close(rows(terminal, run), one_alone(terminal, *options, "--epochs", str(epochs)))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--method", "kfac"], 2, ["'kfac' is not for several processes"]),
        (["--epochs", "40", "--tau", "1e6", "--fail-on-divergence"], 7, []),
    ],
    ids=["refusal", "divergence"],
)
def test_all_processes_leave_with_one_code_and_say_why_once(terminal, job, options, code, words):
    ended, out, err = job(2, "train", *SMALL, *options).end()
    assert ended != 0
    assert f"exitcode  : {code}" in err
    assert len(said(err)) == len(words), err
    assert all(word in err for word in words)
    if words:
        assert not any(terminal.runs.glob("[!.]*"))
    else:
        assert "diverged at step" in out
        shown = terminal("runs", "show", terminal.only_run(), "--json").json
        assert shown["status"] == "diverged"


# The rest is for make soak.


@pytest.fixture
def two_machines():
    """Options of two torchruns that are one job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [[*where, "--node-rank", str(rank)] for rank in range(2)]


@pytest.mark.slow
def test_a_machine_that_is_taken_away_stops_all(terminal, job, two_machines):
    """The machine without rank 0 is told to end."""
    first, second = (job(1, "train", *LONG, nodes=nodes) for nodes in two_machines)
    run = terminal.wait_for_steps(20, PATIENCE)
    second.process.send_signal(signal.SIGTERM)
    _, out, err = first.end()
    assert "stopped (SIGTERM)" in out, err
    shown = terminal("runs", "show", run, "--json").json
    assert (shown["status"], shown["reason"]) == ("stopped", "SIGTERM")
    assert shown["checkpoints"][0] == shown["steps"]


def test_a_time_limit_is_one_for_all_machines(terminal, job, two_machines):
    """With checkpoints all the time."""
    options = [*SMALL, "--epochs", "100000", "--max-seconds", "1"]
    options += ["--set", "log.checkpoint_minutes=0.0001"]
    for one in [job(1, "train", *options, nodes=nodes) for nodes in two_machines]:
        code, _, err = one.end()
        assert code == 0, err
        assert said(err) == []
    shown = terminal("runs", "show", terminal.only_run(), "--json").json
    assert (shown["status"], shown["reason"]) == ("finished", "time limit")
    assert shown["checkpoints"][0] == shown["steps"]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_continue_to_the_byte_paused_and_stopped_from_elsewhere(terminal, job, optimizer):
    options = [*SMALL, "--epochs", "40", "--method", "cg3", "--set", f"optimizer.name={optimizer}"]
    assert job(2, "train", *options).end()[0] == 0
    run = terminal.only_run()
    expected = weights(terminal, run), rows(terminal, run)
    Runs(terminal.runs).delete(Runs(terminal.runs).find(run))
    killed = job(2, "train", *options)
    run = terminal.wait_for_steps(20, PATIENCE)
    for rank in range(2):
        os.kill(killed.pid(rank), signal.SIGKILL)
    killed.end()
    assert job(2, "resume", run).end()[0] == 0
    assert (weights(terminal, run), rows(terminal, run)) == expected
    endless = job(2, "resume", run, "--epochs", "100000")
    terminal.wait_for_steps(250, PATIENCE)
    assert terminal("pause", run, "--json").json["status"] == "paused"
    assert terminal("resume", run).out.startswith(f"run {run} goes on")
    assert terminal("stop", run, "--json").json["status"] == "stopped"
    code, out, err = endless.end()
    assert code == 0, err
    assert "going on from step 240" in out
    assert "paused after step" in out
    _, _, err = job(2, "resume", run, "--epochs", "50").end()
    assert len(said(err)) == 1, err
    assert "exitcode  : 2" in err


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("method", ["exact", "cg3", "backprop", "muon"])
@pytest.mark.parametrize("preset", ["digits-mlp", "digits-convnet"])
def test_a_run_by_several_is_the_one_of_one(terminal, job, preset, method, processes):
    """103 samples a step and a last batch that does not divide either."""
    options = ["--preset", preset, "--method", method, "--epochs", "3", "--batch-size", "103"]
    options += ["--device", "cpu"]
    code, out, err = job(processes, "train", *options, "--json").end()
    assert code == 0, err
    assert said(err) == []
    assert len(out.splitlines()) == 1
    found = rows(terminal, terminal.only_run())
    # Muon makes its steps in bfloat16, which has three digits
    relative = 0.05 if method == "muon" else 1e-3
    assert_close(found, one_alone(terminal, *options), relative)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("rank", [0, 3])
def test_a_job_ends_with_any_of_its_processes(terminal, job, rank, number):
    """By SIGTERM it stops, with its state kept by rank 0."""
    running = job(4, "train", *LONG)
    run = terminal.wait_for_steps(20, PATIENCE)
    os.kill(running.pid(rank), number)
    _, _, err = running.end(MOST)
    expected = "interrupted" if number is signal.SIGKILL else "stopped"
    assert terminal("runs", "show", run, "--json").json["status"] == expected
    assert len(said(err)) == (number is signal.SIGKILL), err
