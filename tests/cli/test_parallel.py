"""Real jobs of torchrun: the same run as by one process, stopped, killed and gone on with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from engine.runs import Runs
from engine.store_reader import StoreReader
from tests.cli.terminal import SMALL

LONG = [*SMALL, "--epochs", "100000", "--set", "log.checkpoint_epochs=1"]
PATIENCE = 240.0
"""Seconds for whatever should take a few: several processes import torch at once."""
MOST = 60.0
"""Seconds a job may live on after one of its processes has died: a few, where nothing else runs."""


@pytest.fixture
def job(terminal):
    """Starts a command by several processes; what is left of them in the end is killed."""
    started = []

    def start(processes, *arguments, nodes=("--standalone",)):
        torchrun = ["-m", "torch.distributed.run", *nodes]
        torchrun += ["--nproc-per-node", str(processes), "-m", "proxprop_cli"]
        python, *_ = terminal.command()
        process = subprocess.Popen(
            [python, *torchrun, *arguments],
            env={**terminal.environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)


def members(process):
    """Process ids of the job's processes, by rank."""
    found = {}
    for child in subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split():
        settings = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        names = dict(setting.split(b"=", 1) for setting in settings if b"=" in setting)
        if b"RANK" in names:
            found[int(names[b"RANK"])] = int(child)
    return found


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
        assert found[key] == pytest.approx(value, rel=relative, abs=1e-5), key


def one_alone(terminal, *options):
    """All rows of a run of one process, which is not kept."""
    answer = terminal("train", *options, "--json")
    assert answer.code == 0, answer.err
    found = rows(terminal, answer.json["run"])
    Runs(terminal.runs).delete(Runs(terminal.runs).find(answer.json["run"]))
    return found


@pytest.mark.timeout(900)
def test_killed_and_gone_on_with_by_another_number(terminal, job):
    """Two processes, one of which is killed, then one: the same as by one alone."""
    options = [*SMALL, "--epochs", "40", "--method", "cg3", "--set", "log.keep=2"]
    expected = one_alone(terminal, *options)
    process = job(2, "train", *options)
    run = terminal.wait_for_steps(20, PATIENCE)
    began = time.monotonic()
    os.kill(members(process)[1], signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < MOST
    assert process.returncode != 0
    assert len(said(err)) == 1, err
    assert "another process of this job has ended" in err
    assert out.startswith(f"run {run}")
    assert terminal("runs", "show", run, "--json").json["status"] == "interrupted"
    refused = terminal("resume", run)
    assert refused.code == 4
    assert "processes was 2, is 1" in refused.err
    resumed = terminal("resume", run, "--allow-inexact", "--json")
    assert resumed.json["status"] == "finished"
    assert_close(rows(terminal, run), expected)


@pytest.mark.timeout(900)
def test_an_interrupt_keeps_the_state(terminal, job):
    process = job(2, "train", *LONG)
    run = terminal.wait_for_steps(20, PATIENCE)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert said(err) == []
    assert "stopped (SIGINT)" in out
    shown = terminal("runs", "show", run, "--json").json
    assert (shown["status"], shown["reason"]) == ("stopped", "SIGINT")
    assert shown["checkpoints"][0] == shown["steps"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_machine_that_is_taken_away_stops_all(terminal, job):
    """Two torchruns, as on two machines; the one without rank 0 is told to end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    first, second = (
        job(1, "train", *LONG, nodes=[*where, "--node-rank", str(rank)]) for rank in range(2)
    )
    run = terminal.wait_for_steps(20, PATIENCE)
    second.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=PATIENCE)
    assert "stopped (SIGTERM)" in out, err
    shown = terminal("runs", "show", run, "--json").json
    assert (shown["status"], shown["reason"]) == ("stopped", "SIGTERM")
    assert shown["checkpoints"][0] == shown["steps"]


@pytest.mark.timeout(900)
def test_what_several_can_not_do_is_said_once_before_there_is_a_run(terminal, job):
    process = job(2, "train", *SMALL, "--method", "kfac")
    _, err = process.communicate(timeout=PATIENCE)
    (line,) = said(err)
    assert "'kfac' is not for several processes" in line
    assert "exitcode  : 2" in err
    assert not any(terminal.runs.glob("[!.]*"))


@pytest.mark.timeout(900)
def test_a_time_limit_is_one_for_all_and_rank_0_alone_writes(terminal, job, tmp_path):
    """Two torchruns, as on two machines, each with a folder for runs; checkpoints all the time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    options = [*SMALL, "--epochs", "100000", "--max-seconds", "1"]
    options += ["--set", "log.checkpoint_minutes=0.0001"]
    processes = []
    for rank, folder in enumerate((terminal.runs, tmp_path / "elsewhere")):
        nodes = [*where, "--node-rank", str(rank)]
        processes.append(job(1, "train", *options, "--dir", str(folder), nodes=nodes))
    for process in processes:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert said(err) == []
    shown = terminal("runs", "show", terminal.only_run(), "--json").json
    assert (shown["status"], shown["reason"]) == ("finished", "time limit")
    assert shown["checkpoints"][0] == shown["steps"]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.timeout(900)
def test_a_divergence_is_one_for_all(terminal, job):
    options = [*SMALL, "--epochs", "40", "--tau", "1e6", "--fail-on-divergence"]
    process = job(2, "train", *options)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "diverged" in out
    assert "exitcode  : 7" in err
    shown = terminal("runs", "show", terminal.only_run(), "--json").json
    alone = terminal("train", *options, "--json")
    assert alone.code == 7
    assert (shown["status"], shown["steps"]) == ("diverged", alone.json["steps"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_go_on_to_the_byte_paused_and_stopped_from_elsewhere(terminal, job, optimizer):
    options = [*SMALL, "--epochs", "40", "--method", "cg3", "--set", f"optimizer.name={optimizer}"]
    whole = job(2, "train", *options)
    whole.communicate(timeout=PATIENCE)
    assert whole.returncode == 0
    run = terminal.only_run()
    expected = weights(terminal, run), rows(terminal, run)
    Runs(terminal.runs).delete(Runs(terminal.runs).find(run))
    process = job(2, "train", *options)
    run = terminal.wait_for_steps(20, PATIENCE)
    for pid in members(process).values():
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    going = job(2, "resume", run)
    going.communicate(timeout=PATIENCE)
    assert going.returncode == 0
    assert (weights(terminal, run), rows(terminal, run)) == expected
    going = job(2, "resume", run, "--epochs", "100000")
    terminal.wait_for_steps(250, PATIENCE)
    assert terminal("pause", run, "--json").json["status"] == "paused"
    assert terminal("resume", run).out.startswith(f"run {run} goes on")
    assert terminal("stop", run, "--json").json["status"] == "stopped"
    out, err = going.communicate(timeout=PATIENCE)
    assert going.returncode == 0, err
    assert "going on from step 240" in out
    assert "paused after step" in out
    again = job(2, "resume", run, "--epochs", "50")
    _, err = again.communicate(timeout=PATIENCE)
    assert len(said(err)) == 1, err
    assert "exitcode  : 2" in err


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("method", ["exact", "cg3", "backprop", "muon"])
@pytest.mark.parametrize("preset", ["digits-mlp", "digits-convnet"])
def test_a_run_by_several_is_the_one_of_one(terminal, job, preset, method, processes):
    """103 samples a step and a last batch that does not divide either."""
    options = ["--preset", preset, "--method", method, "--epochs", "3", "--batch-size", "103"]
    options += ["--device", "cpu"]
    expected = one_alone(terminal, *options)
    process = job(processes, "train", *options, "--json")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert said(err) == []
    assert len(out.splitlines()) == 1
    # Muon makes its steps in bfloat16, which has three digits
    relative = 0.05 if method == "muon" else 1e-3
    assert_close(rows(terminal, terminal.only_run()), expected, relative)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("rank", [0, 3])
def test_a_job_ends_with_any_of_its_processes(terminal, job, rank, number):
    """SIGTERM is a wish: rank 0 keeps the state; the others leave it to rank 0."""
    process = job(4, "train", *LONG)
    run = terminal.wait_for_steps(20, PATIENCE)
    began = time.monotonic()
    if (rank, number) == (3, signal.SIGTERM):
        os.kill(members(process)[rank], number)
        time.sleep(1)
        assert process.poll() is None
        rank = 0
    os.kill(members(process)[rank], number)
    _, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < MOST
    expected = "interrupted" if number is signal.SIGKILL else "stopped"
    assert terminal("runs", "show", run, "--json").json["status"] == expected
    assert len(said(err)) == (number is signal.SIGKILL), err
