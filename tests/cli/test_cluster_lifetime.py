"""Sweeps on clusters that end, grow, or are of their own: real processes of Ray."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from engine.cells import read_cell
from engine.control import Desired
from engine.runs import Runs
from tests.cli.cluster_helper import GRID, LONG, ends, outcomes
from tests.cli.ray_cluster import (
    PATIENCE,
    QUIET,
    Asker,
    Process,
    cluster,
    ray_is_there,
    until,
    wait_for_ends,
)
from tests.cli.sweeps import figures, trained_steps
from tests.reliability.report import FAULTS, MORE, promise

pytestmark = [ray_is_there, pytest.mark.system, pytest.mark.timeout(900)]

ENDLESS = [*LONG, "--tau", "0.01", "--epochs", "100000"]
HELPERS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They may look for other processes for a minute before they leave too."""


def other_version(folder: Path) -> dict[str, str]:
    """Return an environment in which another version of the program seems to be installed."""
    made = folder / "other" / "proxprop-0.0.1.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: proxprop\nVersion: 0.0.1\n")
    return {"PYTHONPATH": str(made.parent)}


PLACING = """
import sys

from engine.cluster.connection import connected, node_id
from engine.cluster.fleet import Fleet
from engine.cluster.shares import Share


class Anything:
    def where(self):
        return node_id()


class RaisedError(Exception):
    actor_init_failed = True


with connected(sys.argv[1]):
    import ray

    fleet = Fleet(Share(1), None)
    print(fleet.room)
    fleet.note_false_start(RaisedError("ip=127.0.0.2, but not really"))
    print(fleet.room)
    for _ in range(2):
        # there is room for one, which ends with its handle
        actor = ray.remote(Anything).options(**fleet.options()).remote()
        print(ray.get(actor.where.remote()) == node_id())
        del actor
"""
"""Ray itself has to place what it is asked to place, and to end what nobody has a handle of."""


def test_the_same_grid_as_here_where_a_node_can_not_train(cli, tmp_path):
    grid = ["sweep-tau", *GRID, "--tau", "1,1e6", "--methods", "backprop,cg3", "--epochs", "3"]
    with cluster(cpus=1, grows=True) as there:
        there.join("127.0.0.2", 2, other_version(tmp_path))
        asker = Asker(tmp_path / "home", there)
        answer = asker(*grid, "--json", *asker.options)
        placed = asker.python(PLACING, there.address)
    assert placed.out.split() == ["3", "1", "True", "True"], placed.err
    assert answer.code == 0, answer.err
    assert figures(answer) == figures(cli(*grid, "--json"))
    assert outcomes(asker.runs) == outcomes(tmp_path / "runs")
    assert answer.err.count("machine 127.0.0.2 is not used any more") == 1
    assert "expected proxprop" in answer.err
    assert "found 0.0.1" in answer.err
    assert ends(asker.runs) == [1] * 4


@promise(FAULTS, "the head of a cluster is gone", "the command ends in one line, and can go on")
def test_a_lost_head_and_parts_of_a_gpu(cli, tmp_path, measured):
    # Ray counts GPUs as it is told, so that there need not be one
    with cluster(cpus=2, gpus=1) as there:
        asker = Asker(tmp_path / "runs", there)
        sweep = ["sweep-tau", *LONG, "--tau", "0.01,0.02", "--epochs", "3"]
        process = asker.start(*sweep, *asker.options, "--gpus", "0.6")
        until(lambda: Runs(asker.runs).all() and Runs(asker.runs).all()[0].is_live())
        (run,) = Runs(asker.runs).all()  # the other had no part of a GPU
        run.set_desired(Desired.PAUSED)
        until(lambda: run.status() == "paused")
        # a thread of Ray spins while there is no head
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        # with the machine that trains
        for lost in there.processes():
            if "gcs/gcs_server" in lost.line or lost.line.startswith("ray::Seat"):
                lost.kill()
        began = time.monotonic()
        _, err = process.communicate(timeout=PATIENCE)
        measured(f"after {time.monotonic() - began:.0f} s")
    assert process.returncode == 1, err
    assert err.splitlines()[-1].startswith("proxprop: the head of the Ray cluster is gone; what ca")
    assert "Traceback" not in err
    assert not any(run.is_live() for run in Runs(asker.runs).all())
    again = cli(*sweep)
    assert again.code == 0, again.err
    assert "going on with backprop" in again.out
    assert ends(asker.runs) == [1] * 2


def test_an_interrupt_leaves_nothing_of_a_cluster_of_our_own(tmp_path):
    alone = Asker(tmp_path / "home", None)
    process = alone.start("sweep-tau", *ENDLESS, *alone.options, start_new_session=True)
    sweep = alone.sweep()
    until(lambda: any(trained_steps(alone, sweep)))
    places = listening(alone.rays())
    assert {address.removeprefix("::ffff:") for address, _ in places} == {"127.0.0.1"}
    (head,) = (p for p in alone.rays() if "gcs/gcs_server" in p.line)
    stranger = Asker(tmp_path / "stranger", None)
    stranger.environment |= {**QUIET, "RAY_AUTH_TOKEN": "0" * 64}
    ((_, port),) = listening([head])
    refused = stranger("sweep-tau", *ENDLESS, "--engine", "ray", "--address", f"127.0.0.1:{port}")
    assert refused.code == 2
    assert "authentication failed; put the token of the cluster's head" in refused.err
    folders = {p for p in Path("/tmp").glob("proxprop-ray-*") if is_of(p, process.pid)}
    assert folders
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_for_ends(alone.rays)
    assert not any(folder.exists() for folder in folders)
    assert read_cell(alone.runs, sweep.cells[0]).status == "stopped"
    assert not any(run.is_live() for run in Runs(alone.runs).all())


@promise(MORE, "a sweep's own Ray cluster, its owner killed", "no process of it is left")
@pytest.mark.parametrize("but", [HELPERS, pytest.param((), id="none", marks=pytest.mark.slow)])
def test_a_kill_leaves_no_process_of_a_cluster_of_our_own(tmp_path, but):
    alone = Asker(tmp_path / "home", None)
    process = alone.start("sweep-tau", *ENDLESS, *alone.options)
    until(lambda: any(p.line.startswith("ray::Seat") for p in alone.rays()))
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_for_ends(lambda: [p for p in alone.rays() if not p.line.startswith(but)])
    for helper in alone.rays():
        helper.kill()


def test_an_interrupt_while_ray_starts(tmp_path):
    alone = Asker(tmp_path / "home", None)
    process = alone.start("sweep-tau", *ENDLESS, *alone.options)
    until(alone.rays)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_for_ends(alone.rays)


def listening(found: list[Process]) -> set[tuple[str, int]]:
    """Return addresses and ports at which processes can be reached."""
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


@pytest.mark.slow
def test_a_process_has_one_cluster_of_its_own_after_another(tmp_path):
    twice = (
        "from engine.cluster.connection import connected\n"
        "for _ in range(2):\n"
        "    with connected(None):\n"
        "        import ray  # reads the environment that is set by now\n"
        "        print(ray.get(ray.remote(lambda: 'there').remote()))\n"
    )
    answer = Asker(tmp_path / "home", None).python(twice)
    assert answer.out.split() == ["there", "there"], answer.err


def test_the_local_engine_loads_no_ray(tmp_path):
    code = (
        "import sys; from proxprop_cli.__main__ import run; assert run(sys.argv[1:]) == 0; "
        "assert not any(name.partition('.')[0] == 'ray' for name in sys.modules)"
    )
    grid = ["sweep-tau", *GRID, "--tau", "1", "--methods", "exact", "--epochs", "1"]
    answer = Asker(tmp_path / "home", None).python(code, *grid)
    assert answer.code == 0, answer.err
