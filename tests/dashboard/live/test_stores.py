"""Stores that are replaced, deleted, damaged or many while runs are watched."""

from __future__ import annotations

import resource
import shutil
import threading
import time
from pathlib import Path

import pytest

from engine.control import Desired
from engine.errors import StorageError
from engine.locks import RunLock
from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from proxprop_cli import descriptors
from proxprop_cli.dashboard.album import Album
from proxprop_cli.dashboard.catalog import Catalog
from proxprop_cli.dashboard.feed import Feed
from proxprop_cli.dashboard.poller import Poller
from proxprop_cli.dashboard.run_log import last_words
from proxprop_cli.dashboard.views import Member
from tests.dashboard.autoencoder_helper import make_autoencoder
from tests.dashboard.runs_helper import make_run
from tests.reliability.report import MORE, promise

MANY = promise(
    MORE,
    "more runs are watched than files may be open",
    "all are shown: a store is open during a look only",
)
REPLACED = promise(
    MORE,
    "a run is replaced while it is watched",
    "the dashboard shows the new one, from its beginning",
)


def list_status(run):
    (status,) = [one.status for one in Catalog(Runs(run.path.parent)).entries() if one.id == run.id]
    return status


@REPLACED
@pytest.mark.parametrize("deleted", [True, False])
def test_a_replaced_run_is_followed_from_its_beginning(tmp_path, deleted):
    run = make_run(tmp_path, id="one", steps=40, status="finished")
    other = make_run(tmp_path / "others", id="one", steps=20, status="stopped")
    with StoreWriter(run.database) as writer:
        writer.append_event(40, "Warned", {"text": "of the old one"})
    feed = Feed(run)
    assert feed.poll().step == 40
    if deleted:
        shutil.rmtree(run.path)
        assert (feed.poll().status, feed.poll().problem) == ("deleted", "run one was deleted")
    else:
        run.path.rename(tmp_path / "aside")
    shutil.copytree(other.path, run.path)
    view = feed.poll()
    assert (view.status, view.step, view.problem) == ("stopped", 20, "")
    assert not [line for line in view.log if "old one" in line.text]
    assert view.series["train_loss"].last[-1] == 20


@REPLACED
def test_a_replaced_file_with_the_old_number_is_noticed(tmp_path):
    """File systems give the number of a deleted file to the next one."""
    run = make_run(tmp_path, id="one", steps=40)
    other = make_run(tmp_path / "others", id="one", steps=20)
    feed = Feed(run)
    feed.poll()
    run.database.write_bytes(other.database.read_bytes())
    run.lock_file.write_bytes(other.lock_file.read_bytes())
    view = feed.poll()
    assert view.step == 20
    assert view.series["train_loss"].last[-1] == 20


@pytest.mark.parametrize("place", ["state", "latest"])
def test_after_an_error_that_passes_nothing_is_counted_twice(tmp_path, monkeypatch, place):
    run = make_run(tmp_path)
    with StoreWriter(run.database) as writer:
        counts = {"layer": "1", "counts": {"float64": 7}}
        writer.append_event(40, "LadderClimbed", counts)
        writer.append_event(40, "Warned", {"text": "once"})
    feed = Feed(run)
    before = feed.poll()
    assert before.fallbacks == {"1": 7}
    with monkeypatch.context() as patch:

        def fail(*_):
            raise StorageError(f"{run.database}: disk I/O error")

        patch.setattr(StoreReader, place, fail)
        run.set_desired(Desired.RUNNING)
        assert feed.poll().problem == f"{run.id}/run.db: disk I/O error"
    monkeypatch.setattr("proxprop_cli.dashboard.feed._RETRY_SECONDS", 0.0)
    time_passes(monkeypatch, 10.0)
    view = feed.poll()
    assert view.problem == ""
    assert view.fallbacks == {"1": 7}
    assert [line.text for line in view.log].count("once") == 1


def time_passes(monkeypatch, seconds):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)


def test_a_damaged_store_is_not_read_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr("proxprop_cli.dashboard.feed._RETRY_SECONDS", 5.0)
    run = make_run(tmp_path)
    run.database.write_bytes(b"not a database, not at all" * 100)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1.0)
    looks = []
    monkeypatch.setattr(
        "proxprop_cli.dashboard.feed.StoreReader", lambda p: looks.append(p) or 1 / 0
    )
    feed = Feed(run)
    for _ in range(3):
        assert "damaged" in feed.poll().problem
    assert len(looks) == 1
    time_passes(monkeypatch, 6.0)
    feed.poll()
    assert len(looks) == 2, "it may have been an error that passes"


@MANY
def test_no_store_is_open_between_looks(tmp_path, monkeypatch):
    runs = [make_run(tmp_path) for _ in range(3)]
    pictures = make_autoencoder(tmp_path, id="pictures")
    opened, most = set(), [0]
    begin, end = StoreReader.__init__, StoreReader.close

    def open_(reader, path):
        begin(reader, path)
        opened.add(reader)
        most[0] = max(most[0], len(opened))

    def close(reader):
        end(reader)
        opened.discard(reader)

    monkeypatch.setattr(StoreReader, "__init__", open_)
    monkeypatch.setattr(StoreReader, "close", close)
    for run in runs:
        assert Feed(run).poll().series
    assert Album({"output": pictures}).look()[0].leaves
    assert len(Catalog(Runs(tmp_path)).entries()) == 4
    assert (len(opened), most[0]) == (0, 1)

    told, changed = [], threading.Event()
    poller = Poller(
        [Member(run) for run in runs], lambda views: told.append(views) or changed.set()
    )
    poller.start()
    while not (told and all(view.series for view in told[-1])):
        assert changed.wait(60)
        changed.clear()
    poller.stop()
    assert most[0] <= 4, "as many as there are threads that read"


@MANY
def test_the_soft_limit_is_raised(monkeypatch):
    limits = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, values: limits.append(values))
    for soft, hard, expected in (
        (256, resource.RLIM_INFINITY, [(4096, resource.RLIM_INFINITY)]),
        (1024, 2048, [(2048, 2048)]),
        (64, 64, []),
        (8192, 10_000, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ):
        limits.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda kind, pair=(soft, hard): pair)
        descriptors.raise_limit()
        assert limits == expected


@pytest.mark.parametrize("seconds", [10, 45, 70, -70])
def test_a_run_starts_as_long_in_the_list_as_alone(tmp_path, monkeypatch, seconds):
    run = make_run(tmp_path, status="created")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    expected = "starting" if 0 <= seconds < 60 else "interrupted"
    assert Feed(run).poll().status == list_status(run) == expected


@pytest.mark.parametrize("status", ["finished", "stopped", "paused", "running", "diverged"])
def test_list_and_screen_have_one_word(tmp_path, status):
    run = make_run(tmp_path, status=status)
    assert Feed(run).poll().status == list_status(run)
    catalog = Catalog(Runs(tmp_path))
    catalog.entries()
    run.set_desired(Desired.RUNNING)
    expected = "diverged" if status == "diverged" else "starting"
    assert Feed(run).poll().status == list_status(run) == expected
    assert [entry.status for entry in catalog.entries()] == [expected]
    with RunLock(run.lock_file):
        assert Feed(run).poll().status == list_status(run)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_last_words_are_read_of_a_file_of_ours_only(tmp_path, kind):
    run = make_run(tmp_path, status="running")
    (tmp_path / "diary").write_text("dear diary\n")
    log: Path = run.path / "train.log"
    if kind == "pipe":
        import os

        os.mkfifo(log)
    elif kind == "link":
        log.symlink_to(tmp_path / "diary")
    else:
        log.mkdir()
    assert last_words(run.path) == ""
    assert Feed(run).poll().status == "interrupted"


def test_texts_of_a_received_store_are_cut(tmp_path):
    run = make_run(tmp_path, diverged=(3, "x" * 60_000), status="diverged")
    with StoreWriter(run.database) as writer:
        writer.append_event(40, "Warned", {"text": "y" * 60_000})
        writer.append_event(40, "LadderClimbed", {"layer": "z" * 9999, "counts": {"exact": 1}})
        writer.append_metrics(40, {"time/wall": 1e300})
    (run.path / "train.log").write_text("w" * 8000)
    view = Feed(run).poll()
    texts = [view.diverged[1], view.last_words, *view.fallbacks, *(line.text for line in view.log)]
    assert max(map(len, texts)) <= 1001
    assert all(0 <= line.time < 1e11 for line in view.log)
