"""Folders of runs: runs are made whole, found safely and deleted whole."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from engine import filesystems
from engine.config import RunConfig
from engine.control import Desired
from engine.errors import BusyError, ConfigError, StorageError
from engine.run import Run
from engine.runs import Runs, default_root, is_valid_id
from engine.store import StoreWriter
from tests.engine.holding import Clock


def test_a_new_run_is_complete_and_private(runs: Runs) -> None:
    config = RunConfig(name="läuft: #1", epochs=3)
    run = runs.create(config)
    assert re.fullmatch(r"[a-z][a-z2-7]{7}", run.id)
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.path.iterdir()}
    files = {"config.yaml", "run.db", "desired.json", "lock"}
    assert modes == {**dict.fromkeys(files, 0o600), "checkpoints": 0o700}
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert runs.root.stat().st_mode & 0o777 == 0o700
    assert run.config() == config
    assert run.name == "läuft: #1"
    assert run.status() == "created"
    assert not run.is_live()
    assert run.desired() is Desired.RUNNING


def test_a_run_that_could_not_be_made_leaves_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(StoreWriter, "create", fail)
    with pytest.raises(StorageError, match="no room"):
        runs.create(RunConfig())
    assert list(runs.root.iterdir()) == []


def test_the_folder_appears_only_when_complete(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Run]] = []
    create = StoreWriter.create

    def spy(path: Path, **options: object) -> StoreWriter:
        seen.append(runs.all())
        return create(path)

    monkeypatch.setattr(StoreWriter, "create", spy)
    runs.create(RunConfig())
    assert seen == [[]]


def test_what_died_while_it_was_made_is_deleted_later(runs: Runs) -> None:
    dead, young = runs.root / ".new-dead1234", runs.root / ".new-young123"
    for folder, made in ((dead, 1.0), (young, 1_000_000.0)):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "run.db").touch()
        os.utime(folder, (made, made))
    later = Runs(runs.root, clock=Clock(1_000_100.0))
    made = {later.create(RunConfig()).id for _ in range(2)}
    assert {path.name for path in runs.root.iterdir()} == {young.name, *made}


def test_network_file_systems_are_refused(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "filesystem", lambda _: "nfs4")
    with pytest.raises(StorageError, match=r"network file system \(nfs4\)"):
        runs.create(RunConfig())
    assert not runs.root.exists()


@pytest.mark.parametrize("id", ["a", "7", "ab12cd34-exact-0", "a" * 64])
def test_valid_ids(id: str) -> None:
    assert is_valid_id(id)


@pytest.mark.parametrize("id", ["", "-a", "A", "a_b", "a.b", "a/b", "a\n", "é", "a" * 65, "latest"])
def test_invalid_ids(id: str, runs: Runs) -> None:
    assert not is_valid_id(id)
    with pytest.raises(ConfigError, match="invalid run id"):
        runs.create(RunConfig(), id=id)


def test_an_id_is_used_once(runs: Runs) -> None:
    kept = runs.create(RunConfig(name="kept"), id="cell-1")
    with pytest.raises(ConfigError, match="'cell-1' exists already"):
        runs.create(RunConfig(name="other"), id="cell-1")
    assert kept.config().name == "kept"
    assert [path.name for path in runs.root.iterdir()] == ["cell-1"]


def test_runs_are_sorted_by_creation_not_by_change(runs: Runs) -> None:
    made = [runs.create(RunConfig(), id=id) for id in ("m", "a", "z")]
    made[0].save_config(RunConfig(epochs=99))
    made[0].set_desired(Desired.STOPPED)
    assert [run.id for run in runs.all()] == ["z", "a", "m"]
    assert all(run.created < 2_000 for run in made), "the clock that was given counts"
    assert runs.find("latest").id == "z"


def test_a_run_is_found_by_id_prefix_and_name(runs: Runs) -> None:
    runs.create(RunConfig(name="my run/1"), id="abc1")
    runs.create(RunConfig(), id="abd2")
    runs.create(RunConfig(), id="abd2-long")
    assert runs.find("abc1").id == "abc1"
    assert runs.find("abc").id == "abc1"
    assert runs.find("my run/1").id == "abc1"
    assert runs.find("abd2").id == "abd2"
    assert runs.find("abd2-").id == "abd2-long"


def test_ambiguous_references_list_the_candidates(runs: Runs) -> None:
    runs.create(RunConfig(name="twin"), id="abc1")
    runs.create(RunConfig(name="twin"), id="abd2")
    runs.create(RunConfig(name="ab"), id="x")
    with pytest.raises(ConfigError, match=r"'twin' could be any of abd2 \('twin'\), abc1"):
        runs.find("twin")
    with pytest.raises(ConfigError, match=r"any of x \('ab'\), abd2 \('twin'\), abc1"):
        runs.find("ab")


@pytest.mark.parametrize(
    "ref", ["../x", "..", ".", "", "/etc/passwd", "a/b", "a\x00b", "\x00", "a\\b", ".new-x"]
)
def test_path_tricks_are_invalid_ids(ref: str, runs: Runs, run: Run) -> None:
    with pytest.raises(ConfigError, match="invalid run id"):
        runs.find(ref)


def test_a_link_out_of_the_folder_is_an_invalid_id(runs: Runs, run: Run, tmp_path: Path) -> None:
    elsewhere = Runs(tmp_path / "other").create(RunConfig(name="elsewhere"), id="real")
    (runs.root / "linked").symlink_to(elsewhere.path)
    (runs.root / "dangling").symlink_to(tmp_path / "nothing")
    for ref in ("linked", "dangling"):
        with pytest.raises(ConfigError, match=f"invalid run id '{ref}'"):
            runs.find(ref)
    with pytest.raises(ConfigError, match="no run 'linke'"):
        runs.find("linke")
    with pytest.raises(ConfigError, match="'linked' exists already"):
        runs.create(RunConfig(), id="linked")
    assert runs.all() == [run]


def test_an_unknown_run_gets_a_hint(runs: Runs) -> None:
    with pytest.raises(ConfigError, match=r"no runs in .* yet"):
        runs.find("latest")
    runs.create(RunConfig(name="baseline"), id="abcdefgh")
    with pytest.raises(ConfigError, match=r"no run 'abcdefgx' .*did you mean 'abcdefgh'"):
        runs.find("abcdefgx")
    with pytest.raises(ConfigError, match="did you mean 'baseline'"):
        runs.find("basline")
    with pytest.raises(ConfigError, match="'proxprop runs list' shows"):
        runs.find("zzz")


def test_what_is_no_run_is_passed_over(runs: Runs, run: Run) -> None:
    (runs.root / "folder").mkdir()
    (runs.root / "file").touch()
    (runs.root / ".new-abc").mkdir()
    assert runs.all() == [run]
    with pytest.raises(ConfigError, match=r"invalid run id 'folder'.*no config\.yaml"):
        runs.find("folder")


def test_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROXPROP_DIR", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.setenv("PROXPROP_DIR", "")
    assert default_root().parts[-2:] == ("proxprop", "runs")


def test_deleting(runs: Runs, run: Run) -> None:
    other = runs.create(RunConfig())
    (runs.root / ".deleted-left-0123abcd").mkdir()
    with run.lock(), pytest.raises(BusyError):
        runs.delete(run)
    assert run.exists()
    runs.delete(run)
    assert [path.name for path in runs.root.iterdir()] == [other.id]
