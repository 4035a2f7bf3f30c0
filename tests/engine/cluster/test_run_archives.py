"""Runs that travel: what is packed, what is taken in, what is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from engine.cluster import arrivals
from engine.cluster.parcel import make_run, pack, unpack
from engine.errors import CheckpointError, StorageError
from engine.run import Run
from engine.store_copy import place_for_copy, read_store
from engine.store_reader import StoreReader
from tests.cli.terminal import start
from tests.engine.cluster.conftest import train
from tests.reliability.report import MORE, promise
from tests.reliability.trainings import outcome


def archive_of(files: dict[str, bytes], /, **header: object) -> bytes:
    listed = [[name, len(content)] for name, content in files.items()]
    document = {"format": "proxprop-run-1", "files": listed, **header}
    return json.dumps(document).encode() + b"\n" + b"".join(files.values())


def test_a_run_goes_away_and_comes_home_as_if_it_had_stayed(home, trained, tmp_path):
    arrivals.note_status(home, "running")  # a process died over it
    away = make_run(tmp_path / "away", pack(home))
    assert outcome(away) == outcome(home)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in away.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    train(away)
    with StoreReader(home.database) as watching:
        before = watching.state()["step"]
        with home.lock():
            arrivals.take_in(home, pack(away))
        assert watching.state()["step"] > before
    assert outcome(home) == trained
    # a log stays where somebody has looked on
    files = {path.name for path in home.path.iterdir()} - {"run.db-wal", "run.db-shm"}
    assert files == {"config.yaml", "run.db", "desired.json", "lock", "checkpoints"}
    assert len(list(home.checkpoints.iterdir())) == 2
    assert {p.stat().st_mode & 0o777 for p in home.path.rglob("*") if p.is_file()} == {0o600}


@pytest.mark.parametrize("go_on", [train, lambda home: arrivals.take_in(home, pack(home))])
def test_what_a_death_left_goes_when_the_run_goes_on(home, go_on):
    with place_for_copy(home.database) as copy:
        copy.write_bytes(read_store(home.database))
        # the name of one, and not removed
        left = Path(shutil.copytree(copy.parent, copy.parent.with_name(".copy-leftover")))
    assert left.exists()
    go_on(home)
    assert not left.exists()


def test_what_comes_twice_changes_nothing(home):
    archive = pack(home)
    before = outcome(home)
    times = {path: path.stat().st_mtime_ns for path in home.checkpoints.iterdir()}
    arrivals.take_in(home, archive)
    assert outcome(home) == before
    assert {path: path.stat().st_mtime_ns for path in home.checkpoints.iterdir()} == times
    (path,) = home.checkpoints.glob("*.safetensors")
    path.write_bytes(bytes(len(path.read_bytes())))  # what was damaged here is mended
    arrivals.take_in(home, archive)
    assert outcome(home) == before


def test_what_is_ahead_of_all_that_came_stays(home, archive):
    """It may be all that is left of commits that were lost."""
    ahead = [home.checkpoints / f"000009999{end}" for end in (".safetensors", ".json")]
    behind = home.checkpoints / "000000001.json"
    for path in (*ahead, behind):
        path.write_bytes(b"x")
    arrivals.take_in(home, archive)
    assert all(path.read_bytes() == b"x" for path in ahead)
    assert not behind.exists()


@promise(MORE, "a run that comes home with files that no run has", "refused, nothing is changed")
@pytest.mark.parametrize(
    "name",
    [
        "../run.db",
        "/tmp/run.db",
        "checkpoints/../../x",
        "checkpoints/000000001.safetensors\n",
        "checkpoints/000000001.pickle",
        "checkpoints/٠٠٠٠٠٠٠٠١.json",
        "lock",
        "desired.json",
        "run.db-wal",
        "",
        "run.db\0",
    ],
)
def test_a_file_that_no_run_has_is_refused(home, tmp_path, name):
    before = outcome(home)
    archive = archive_of({"run.db": read_store(home.database), name: b"x"})
    for take in (
        lambda: arrivals.take_in(home, archive),
        lambda: make_run(tmp_path / "x", archive),
    ):
        with pytest.raises(StorageError, match="which no run has"):
            take()
    assert outcome(home) == before
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        b"nonsense",
        b"\x80\x04K\x01.",
        b"[" * 100_000 + b"\n",
        archive_of({}, format="proxprop-run-2"),
        archive_of({}, files=[["run.db", -1]]),
        archive_of({}, files=[["run.db", "1"]]),
        archive_of({}, files=[["run.db", 1.0]]),
        archive_of({}, files=[["run.db"]]),
        archive_of({}, files=[[1, 1]]),
        archive_of({}, files=[["run.db", 0], ["run.db", 0]]),
        archive_of({"run.db": b"x"})[:-1],
        archive_of({"run.db": b"x"}) + b"x",
        archive_of({"run.db": b"x" * 1000}),
        archive_of({"config.yaml": b"x"}),
    ],
)
def test_what_is_no_run_is_refused(home, archive):
    before = outcome(home)
    with pytest.raises(StorageError) as caught:
        arrivals.take_in(home, archive)
    assert "\n" not in str(caught.value)
    assert outcome(home) == before
    assert not [path for path in home.path.iterdir() if path.name.startswith(".")]


def files_of(run: Run) -> dict[str, bytes]:
    return {name: bytes(content) for name, content in unpack(pack(run)).items()}


def test_a_store_of_another_version_is_refused(home, tmp_path):
    away = make_run(tmp_path / "away", pack(home))
    connection = sqlite3.connect(away.database)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    files = {**files_of(home), "run.db": away.database.read_bytes()}
    with pytest.raises(StorageError, match="version"):
        arrivals.take_in(home, archive_of(files))


@pytest.mark.parametrize("change", ["flip", "leave out"])
def test_a_checkpoint_that_came_damaged_is_refused(home, archive, change):
    before = outcome(home)
    files = {name: bytes(content) for name, content in unpack(archive).items()}
    (name,) = (name for name in files if name.endswith(".safetensors"))
    if change == "flip":
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    else:
        del files[name]
    with pytest.raises(CheckpointError, match="came damaged"):
        arrivals.take_in(home, archive_of(files))
    assert outcome(home) == before


@pytest.mark.system
@promise(MORE, "a death while a run comes home", "the old run or the new one is there")
def test_a_death_at_any_moment_leaves_the_old_or_the_new(
    home, archive, trained, tmp_path, measured
):
    path = tmp_path / "archive"
    path.write_bytes(archive)
    command = [sys.executable, "-m", "tests.reliability.arriving", str(home.path), str(path)]
    process = start(command, stdout=PIPE, stderr=PIPE, text=True)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    deaths = [json.loads(line) for line in out.splitlines()]
    old = outcome(home)
    # files come first, and those that are not known any more go last
    about = lambda found: {key: found[key] for key in set(found) - {"tensors", "positions"}}  # noqa: E731
    left = [about(death["left"]) for death in deaths]
    assert all(found in (about(old), about(trained)) for found in left)
    known = lambda found: {f"{row[0]:09}.safetensors" for row in found["checkpoints"]}  # noqa: E731
    assert all(known(death["left"]) <= set(death["left"]["tensors"]) for death in deaths)
    assert about(old) in left
    assert about(trained) in left
    for death in deaths:
        assert death["after"] == trained, death["before"]
        assert not [name for name in death["names"] if name.startswith(".arrival")]
    measured(f"{len(deaths)} of {len(deaths)} sub-steps")


def test_progress_ahead_of_a_checkpoint_is_trained_again(home, trained):
    with StoreReader(home.database) as reader:
        step = reader.state()["step"]
    arrivals.note_progress(home, step + 40, 3.0, {"train_loss": 9.0, "time/train": float("nan")})
    arrivals.note_status(home, "running")
    assert home.status() == "interrupted"
    train(home)
    assert outcome(home) == trained
