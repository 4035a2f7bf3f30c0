"""Sweeps on a cluster without processes: what the commands make of it. No Ray is needed."""

from __future__ import annotations

import sys

import pytest

from engine.cells import read_cell
from engine.cluster.seat import News, Seat
from engine.control import Desired
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from engine.sweeps import all_sweeps
from tests.cli import cluster_helper
from tests.cli.cluster_helper import ends, outcomes, starts
from tests.cli.sweeps import figures
from tests.cli.terminal import SMALL, Answer
from tests.engine.cluster.fake_ray import ScriptedSeat, actor_died, node
from tests.engine.cluster.fixtures import Clock, fake_clock, fake_ray  # noqa: F401 - fixtures
from tests.reliability.trainings import newest_checkpoint, steps

GRID = [*cluster_helper.GRID, "--epochs", "3"]


def test_the_same_grid_as_here(cli, ray, tmp_path):
    ray.machines = [node("aa", CPU=1.0), node("bb", "10.0.0.2", CPU=1.0)]
    grid = ["sweep-tau", *GRID, "--tau", "1,1e6", "--methods", "backprop,cg3", "--json"]
    there = cli(*grid, "--engine", "ray", "--address", ray.address)
    assert there.code == 0, there.err
    here = cli(*grid, "--dir", str(tmp_path / "here"))
    assert figures(there) == figures(here)
    assert outcomes(tmp_path / "runs") == outcomes(tmp_path / "here")
    assert ends(tmp_path / "runs") == [1] * 4
    assert [actor.node["NodeID"] for actor in ray.actors] == ["aa", "bb"]
    for run in Runs(tmp_path / "runs").all():
        assert not run.is_live()
        modes = {path.stat().st_mode & 0o777 for path in run.path.rglob("*") if path.is_file()}
        assert modes == {0o600}
        assert {p.name for p in run.path.iterdir()} >= {"config.yaml", "run.db", "lock"}
    again = cli(*grid, "--engine", "ray", "--address", ray.address)
    assert again.err.count("(kept)") == 4
    assert len(ray.actors) == 2


def test_a_comparison(cli, ray):
    options = ["--methods", "backprop,exact", "--json", "--engine", "ray"]
    answer = cli("compare", *GRID, *options, "--address", ray.address)
    assert answer.code == 0, answer.err
    assert {row["train_loss"]["n"] for row in answer.json["methods"]} == {1}
    assert len(ray.actors) == 1


def test_no_more_side_by_side_than_was_asked(cli, ray):
    ray.machines = [node(CPU=8.0)]
    grid = ["sweep-tau", *GRID, "--tau", "1,0.1,0.01", "--methods", "backprop"]
    assert cli(*grid, "--engine", "ray", "--address", ray.address, "--jobs", "2").code == 0
    assert len(ray.actors) == 2


def test_a_death_costs_what_had_not_come_home(cli, ray, tmp_path, monkeypatch):
    class Dying(Seat):
        """Trains, and is gone once a checkpoint came home, if it is the first."""

        has_sent = False

        def news(self, number: int) -> tuple[bytes, bytes] | None:
            if self.has_sent:
                ray.actors[0].die(actor_died())
                return None
            content, archive = super().news(number)
            self.has_sent = News.from_bytes(content).kind == "kept" and len(ray.actors) == 1
            return content, archive

    monkeypatch.setattr("engine.cluster.seat.time", Clock(step=100.0))
    ray.worker = Dying
    grid = ["sweep-tau", *GRID, "--tau", "0.1", "--methods", "backprop"]
    grid += ["--set", "log.checkpoint_epochs=1"]
    there = cli(*grid, "--engine", "ray", "--address", ray.address)
    assert there.code == 0, there.err
    assert "going on with backprop" in there.out
    assert len(ray.actors) == 2
    assert cli(*grid, "--dir", str(tmp_path / "here")).code == 0
    assert outcomes(tmp_path / "runs") == outcomes(tmp_path / "here")
    assert ends(tmp_path / "runs") == [1]
    assert max(starts(tmp_path / "runs")) >= 6


def test_pause_resume_and_stop_from_elsewhere(cli, ray, tmp_path):
    runs, kinds = tmp_path / "runs", []
    wanted = {"begun": Desired.PAUSED, "held": Desired.RUNNING, "freed": Desired.STOPPED}

    class Watched(Seat):
        """Trains, and somebody wants something else whenever it answers."""

        def news(self, number: int) -> tuple[bytes, bytes]:
            content, archive = super().news(number)
            kinds.append(News.from_bytes(content).kind)
            if kinds[-1] in wanted:
                Run(runs / all_sweeps(runs)[0].id).set_desired(wanted[kinds[-1]], "enough")
            return content, archive

    ray.worker = Watched
    grid = ["--tau", "0.1,1", "--methods", "backprop", "--epochs", "100000"]
    answer = cli("sweep-tau", *GRID, *grid, "--engine", "ray", "--address", ray.address)
    assert answer.code == 0, answer.err
    assert [kind for kind in kinds if kind in wanted] == ["begun", "held", "freed"]
    (sweep,) = all_sweeps(runs)
    assert f"proxprop resume {sweep.id} --engine ray --address {ray.address}'" in answer.err
    # what was stopped after a step came home with that step
    (run,) = Runs(runs).all()
    assert run.status() == "stopped"
    assert newest_checkpoint(run) == steps(run)


def test_a_lost_head(cli, ray, clock, tmp_path):
    class Lost(ScriptedSeat):
        """Begins, and never answers again."""

        def begin(self, number: int, run: str, archive: bytes) -> None:
            self.say(News("begun", "aa"))
            ray.lose_head()

    ray.worker = Lost
    grid = ["sweep-tau", *GRID, "--tau", "0.1,1", "--methods", "backprop"]
    answer = cli(*grid, "--engine", "ray", "--address", ray.address)
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("proxprop: the head of the Ray cluster is gone; ")
    assert not any(run.is_live() for run in Runs(tmp_path / "runs").all())
    assert cli(*grid).code == 0
    assert ends(tmp_path / "runs") == [1, 1]


def test_a_cluster_that_can_not_train_at_all(cli, ray, clock, tmp_path):
    def refuse(*given):
        raise RuntimeError("expected torch 2, found 1")

    ray.worker, clock.step = refuse, 1.0
    grid = ["sweep-tau", *GRID, "--tau", "1,0.1", "--methods", "backprop"]
    answer = cli(*grid, "--engine", "ray", "--address", ray.address)
    assert answer.code == 2
    assert answer.err.count("machine 10.0.0.1 is not used any more") == 1
    assert answer.err.splitlines()[-1] == (
        "proxprop: no machine of the cluster can train: 10.0.0.1: no process could begin there: "
        "RuntimeError: expected torch 2, found 1"
    )
    assert not any(run.is_live() for run in Runs(tmp_path / "runs").all())


def test_a_cluster_of_our_own_has_room_for_the_jobs(cli, ray, tmp_path):
    grid = ["sweep-tau", *GRID, "--set", "threads=2", "--tau", "0.1", "--methods", "backprop"]
    ray.machines = [node(CPU=6.0)]
    answer = cli(*grid, "--engine", "ray", "--jobs", "3", "--epochs", "1")
    assert answer.code == 0, answer.err
    (options,) = ray.init_options
    assert (options["address"], options["num_cpus"]) == ("local", 6)
    (sweep,) = all_sweeps(tmp_path / "runs")
    assert read_cell(tmp_path / "runs", sweep.cells[0]).status == "finished"
    with StoreReader(Run(tmp_path / "runs" / str(sweep.cells[0].run)).database) as reader:
        assert reader.state()["side_by_side"] == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--engine", "foo"], "--engine: expected local or ray, found 'foo'"),
        (["--address", "auto"], "--address is for --engine ray"),
        (["--gpus", "1"], "--gpus is for --engine ray"),
        (["--engine", "ray", "--gpus", "1.5"], "--gpus 1.5: expected a part of one"),
        (["--engine", "ray", "--address", "x"], "--address 'x': expected HOST:PORT"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster there (connection refu"),
        (
            ["--engine", "ray", "--address", "{address}", "--gpus", "0.5"],
            "no machine of the cluster has room for a run: it needs CPU 1, GPU 0.5",
        ),
        (
            ["--engine", "ray", "--address", "{address}", "--device", "cuda"],
            "it needs CPU 1, GPU 1, the most that one has is CPU 2, GPU 0",
        ),
        (
            ["--engine", "ray", "--address", "{address}", "--set", "threads=64"],
            "it needs CPU 64",
        ),
    ],
)
def test_what_can_not_be_trained_makes_nothing(cli, ray, tmp_path, options, text):
    ray.machines = [node(CPU=2.0)]
    given = [option.format(address=ray.address) for option in options]
    refused(cli("sweep-tau", *GRID, "--tau", "1", *given), text)
    assert not (tmp_path / "runs").exists()


def refused(answer: Answer, text: str) -> None:
    assert answer.code == 2
    assert text in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_cell_is_not_a_sweep(cli, tmp_path):
    assert cli("train", *SMALL, "--epochs", "1").code == 0
    (run,) = Runs(tmp_path / "runs").all()
    refused(cli("resume", run.id, "--engine", "ray"), "--engine ray is for sweeps")


def test_without_ray(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = cli("sweep-tau", "--engine", "ray")
    assert answer.code == 2
    assert answer.err == (
        "proxprop: --engine ray: Ray is not installed; pip install 'proxprop[cluster]'\n"
    )
    assert not (tmp_path / "runs").exists()
