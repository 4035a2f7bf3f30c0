"""Runs that travel: what is packed, what is taken in, what is refused. No Ray is needed here."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cluster import arrivals, workspace
from engine.cluster import seat as seats
from engine.cluster.connection import _explained
from engine.cluster.parcel import make_run, pack, unpack
from engine.cluster.seat import News, Outbox, Seat, versions
from engine.cluster.shares import Share
from engine.control import AlwaysRun, Desired, Word
from engine.errors import CheckpointError, StorageError, StorageFullError
from engine.run import Run
from engine.runs import Runs
from engine.session import Sitting, sit
from engine.store_copy import place_for_copy, read_store
from engine.store_reader import StoreReader
from tests.cli.terminal import SMALL
from tests.engine import small
from tests.reliability.report import MORE, promise
from tests.reliability.trainings import outcome


def train(run: Run, control=None) -> None:
    sit(run, Sitting(control or AlwaysRun(), lambda event: None, small.cache_dir()))


class Stopping:
    """Says stop after so many questions."""

    def __init__(self, count: int) -> None:
        self.count = count

    def desired(self) -> Desired:
        self.count -= 1
        return Desired.RUNNING if self.count > 0 else Desired.STOPPED

    def stop_reason(self) -> str:
        return "test"


@pytest.fixture
def home(tmp_path: Path) -> Run:
    """A run that was begun."""
    run = Runs(tmp_path / "home").create(
        small.config(epochs=4, log__keep=1, log__keep_best=False, threads=1)
    )
    train(run, Stopping(7))
    return run


def parcel_of(files: dict[str, bytes], /, **header: object) -> bytes:
    listed = [[name, len(content)] for name, content in files.items()]
    document = {"format": "proxprop-run-1", "files": listed, **header}
    return json.dumps(document).encode() + b"\n" + b"".join(files.values())


def test_a_run_goes_away_and_comes_home_as_if_it_had_stayed(home, tmp_path):
    stayed = Runs(tmp_path / "other").create(
        small.config(epochs=4, log__keep=1, log__keep_best=False, threads=1)
    )
    train(stayed)
    arrivals.note_status(home, "running")  # a process died over it
    away = make_run(tmp_path / "away", pack(home))
    assert outcome(away) == outcome(home)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in away.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    train(away)
    with StoreReader(home.database) as watching:
        version = watching.data_version()
        before = watching.state()["step"]
        with home.lock():
            arrivals.take_in(home, pack(away))
        assert watching.data_version() != version
        assert watching.state()["step"] > before
    found, expected = outcome(home), outcome(stayed)
    assert found == expected
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
        left = Path(shutil.copytree(copy.parent, f"{copy.parent}left"))
    assert left.exists()
    go_on(home)
    assert not left.exists()


def test_what_comes_twice_changes_nothing(home):
    parcel = pack(home)
    before = outcome(home)
    times = {path: path.stat().st_mtime_ns for path in home.checkpoints.iterdir()}
    arrivals.take_in(home, parcel)
    assert outcome(home) == before
    assert {path: path.stat().st_mtime_ns for path in home.checkpoints.iterdir()} == times


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
    parcel = parcel_of({"run.db": read_store(home.database), name: b"x"})
    for take in (lambda: arrivals.take_in(home, parcel), lambda: make_run(tmp_path / "x", parcel)):
        with pytest.raises(StorageError, match="which no run has"):
            take()
    assert outcome(home) == before
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "parcel",
    [
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        b"nonsense",
        b"\x80\x04K\x01.",
        b"[" * 100_000 + b"\n",
        parcel_of({}, format="proxprop-run-2"),
        parcel_of({}, files=[["run.db", -1]]),
        parcel_of({}, files=[["run.db", "1"]]),
        parcel_of({}, files=[["run.db", 1.0]]),
        parcel_of({}, files=[["run.db"]]),
        parcel_of({}, files=[[1, 1]]),
        parcel_of({}, files=[["run.db", 0], ["run.db", 0]]),
        parcel_of({"run.db": b"x"})[:-1],
        parcel_of({"run.db": b"x"}) + b"x",
        parcel_of({"run.db": b"x" * 1000}),
        parcel_of({"config.yaml": b"x"}),
    ],
)
def test_what_is_no_run_is_refused(home, parcel):
    before = outcome(home)
    with pytest.raises(StorageError) as caught:
        arrivals.take_in(home, parcel)
    assert "\n" not in str(caught.value)
    assert outcome(home) == before
    assert not [path for path in home.path.iterdir() if path.name.startswith(".")]


def test_a_store_of_another_version_is_refused(home, tmp_path):
    import sqlite3

    away = make_run(tmp_path / "away", pack(home))
    connection = sqlite3.connect(away.database)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    files = {name: bytes(content) for name, content in unpack(pack(home)).items()}
    files["run.db"] = away.database.read_bytes()
    with pytest.raises(StorageError, match="version"):
        arrivals.take_in(home, parcel_of(files))


@pytest.mark.parametrize("change", ["flip", "leave out"])
def test_a_checkpoint_that_came_damaged_is_refused(home, tmp_path, change):
    before = outcome(home)
    away = make_run(tmp_path / "away", pack(home))
    train(away)
    files = {name: bytes(content) for name, content in unpack(pack(away)).items()}
    (name,) = (name for name in files if name.endswith(".safetensors"))
    if change == "flip":
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    else:
        del files[name]
    with pytest.raises(CheckpointError, match="came damaged"):
        arrivals.take_in(home, parcel_of(files))
    assert outcome(home) == before


@promise(MORE, "a death while a run comes home", "the old run or the new one is there")
def test_a_death_at_any_moment_leaves_the_old_or_the_new(home, tmp_path, measured):
    away = make_run(tmp_path / "away", pack(home))
    train(away)
    parcel = tmp_path / "parcel"
    parcel.write_bytes(pack(away))
    # each in a process of its own; here threads of torch may hold anything
    arriving = [sys.executable, "-m", "tests.reliability.arriving", home.path, parcel]
    done = subprocess.run(arriving, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    old, new = outcome(home), outcome(away)
    # files come first, and those that are not known any more go last
    about = lambda found: {key: found[key] for key in set(found) - {"tensors", "positions"}}  # noqa: E731
    left = [about(death["left"]) for death in deaths]
    assert all(found in (about(old), about(new)) for found in left)
    known = lambda found: {f"{row[0]:09}.safetensors" for row in found["checkpoints"]}  # noqa: E731
    assert all(known(death["left"]) <= set(death["left"]["tensors"]) for death in deaths)
    assert about(old) in left
    assert about(new) in left
    for death in deaths:
        assert death["after"] == new, death["before"]
        assert not [name for name in death["names"] if name.startswith(".arrival")]
    measured(f"{len(deaths)} of {len(deaths)} sub-steps")


def test_progress_ahead_of_a_checkpoint_is_trained_again(home):
    expected = Runs(home.path.parent).create(
        small.config(epochs=4, log__keep=1, log__keep_best=False, threads=1)
    )
    train(expected)
    with StoreReader(home.database) as reader:
        step = reader.state()["step"]
    arrivals.note_progress(home, step + 40, 3.0, {"train_loss": 9.0, "time/train": float("nan")})
    arrivals.note_status(home, "running")
    assert home.status() == "interrupted"
    train(home)
    assert outcome(home) == outcome(expected)


def news_of(seat: Seat, errand: int) -> list[tuple[News, bytes]]:
    found = []
    while not found or found[-1][0].kind not in ("ended", "failed"):
        content, parcel = seat.news(errand)
        found.append((News.from_bytes(content), parcel))
    return found


def test_a_seat_trains_run_after_run_and_hears_from_home(home, tmp_path):
    seat = Seat(versions(), str(small.cache_dir()), 2)
    try:
        folder = seat._folder
        seat.tell(1, "stopped", "at once")  # it may overtake the run
        seat.begin(1, home.id, pack(home))
        *_, (news, parcel) = news_of(seat, 1)
        assert (news.kind, news.status, news.text) == ("ended", "stopped", "at once")
        arrivals.take_in(home, parcel)
        assert home.status() == "stopped"
        seat.begin(2, home.id, pack(home))
        (first, _), *_, (news, parcel) = news_of(seat, 2)
        assert first.kind == "begun"
        assert (news.kind, news.status) == ("ended", "finished")
        arrivals.take_in(home, parcel)
        assert home.status() == "finished"
        with StoreReader(home.database) as reader:
            assert reader.state()["side_by_side"] == 2
        seat.begin(3, "bad", b"nonsense\n")
        assert "what came is no run" in news_of(seat, 3)[-1][0].text
        assert {path.name for path in folder.iterdir()} == {"lock"}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        seat.leave()
    assert not folder.exists()


@pytest.mark.parametrize("allowed", [False, True])
def test_a_run_that_began_elsewhere_otherwise(home, allowed):
    home.save_config(home.config().model_copy(update={"threads": 2}))
    seat = Seat(versions(), str(small.cache_dir()), 1, allowed)
    try:
        seat.begin(1, home.id, pack(home))
        news, _ = news_of(seat, 1)[-1]
    finally:
        seat.leave()
    if allowed:
        assert (news.kind, news.status) == ("ended", "finished")
    else:
        assert news.kind == "failed"
        assert "threads was 1, is 2; --allow-inexact continues it all the same" in news.text


def test_a_slow_reader_gets_the_newest_epoch_and_checkpoint_and_all_else():
    box = Outbox()
    box.put(News("begun"))
    for step in range(5):
        box.put(News("epoch", step=step))
        box.put(News("kept"), b"%d" % step)
    box.put(News("held"), b"h")
    box.put(News("ended"), b"e")
    found = [box.take(0.0) for _ in range(6)]
    assert [news.kind for news, _ in found] == [
        "begun",
        "epoch",
        "kept",
        "held",
        "ended",
        "nothing",
    ]
    assert (found[1][0].step, found[2][1]) == (4, b"4")


@pytest.mark.parametrize("what", ["make_run", "pack"])
def test_a_seat_waits_for_room_on_its_disk(home, monkeypatch, what):
    from engine.cluster import parcel

    sent = pack(home)
    original, refusals = getattr(parcel, what), []

    def full(*arguments: object) -> object:
        if len(refusals) < 3:
            refusals.append(what)
            raise StorageFullError("no room")
        return original(*arguments)

    monkeypatch.setattr(seats, "_ROOM_SECONDS", 0.01)
    monkeypatch.setattr(parcel, what, full)
    seat = Seat(versions(), str(small.cache_dir()), 1)
    try:
        seat.begin(1, home.id, sent)
        news, came = news_of(seat, 1)[-1]
    finally:
        seat.leave()
    assert refusals == [what] * 3
    assert (news.kind, news.status) == ("ended", "finished")
    arrivals.take_in(home, came)
    assert home.status() == "finished"


def test_a_seat_that_finds_no_room_can_be_stopped(home, monkeypatch):
    from engine.cluster import parcel

    def full(*arguments: object) -> object:
        raise StorageFullError("no room")

    sent = pack(home)
    monkeypatch.setattr(seats, "_ROOM_SECONDS", 0.01)
    monkeypatch.setattr(parcel, "make_run", full)
    seat = Seat(versions(), str(small.cache_dir()), 1)
    try:
        seat.begin(1, home.id, sent)
        assert News.from_bytes(seat.news(1)[0]).kind == "begun"
        seat.tell(1, "stopped", "enough")
        assert "no room" in news_of(seat, 1)[-1][0].text
    finally:
        seat.leave()


def test_a_machine_with_other_versions_takes_no_seat():
    with pytest.raises(RuntimeError, match=r"expected torch 1\.0 as on the machine that asks"):
        Seat({**versions(), "torch": "1.0"}, None, 1)


def test_a_stop_is_for_good():
    word = Word()
    word.hear(Desired.PAUSED, "")
    assert word.desired() is Desired.PAUSED
    word.hear(Desired.STOPPED, "why")
    word.hear(Desired.RUNNING, "")
    assert (word.desired(), word.stop_reason()) == (Desired.STOPPED, "why")


@pytest.mark.parametrize(
    ("share", "machine", "count"),
    [
        (Share(1), {"CPU": 8.0}, 8),
        (Share(3), {"CPU": 8.0}, 2),
        (Share(1), {}, 0),
        (Share(1, 1), {"CPU": 8.0}, 0),
        (Share(1, 0.25), {"CPU": 64.0, "GPU": 2.0}, 8),
        (Share(1, 0.1), {"CPU": 64.0, "GPU": 1.0}, 10),
        (Share(1, 0.6), {"CPU": 64.0, "GPU": 2.0}, 2),
        (Share(1, 2), {"CPU": 64.0, "GPU": 5.0}, 2),
        (Share(16, 0.5), {"CPU": 32.0, "GPU": 8.0}, 2),
    ],
)
def test_how_many_find_room(share, machine, count):
    assert share.fits(machine) == count


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        (
            RuntimeError(
                "Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: "
                "3.12.1\nThis process on node 10.0.0.2 was started with:\n    Ray: 2.60.0\n    "
                "Python: 3.11.7\n"
            ),
            None,
            "the cluster has Ray 2.59.0 and Python 3.12.1, this machine Ray 2.60.0 and Python 3.11",
        ),
        (
            ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
            RuntimeError("No node info found matching attributes: '' when trying to resolve node"),
            "join it with 'ray start --address=10.0.0.1:6379 --num-cpus=0'",
        ),
        (
            ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
            RuntimeError("Unauthenticated: RPC error: InvalidAuthToken: …"),
            "authentication failed",
        ),
        (ConnectionError("Could not find any running Ray instance. Please …"), None, "no Ray clus"),
        (ValueError("anything\nelse"), None, "Ray did not start: ValueError: anything else"),
    ],
)
def test_what_ray_tells_in_many_lines_is_told_in_one(error, cause, words):
    error.__cause__ = cause
    text = str(_explained("10.0.0.1:6379", error))
    assert words in text
    assert text.startswith("--address 10.0.0.1:6379: ")
    assert "\n" not in text


def test_without_ray(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.cluster.connection.find_spec", lambda name: None)
    answer = cli("sweep-tau", "--engine", "ray")
    assert answer.code == 2
    assert answer.err == (
        "proxprop: --engine ray: Ray is not installed; pip install 'proxprop[cluster]'\n"
    )
    assert not (tmp_path / "runs").exists()


def test_the_local_engine_loads_no_ray(tmp_path):
    code = (
        "import sys; from proxprop_cli.__main__ import run; assert run(sys.argv[1:]) == 0; "
        "assert not any(name.partition('.')[0] == 'ray' for name in sys.modules)"
    )
    arguments = ["sweep-tau", *SMALL, "--epochs", "1", "--tau", "1", "--methods", "exact"]
    arguments += ["--seeds", "1", "--plain", "--dir", str(tmp_path), "--set", "threads=1"]
    subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, timeout=280, capture_output=True
    )


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "_PREFIX", "test-ray-")
    old, young, held, link = (tmp_path / f"test-ray-{name}" for name in "abcd")
    for folder in (old, young, held):
        folder.mkdir()
        (folder / "lock").touch()
    link.symlink_to(tmp_path)
    long_ago = time.time() - 60
    for folder in (old, held):
        os.utime(folder, (long_ago, long_ago))
    with workspace.RunLock(held / "lock"):
        workspace.remove_left(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert held.exists()
    assert link.is_symlink()
