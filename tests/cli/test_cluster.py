"""Sweeps on a Ray cluster as a user runs them: real processes, killed and gone on with."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from engine.cells import read_cell
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from tests.cli.ray_cluster import QUIET, Cluster, Process, cluster, join, processes, ray_is_there
from tests.cli.terminal import SMALL, Answer, Terminal, end
from tests.cli.test_sweep import figures, only_sweep, trained_steps, wait_for
from tests.reliability.report import FAULTS, MORE, many, promise
from tests.reliability.trainings import outcome

pytestmark = [ray_is_there, pytest.mark.timeout(600)]

GRID = [*SMALL, "--set", "threads=1", "--plain"]
LONG = [*GRID, "--methods", "backprop", "--epochs", "200", "--set", "log.checkpoint_epochs=10"]
"""Runs of some seconds."""


@pytest.fixture(scope="module")
def shared():
    with cluster(cpus=2) as found:
        yield found


class Asker(Terminal):
    """A shell on a machine of a cluster, or on one that is in none."""

    def __init__(self, runs: Path, there: Cluster | None) -> None:
        super().__init__(runs)
        # a cluster of its own is to be quiet and closed by itself
        self.environment |= {} if there is None else there.environment
        self.options = ["--engine", "ray"]
        self.options += [] if there is None else ["--address", there.address]

    def python(self, code: str, *arguments: str) -> Answer:
        """Run other code in the same environment."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def __call__(self, *arguments: str, stdin: str | None = None, seconds: float = 400) -> Answer:
        return super().__call__(*arguments, stdin=stdin, seconds=seconds)


@pytest.fixture
def asker(tmp_path, shared):
    return Asker(tmp_path / "home", shared)


def outcomes(runs: Path) -> dict[str, dict]:
    return {run.id: outcome(run) for run in Runs(runs).all()}


def ends(runs: Path) -> list[int]:
    """How often each run came to its end."""
    found = []
    for run in Runs(runs).all():
        with StoreReader(run.database) as reader:
            found.append(sum(event.kind == "RunEnded" for event in reader.events()))
    return found


def test_the_same_grid_as_here(terminal, asker):
    grid = ["sweep-tau", *GRID, "--tau", "1,0.05,1e6", "--methods", "backprop,cg3", "--seeds", "2"]
    here = terminal(*grid, "--epochs", "3", "--json")
    assert here.code == 0, here.err
    there = asker(*grid, "--epochs", "3", "--json", *asker.options)
    assert there.code == 0, there.err
    assert figures(there) == figures(here)
    assert outcomes(asker.runs) == outcomes(terminal.runs)
    assert len(outcomes(asker.runs)) == 12
    for run in Runs(asker.runs).all():
        assert not run.is_live()
        modes = {path.stat().st_mode & 0o777 for path in run.path.rglob("*") if path.is_file()}
        assert modes == {0o600}
        assert {p.name for p in run.path.iterdir()} >= {"config.yaml", "run.db", "lock"}
    again = asker(*grid, "--epochs", "3", "--json", *asker.options)
    assert again.err.count("(kept)") == 12


def test_a_comparison(asker):
    answer = asker("compare", *GRID, "--epochs", "2", "--seeds", "1", "--json", *asker.options)
    assert answer.code == 0, answer.err
    assert {row["train_loss"]["n"] for row in answer.json["methods"]} == {1}


@promise(
    FAULTS,
    "processes of a cluster killed at random moments",
    "every run ends once, the same to the byte as without a cluster, no row twice",
)
@many(6, 40)
@pytest.mark.timeout(7200)
def test_killed_at_random_moments(terminal, asker, shared, rng, measured, times):
    taus = ",".join(f"{0.01 + number / 1000:g}" for number in range(times))
    sweep = ["sweep-tau", *LONG, "--tau", taus, "--seeds", "1"]
    here = terminal(*sweep, "--jobs", "2", seconds=3600)
    assert here.code == 0, here.err
    kills = 0
    for _ in range(10):
        process = asker.start(*sweep, *asker.options)
        # one that is killed at once again and again is given up, so there is an end to it
        kills += kill_at_random(process, shared, rng, times - kills)
        _, err = process.communicate(timeout=600)
        if process.returncode == 0:
            break
        assert process.returncode == 1, err
        assert "not come to their end" in err
    assert process.returncode == 0, err
    assert kills >= times // 2
    assert outcomes(asker.runs) == outcomes(terminal.runs)
    assert Counter(ends(asker.runs)) == {1: times}
    measured(f"{times} of {times} runs, {kills} kills")


def test_the_same_command_goes_on_where_who_asked_was_killed(asker, shared):
    grid = [*LONG, "--tau", "0.01,0.02", "--seeds", "1", "--epochs", "1500", *asker.options]
    process = asker.start("sweep-tau", *grid)
    wait_for(lambda: kept_steps(asker) > 0, 120)
    kept = kept_steps(asker)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not shared.seats(), 120)
    assert not any(run.is_live() for run in Runs(asker.runs).all())
    answer = asker("sweep-tau", *grid)
    assert answer.code == 0, answer.err
    assert ends(asker.runs) == [1, 1]
    assert max(map(last_start, Runs(asker.runs).all())) >= kept


def last_start(run: Run) -> int:
    with StoreReader(run.database) as reader:
        return [event.step for event in reader.events() if event.kind == "RunStarted"][-1]


def test_no_more_side_by_side_than_was_asked(asker, shared):
    grid = [*LONG, "--tau", "0.01,0.02,0.03", "--seeds", "1", *asker.options]
    process = asker.start("sweep-tau", *grid, "--jobs", "1")
    assert most_seats(process, shared) == 1
    assert process.returncode == 0


def most_seats(process: subprocess.Popen[str], there: Cluster) -> int:
    """Processes of a cluster that there were at once, while a command ran."""
    most = 0
    while process.poll() is None:
        most = max(most, len(there.seats()))
        time.sleep(0.1)
    process.communicate()
    return most


def test_a_process_for_which_there_is_no_run_leaves_its_place_to_others(asker, shared):
    # the one diverges at once, the other goes on and on
    grid = [*LONG, "--tau", "1e30,0.01", "--seeds", "1", "--epochs", "100000", *asker.options]
    process = asker.start("sweep-tau", *grid)
    wait_for(lambda: len(shared.seats()) == 2, 120)
    sweep = only_sweep(asker)
    wait_for(lambda: "diverged" in {read_cell(asker.runs, c).status for c in sweep.cells})
    wait_for(lambda: len(shared.seats()) == 1)
    assert process.poll() is None
    assert asker("stop", sweep.id).code == 0
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err


def other_version(folder: Path) -> dict[str, str]:
    """An environment in which another version of the program seems to be installed."""
    made = folder / "other" / "proxprop-0.0.1.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: proxprop\nVersion: 0.0.1\n")
    return {"PYTHONPATH": str(made.parent)}


PLACING = """
import sys

from engine.cluster.connection import connected, node_id
from engine.cluster.fleet import Fleet
from engine.cluster.shares import Share
from engine.errors import ConfigError


class Anything:
    def where(self):
        return node_id()


class RaisedError(Exception):
    actor_init_failed = True


with connected(sys.argv[1]):
    import ray

    fleet = Fleet(Share(1), None)
    assert fleet.room == 4
    fleet.note_false_start(RaisedError("ip=127.0.0.2, but not really"))
    assert fleet.room == 1
    for _ in range(3):
        actor = ray.remote(Anything).options(**fleet.options()).remote()
        print(ray.get(actor.where.remote()) == node_id())
        ray.kill(actor)
    fleet.refuse_if_unfit()
    for node in ray.nodes():
        if node["Resources"].get("CPU") == 1:
            fleet.note_false_start(RaisedError(f"ip={node['NodeManagerAddress']}, neither"))
    try:
        fleet.refuse_if_unfit()
    except ConfigError:
        print("refused")
"""
"""Ray itself has to place what it is asked to place."""


def test_a_machine_that_can_not_train_is_left_out(tmp_path):
    grid = [*GRID, "--tau", "1,0.5,0.1,0.05", "--methods", "backprop", "--seeds", "1"]
    with cluster(cpus=1, grows=True) as there:
        join(there, "127.0.0.2", 3, other_version(tmp_path))
        join(there, "127.0.0.3", 0, {})  # one that only asks, such as a laptop
        asker = Asker(tmp_path / "home", there)
        answer = asker("sweep-tau", *grid, "--epochs", "2", *asker.options)
        placed = asker.python(PLACING, there.address)
    assert placed.out.split() == [*["True"] * 3, "refused"], placed.err
    assert answer.code == 0, answer.err
    assert answer.err.count("machine 127.0.0.2 is not used any more") == 1
    assert "expected proxprop" in answer.err
    assert "found 0.0.1" in answer.err
    assert ends(asker.runs) == [1] * 4


def test_a_cluster_that_can_not_train_at_all(asker, tmp_path):
    asker.environment |= other_version(tmp_path)
    answer = asker("sweep-tau", *GRID, "--tau", "1,0.1", "--seeds", "1", *asker.options)
    assert answer.code == 2
    assert "no machine of the cluster can train: 127.0.0.1: no process could begin" in answer.err
    assert answer.err.splitlines()[-1].startswith("proxprop: ")
    assert not any(run.is_live() for run in Runs(asker.runs).all())


@promise(FAULTS, "the head of a cluster is gone", "the command ends in one line, and can go on")
def test_a_lost_head_and_parts_of_a_gpu(tmp_path, measured):
    # Ray counts GPUs as it is told, so that there need not be one
    with cluster(cpus=4, gpus=1) as there:
        asker = Asker(tmp_path / "home", there)
        grid = [*LONG, "--tau", "0.01,0.02,0.03", "--seeds", "1", "--epochs", "800"]
        process = asker.start("sweep-tau", *grid, *asker.options, "--gpus", "0.5")
        wait_for(lambda: len(there.seats(".news")) == 2 and kept_steps(asker) > 0, 120)
        kept = kept_steps(asker)
        assert len(Runs(asker.runs).all()) == 2  # the third had no part of a GPU
        (head,) = (p.pid for p in processes() if is_head(p, there))
        # with a machine that trains
        for pid in [head, *there.seats()]:
            os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        _, err = process.communicate(timeout=200)
        measured(f"after {time.monotonic() - began:.0f} s")
    assert process.returncode == 1, err
    assert err.splitlines()[-1].startswith("proxprop: the head of the Ray cluster is gone; what ca")
    assert "Traceback" not in err
    assert not any(run.is_live() for run in Runs(asker.runs).all())
    again = Terminal(asker.runs)("sweep-tau", *grid, "--jobs", "1", seconds=400)
    assert again.code == 0, again.err
    assert ends(asker.runs) == [1] * 3
    assert max(map(last_start, Runs(asker.runs).all())) >= kept


def is_head(process: Process, there: Cluster) -> bool:
    return "gcs/gcs_server" in process.line and str(there.folder) in process.line


def kill_at_random(
    process: subprocess.Popen[str], there: Cluster, rng: random.Random, most: int
) -> int:
    """Kill processes that train, one after the other, until so many or the sweep is over."""
    kills = 0
    while process.poll() is None and kills < most:
        time.sleep(rng.uniform(0.2, 3))
        if seats := sorted(there.seats(".news")):
            os.kill(rng.choice(seats), signal.SIGKILL)
            kills += 1
    return kills


def test_a_death_costs_what_had_not_come_home(asker, shared):
    process = asker.start(
        "sweep-tau", *LONG, "--tau", "0.01", "--seeds", "1", "--epochs", "1500", *asker.options
    )
    sweep = only_sweep(asker)
    wait_for(lambda: kept_steps(asker) > 0)
    assert read_cell(asker.runs, sweep.cells[0]).status == "running"
    assert read_cell(asker.runs, sweep.cells[0]).train_loss is not None
    kept = kept_steps(asker)
    for pid in shared.seats():
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "going on with backprop" in out
    with StoreReader(Runs(asker.runs).all()[0].database) as reader:
        begun = [event.step for event in reader.events() if event.kind == "RunStarted"]
    assert len(begun) == 2
    assert begun[1] >= kept


def kept_steps(terminal: Terminal) -> int:
    """Where the newest checkpoint is that came home."""
    found = Runs(terminal.runs).all()
    if not found:
        return 0
    with StoreReader(found[0].database) as reader:
        return max((row.step for row in reader.checkpoints()), default=0)


def test_pause_resume_stop_and_the_same_again(asker, shared):
    grid = [*LONG, "--tau", "0.01,0.02,0.03", "--seeds", "1", "--epochs", "100000"]
    process = asker.start("sweep-tau", *grid, *asker.options)
    sweep = only_sweep(asker)
    states = lambda: [read_cell(asker.runs, cell).status for cell in sweep.cells]  # noqa: E731
    wait_for(lambda: sum(step > 5 for step in trained_steps(asker, sweep)) >= 2)
    assert asker("pause", sweep.id).code == 0
    wait_for(lambda: states().count("paused") == 2)
    before = trained_steps(asker, sweep)
    time.sleep(1.5)
    assert trained_steps(asker, sweep) == before
    assert asker("resume", sweep.id).code == 0
    wait_for(lambda: sum(trained_steps(asker, sweep)) > sum(before))
    assert asker("stop", sweep.id).code == 0
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert f"proxprop resume {sweep.id} --engine ray --address {shared.address}'" in err
    assert states().count("stopped") == 2
    # what was stopped after a step came home with that step
    for run in Runs(asker.runs).all():
        with StoreReader(run.database) as reader:
            if rows := reader.checkpoints():
                assert rows[0].step == reader.state()["step"]
    wait_for(lambda: not shared.seats())


def test_a_run_that_somebody_pauses_waits_elsewhere_too(asker):
    process = asker.start(
        "sweep-tau", *LONG, "--tau", "0.01", "--seeds", "1", "--epochs", "2000", *asker.options
    )
    sweep = only_sweep(asker)
    wait_for(lambda: sum(trained_steps(asker, sweep)) > 5)
    (run,) = Runs(asker.runs).all()
    assert asker("pause", run.id).code == 0
    wait_for(lambda: read_cell(asker.runs, sweep.cells[0]).status == "paused")
    assert asker("resume", run.id).code == 0
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert f"run {run.id}: paused by itself" in err


def test_an_interrupt_leaves_nothing_of_a_cluster_of_our_own(tmp_path):
    alone = Asker(tmp_path / "home", None)
    grid = [*LONG, "--tau", "0.01,0.02", "--seeds", "1", "--epochs", "100000"]
    process = subprocess.Popen(
        alone.command("sweep-tau", *grid, *alone.options),
        env=alone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    sweep = only_sweep(alone, 120)
    wait_for(lambda: any(trained_steps(alone, sweep)), 120)
    places = listening(rays_of(alone))
    assert {address.removeprefix("::ffff:") for address, _ in places} == {"127.0.0.1"}
    (head,) = (p for p in rays_of(alone) if "gcs/gcs_server" in p.line)
    stranger = Asker(tmp_path / "stranger", None)
    stranger.environment |= {**QUIET, "RAY_AUTH_TOKEN": "0" * 64}
    ((_, port),) = listening([head])
    refused(stranger, ["--engine", "ray", "--address", f"127.0.0.1:{port}"], "authentication f")
    folders = {p for p in Path("/tmp").glob("proxprop-ray-*") if is_of(p, process.pid)}
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_for(lambda: not rays_of(alone))
    assert not any(folder.exists() for folder in folders)
    stopped = [read_cell(alone.runs, cell) for cell in sweep.cells]
    assert "stopped" in {state.status for state in stopped}
    assert not any(run.is_live() for run in Runs(alone.runs).all())


@promise(MORE, "a sweep's own Ray cluster, its owner killed", "no process of it is left")
def test_a_kill_leaves_no_process_of_a_cluster_of_our_own(tmp_path):
    alone = Asker(tmp_path / "home", None)
    process = alone.start(
        "sweep-tau", *LONG, "--tau", "0.01", *alone.options, "--seeds", "1", "--epochs", "100000"
    )
    wait_for(lambda: any("ray::Seat" in p.line for p in rays_of(alone)), 120)
    process.kill()
    process.communicate(timeout=200)
    # two helpers of Ray look for its other processes for a while before they leave too
    wait_for(lambda: not rays_of(alone), 240)


def rays_of(alone: Asker) -> list[Process]:
    """Processes of Ray that a shell has started, by what they have inherited."""
    mark = f"PROXPROP_DIR={alone.runs}".encode()
    found = []
    for process in processes():
        if "ray/core" in process.line or process.line.startswith("ray::"):
            with suppress(OSError):
                if mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                    found.append(process)
    return found


def listening(found: list[Process]) -> set[tuple[str, int]]:
    """Addresses and ports at which processes can be reached."""
    sockets = set()
    for process in found:
        with suppress(OSError):
            for opened in Path(f"/proc/{process.pid}/fd").iterdir():
                sockets.add(str(opened.readlink()))
    addresses = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                host, port = local.split(":")
                words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
                addresses.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return addresses


def is_of(folder: Path, pid: int) -> bool:
    """Whether a cluster's folder belongs to a process, as Ray names its sessions."""
    return any(path.name.endswith(f"_{pid}") for path in (folder / "ray").glob("session_*"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--engine", "foo"], "--engine: expected local or ray, found 'foo'"),
        (["--address", "auto"], "--address is for --engine ray"),
        (["--gpus", "1"], "--gpus is for --engine ray"),
        (["--engine", "ray", "--gpus", "1.5"], "--gpus 1.5: expected a part of one"),
        (["--engine", "ray", "--address", "x"], "--address 'x': expected HOST:PORT"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster there (connection refu"),
    ],
)
def test_bad_options_make_nothing(asker, options, text):
    refused(asker, options, text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--gpus", "0.5"],
            "no machine of the cluster has room for a run: it needs CPU 1, GPU 0.5",
        ),
        (["--device", "cuda"], "it needs CPU 1, GPU 1, the most that one has is CPU 2, GPU 0"),
        (["--set", "threads=64"], "it needs CPU 64"),
    ],
)
def test_a_cluster_without_room_makes_nothing(asker, options, text):
    refused(asker, [*asker.options, *options], text)


def test_the_wrong_token_and_none(asker, tmp_path):
    asker.environment["RAY_AUTH_TOKEN"] = "0" * 64
    refused(asker, asker.options, "authentication failed; put the token of the cluster's head")
    del asker.environment["RAY_AUTH_TOKEN"]
    asker.environment["HOME"] = str(tmp_path)
    refused(asker, asker.options, "authentication failed; put the token of the cluster's head")


def test_a_cell_is_not_a_sweep(asker):
    asker("train", *SMALL, "--epochs", "1")
    (run,) = Runs(asker.runs).all()
    answer = asker("resume", run.id, "--engine", "ray")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--engine ray is for sweeps" in answer.err


def refused(asker: Asker, options: list[str], text: str) -> None:
    answer = asker("sweep-tau", *GRID, "--tau", "1", "--seeds", "1", *options)
    assert answer.code == 2
    assert text in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not asker.runs.exists()


def test_an_interrupt_while_ray_starts(tmp_path):
    alone = Asker(tmp_path / "home", None)
    process = alone.start("sweep-tau", *LONG, "--tau", "0.01", *alone.options, "--seeds", "1")
    wait_for(lambda: rays_of(alone), 120)
    answer = end(process, signal.SIGINT)
    assert answer.code == 130
    assert "Traceback" not in answer.err
    wait_for(lambda: not rays_of(alone))


@pytest.mark.slow
def test_a_process_has_one_cluster_of_its_own_after_another(tmp_path):
    twice = (
        "from engine.cluster.connection import connected\n"
        "for _ in range(2):\n"
        "    with connected(None):\n"
        "        import ray  # reads the environment that is set by now\n"
        "        print(ray.get(ray.remote(lambda: 'there').remote()))\n"
    )
    environment = {name: value for name, value in os.environ.items() if "RAY_" not in name}
    found = subprocess.run(
        [sys.executable, "-c", twice], capture_output=True, text=True, timeout=400, env=environment
    )
    assert found.stdout.split() == ["there", "there"], found.stderr
