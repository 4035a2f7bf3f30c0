"""Checkpoints that were never finished, and checkpoints that were damaged later."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest

from engine import devices
from engine.checkpoint import Snapshot
from engine.config_sections import LogConfig
from engine.control import AlwaysRun, Desired
from engine.devices import Stopwatch
from engine.events import CheckpointDue
from engine.recorder import Recorder
from engine.run import Run
from engine.runs import Runs
from engine.session import Sitting, sit
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from proxprop_cli.__main__ import run as command
from tests.cli.terminal import SMALL, start
from tests.engine import small
from tests.engine.small import cache_dir
from tests.reliability.report import FAULTS, MORE, many, promise
from tests.reliability.substeps import copies_at_sub_steps, look, train
from tests.reliability.trainings import outcome, undisturbed

TWO_EPOCHS = [*SMALL, "--method", "cg3", "--epochs", "2", "--set", "log.keep=1"]


DEATHS = promise(FAULTS, "death at every sub-step of a checkpoint", "old or new, never neither")


@DEATHS
def test_what_is_left_at_every_sub_step(cli, tmp_path, measured):
    expected = undisturbed(cli, tmp_path / "undisturbed", *TWO_EPOCHS)
    run = begun(cli, tmp_path / "runs")
    copies = copies_at_sub_steps(
        run.path, tmp_path, lambda profile: train(run, cache_dir(), profile)
    )
    deaths = []
    for call, path in copies:
        left = look(copy := Run(path))
        train(copy, cache_dir())
        deaths.append({"before": call, "left": left, "outcome": outcome(copy)})
    measured(old_or_new(deaths, expected))


@pytest.mark.slow
@pytest.mark.timeout(900)
@DEATHS
def test_death_at_every_sub_step(terminal, tmp_path, measured):
    expected = undisturbed(terminal, tmp_path / "undisturbed", *TWO_EPOCHS)
    begun(terminal, terminal.runs)
    process = start(
        [sys.executable, "-m", "tests.reliability.substeps", str(terminal.runs), str(cache_dir())],
        env=terminal.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    measured(old_or_new([json.loads(line) for line in out.splitlines()], expected))


def begun(cli, folder):
    """A run of two epochs before its first step."""
    answer = cli("train", *TWO_EPOCHS, "--epochs", "0", "--dir", str(folder), "--json")
    run = Runs(folder).find(answer.json["run"])
    run.save_config(run.config().model_copy(update={"epochs": 2}))
    return run


def old_or_new(deaths, expected):
    """Check what each death left, and what it came to; return how many left what."""
    assert len(deaths) > 20, "as many as it takes to write two files and a commit"
    calls = {death["before"] for death in deaths}
    assert {"open", "write", "fsync", "replace", "execute", "unlink"} <= calls, calls
    for death in deaths:
        assert death["left"]["step"] in (6, 12), death["before"]
        assert death["left"]["damaged"] == death["left"]["missing"] == []
        assert death["outcome"] == expected
    steps = [death["left"]["step"] for death in deaths]
    assert steps == sorted(steps), "once it counts, it counts"
    return f"{len(deaths)} of {len(deaths)} sub-steps: {steps.count(6)} old, {steps.count(12)} new"


@promise(MORE, "two checkpoints at one step", "the first stays; there is nothing to die over")
def test_a_checkpoint_that_counts_is_not_written_again(tmp_path):
    """After an evaluation the weights are the same, but not the rest."""
    run = Runs(tmp_path).create(small.config())
    snapshots = iter([Snapshot({}, {"step": 6}), Snapshot({}, {"step": 6, "evaluated": 1.0})])
    kept = []
    with run.lock(), StoreWriter(run.database) as writer:
        recorder = Recorder(
            run, writer, AlwaysRun(), lambda: next(snapshots), LogConfig(), lambda event: None
        )
        for _ in range(2):
            recorder.record(CheckpointDue(6, 1.0, "epoch"))
            files = [(path, path.stat().st_ino) for path in sorted(run.checkpoints.iterdir())]
            with StoreReader(run.database) as reader:
                kept.append((files, [path.read_bytes() for path, _ in files], reader.checkpoints()))
    assert len(kept[0][0]) == 2
    assert kept[0] == kept[1]


def test_a_step_that_is_the_last_has_one_checkpoint(monkeypatch):
    """However long it takes to see that time is up."""

    class Watch(Stopwatch):
        def start(self):
            self._before += 0.1

        def stop(self):
            self._before += 0.3 * (self._before > self.stopped)
            self.stopped = self._before
            return self._before

        stopped = 0.0

    monkeypatch.setattr(devices, "Stopwatch", Watch)
    limited = small.config(max_seconds=1.0, log__checkpoint_minutes=1e-9, epochs=9)
    _, events = small.run(limited)
    made = [(event.step, event.reason) for event in events if isinstance(event, CheckpointDue)]
    assert made == [(1, "interval"), (2, "interval"), (3, "end")]


@promise(
    MORE,
    "a store that has lost its last commits",
    "says so, and goes on from the newest whole checkpoint",
)
def test_checkpoints_that_the_store_does_not_know(cli, tmp_path):
    three = ["train", *TWO_EPOCHS, "--epochs", "3", "--set", "log.keep=3", "--json"]
    assert cli(*three).code == 0
    run = Runs(tmp_path / "runs").find("latest")
    shutil.copy(run.database, tmp_path / "old.db")
    assert cli("resume", run.id, "--epochs", "6").code == 0
    expected = outcome(run)
    newer = {f"{step:09d}{end}" for step in (24, 30, 36) for end in (".json", ".safetensors")}
    assert {path.name for path in run.checkpoints.iterdir()} == newer
    # what it had at the time of the old store
    shutil.rmtree(run.path)
    assert cli(*three).code == 0
    made = Runs(tmp_path / "runs").find("latest")
    assert outcome(made)["tensors"]
    made.path.rename(run.path)
    for name in newer:
        (run.checkpoints / name).write_bytes(b"newer")
    (run.checkpoints / "000000003.json").write_bytes(b"of a process that died")
    stop_at_once = Sitting(Stopped(), lambda event: None, cache_dir())
    run.save_config(run.config().model_copy(update={"epochs": 6}))
    sit(run, stop_at_once)
    known = {f"{step:09d}{end}" for step in (6, 12, 18) for end in (".json", ".safetensors")}
    assert {path.name for path in run.checkpoints.iterdir()} == known | newer
    answer = cli("resume", run.id)
    assert answer.code == 0, answer.err
    assert "checkpoints of steps 24, 30, 36, which the store does not know" in answer.out
    assert "going on from step 18" in answer.out
    assert outcome(run) == expected


class Stopped(AlwaysRun):
    """A control that wants nothing done."""

    def desired(self):
        return Desired.STOPPED


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """A run of two epochs, with both of their checkpoints; to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    where = ["--dir", str(folder), "--data-dir", str(cache_dir())]
    assert command(["train", *TWO_EPOCHS, "--set", "log.keep=2", *where]) == 0
    return Runs(folder).find("latest")


@pytest.fixture
def trained(two_epochs, tmp_path):
    return Run(shutil.copytree(two_epochs.path, tmp_path / "runs" / two_epochs.id))


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: [meta],
        lambda meta: {key: value for key, value in meta.items() if key != "work"},
        lambda meta: {**meta, "seconds": 1.0},
        lambda meta: {**meta, "generators": {}},
        lambda meta: {key: value for key, value in meta.items() if key != "environment"},
    ],
    ids=["a list", "no work", "other seconds", "no generators", "no environment"],
)
def test_content_of_another_kind(cli, trained, change):
    """Whose hash is right, as another program could leave it."""
    path = max(trained.checkpoints.glob("*.json"))
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    with sqlite3.connect(trained.database) as connection:
        connection.execute("UPDATE checkpoints SET json_sha256 = ? WHERE step = 12", (right,))
    connection.close()
    before = trained.database.read_bytes()
    answer = cli("resume", trained.id, "--epochs", "3")
    if answer.code == 0:
        assert "going on from step 6" in answer.out
    else:
        assert answer.code == 4
        assert len(answer.err.splitlines()) == 1
        assert "internal" not in answer.err
        assert trained.database.read_bytes() == before


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize(("kind", "put"), [("pipe", os.mkfifo), ("folder", os.mkdir)])
def test_what_is_no_file_is_passed_over_and_makes_way(cli, trained, ending, kind, put):
    path = trained.checkpoints / f"000000012.{ending}"
    path.unlink()
    put(path)
    answer = cli("resume", trained.id, "--epochs", "3")
    assert answer.code == 0, answer.err
    expected = f"{path.name}: expected a file of proxprop, found a {kind}; going on from step 6"
    assert expected in answer.out
    names = {name.name for name in trained.checkpoints.iterdir()}
    aside = {name for name in names if name.endswith(".aside")}
    assert len(aside) == 1
    assert names - aside == {f"{step:09d}.{end}" for step in (12, 18) for end in END}


END = ("json", "safetensors")


def test_no_folder_of_checkpoints(cli, tmp_path):
    expected = undisturbed(cli, tmp_path / "undisturbed", *TWO_EPOCHS)
    assert cli("train", *TWO_EPOCHS, "--epochs", "0").code == 0
    run = Runs(tmp_path / "runs").find("latest")
    run.checkpoints.rmdir()
    assert cli("resume", run.id, "--epochs", "2").code == 0
    assert outcome(run) == expected
    assert run.checkpoints.stat().st_mode & 0o777 == 0o700


@pytest.mark.timeout(1800)
@promise(
    FAULTS,
    "newest checkpoint truncated, or a bit flipped",
    "goes on from the one before, says so, and ends the same to the byte",
)
@many(4, 100)
def test_damage_to_the_newest(cli, tmp_path, rng, measured, times):
    three = ["train", *TWO_EPOCHS, "--epochs", "3", "--set", "log.keep=3", "--json"]
    assert cli(*three).code == 0
    run = Runs(tmp_path / "runs").find("latest")
    shutil.copytree(run.path, tmp_path / "made")
    longer = ["resume", run.id, "--epochs", "4", "--json"]
    assert cli(*longer).code == 0
    expected = outcome(run)
    kinds = Counter()
    for _ in range(times):
        shutil.rmtree(run.path)
        shutil.copytree(tmp_path / "made", run.path)
        kinds[damage(max(run.checkpoints.glob(rng.choice(["*.safetensors", "*.json"]))), rng)] += 1
        answer = cli(*longer)
        assert answer.code == 0, answer.err
        assert "damaged or replaced" in answer.err
        assert "going on from step 12" in answer.err
        assert outcome(run) == expected
    measured(f"{times} of {times}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))


def damage(path, rng):
    """Cut a file, or flip a bit of it; gives the kind."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        path.write_bytes(content[: rng.randrange(len(content))])
        return "cut"
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return "flipped"


@promise(FAULTS, "all checkpoints bad", "exit 4, nothing overwritten")
def test_all_damaged(cli, tmp_path, rng):
    assert cli("train", *TWO_EPOCHS, "--set", "log.keep=3").code == 0
    run = Runs(tmp_path / "runs").find("latest")
    for path in run.checkpoints.glob("*.safetensors"):
        damage(path, rng)
    before = content_of(run)
    answer = cli("resume", run.id, "--epochs", "3")
    assert answer.code == 4
    assert len(answer.err.splitlines()) == 1
    assert "none of its 2 checkpoints can be used" in answer.err
    assert content_of(run) == before


def content_of(run):
    """Every file, but for the wish that it is to be trained."""
    files = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    del files[run.request_file]
    return files
