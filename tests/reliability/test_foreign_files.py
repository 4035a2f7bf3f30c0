"""Files that the program did not write are not removed, overwritten or followed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from engine.run import Run
from engine.runs import Runs
from tests.cli.terminal import SMALL
from tests.reliability.report import FAULTS, promise

TRAIN = ["train", *SMALL, "--method", "backprop", "--epochs", "1", "--set", "log.keep=1"]
TRAIN += ["--set", "log.keep_best=false"]
FOREIGN = promise(
    FAULTS,
    "links and files of yours in a run, a sweep or the folder of runs",
    "not followed, not overwritten, not removed; exit 6 where they are in the way",
)
CHECKPOINTS = ("paper-final.safetensors", "NOTES.txt", "7.json", "000000006.bak")


@pytest.fixture
def run(cli, tmp_path) -> Run:
    assert cli(*TRAIN).code == 0
    return Runs(tmp_path / "runs").find("latest")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@FOREIGN
def test_your_files_among_the_checkpoints(cli, run):
    for name in CHECKPOINTS:
        (run.checkpoints / name).write_bytes(b"mine")
    assert cli("resume", run.id, "--epochs", "3").code == 0
    found = contents(run.checkpoints)
    assert {name: found[name] for name in CHECKPOINTS} == dict.fromkeys(CHECKPOINTS, b"mine")
    assert len(found) == len(CHECKPOINTS) + 2


@FOREIGN
@pytest.mark.parametrize("method", ["resume", "delete"])
def test_checkpoints_that_are_a_link(cli, run, tmp_path, method):
    target = tmp_path / "precious"
    run.checkpoints.rename(target)
    (target / "thesis.tex").write_bytes(b"mine")
    (target / ".0123456789abcdef.tmp").write_bytes(b"mine")
    run.checkpoints.symlink_to(target)
    before = contents(target)
    how = ["resume", run.id, "--epochs", "2"] if method == "resume" else ["runs", "delete", "-y"]
    answer = cli(*how) if method == "resume" else cli(*how, run.id)
    assert answer.code == 6
    assert "checkpoints: expected a folder of proxprop, found a link" in answer.err
    assert contents(target) == before
    assert run.path.exists()


@FOREIGN
@pytest.mark.parametrize("name", ["run.db", "run.db-wal", "config.yaml", "lock", "train.log"])
@pytest.mark.parametrize("command", ["resume", "delete"])
def test_files_that_are_links(cli, run, tmp_path, name, command):
    target = tmp_path / "precious"
    if (run.path / name).exists():
        (run.path / name).rename(target)
    else:
        target.write_bytes(b"mine")
    (run.path / name).symlink_to(target)
    before = target.read_bytes()
    how = ["resume", run.id, "--epochs", "2"] if command == "resume" else ["runs", "delete", "-y"]
    answer = cli(*how) if command == "resume" else cli(*how, run.id)
    if name != "train.log" or command == "delete":
        assert answer.code == 6
        assert "link" in answer.err or "not written by proxprop" in answer.err
    assert target.read_bytes() == before
    assert (run.path / name).is_symlink()


@FOREIGN
@pytest.mark.parametrize("name", ["desired.json", "room", "waiting"])
def test_small_files_that_are_links(cli, run, tmp_path, name):
    target = tmp_path / "precious"
    target.write_bytes(b"mine")
    state = target.stat()
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(target)
    cli("resume", run.id, "--epochs", "2")
    cli("pause", run.id)
    assert target.read_bytes() == b"mine"
    assert target.stat().st_mtime_ns == state.st_mtime_ns
    assert (run.path / name).is_symlink()


@FOREIGN
def test_files_of_yours_with_common_names(cli, run):
    for name in ("room", "waiting"):
        (run.path / name).write_bytes(b"mine")
    assert cli("resume", run.id, "--epochs", "2").code == 0
    assert [(run.path / name).read_bytes() for name in ("room", "waiting")] == [b"mine"] * 2


@FOREIGN
def test_deleting_a_run_with_your_files(cli, run):
    note = run.path / "NOTES.txt"
    note.write_bytes(b"mine")
    before = contents(run.path)
    answer = cli("runs", "delete", "--yes", run.id)
    assert answer.code == 6
    assert "NOTES.txt: not written by proxprop; move it away to delete" in answer.err
    assert contents(run.path) == before
    note.unlink()
    assert cli("runs", "delete", "--yes", run.id).code == 0
    assert not run.path.exists()


@FOREIGN
def test_hidden_folders_of_yours(cli, run, tmp_path):
    root = run.path.parent
    mine = [root / ".deleted-scenes", root / ".new-project", root / ".deleted-run-0123abcd"]
    mine.append(root / ".new-projects")
    for folder in mine:
        folder.mkdir()
        (folder / "config.yaml").write_bytes(b"mine")
        (folder / "train.log").write_bytes(b"mine")
        (folder / "thesis.tex").write_bytes(b"mine")
        os.utime(folder, (1e9, 1e9))
    target = tmp_path / "precious"
    shutil.copytree(run.path, target)
    (root / ".deleted-abc-0123abcd").symlink_to(target)
    assert cli("runs", "delete", "--yes", run.id).code == 0
    assert cli(*TRAIN).code == 0
    names = ("thesis.tex", "config.yaml", "train.log")
    assert all((folder / name).read_bytes() == b"mine" for folder in mine for name in names)
    assert (target / "run.db").exists()


SWEEP = ["sweep-tau", *SMALL, "--methods", "backprop", "--epochs", "1", "--tau", "0.1,0.01"]


@FOREIGN
def test_your_files_in_a_sweep(cli, tmp_path):
    sweep = cli(*SWEEP, "--json").json["sweep"]
    root = tmp_path / "runs"
    (root / sweep / "NOTES.txt").write_bytes(b"mine")
    runs = Runs(root).all()
    answer = cli("runs", "delete", "--yes", sweep)
    assert answer.code == 6
    assert (root / sweep / "NOTES.txt").read_bytes() == b"mine"
    assert Runs(root).all() == runs


@FOREIGN
def test_a_sweep_that_names_the_runs_of_others(cli, run, tmp_path):
    sweep = cli(*SWEEP, "--json").json["sweep"]
    path = tmp_path / "runs" / sweep / "sweep.json"
    own = [one.id for one in Runs(tmp_path / "runs").all() if one.id != run.id]
    path.write_text(path.read_text().replace(own[0], run.id))
    assert cli("runs", "delete", "--yes", sweep).code == 0
    assert {one.id for one in Runs(tmp_path / "runs").all()} == {run.id, own[0]}


@FOREIGN
def test_a_trial_that_is_a_link(cli, tmp_path):
    sweep = cli(*SWEEP, "--json").json["sweep"]
    runs = Runs(tmp_path / "runs").all()
    runs[0].path.rename(tmp_path / "elsewhere")
    runs[0].path.symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere")
    cli(*SWEEP, "--json")
    cli("export", sweep, "--output", str(tmp_path / "out.csv"))
    assert contents(tmp_path / "elsewhere") == before
    assert runs[0].path.is_symlink()


@FOREIGN
@pytest.mark.parametrize("name", ["run.db", "waiting", "new.csv", "checkpoints/new.csv"])
def test_nothing_is_exported_into_a_run(cli, run, name):
    before = contents(run.path)
    answer = cli("export", run.id, "-o", str(run.path / name), "--force")
    assert answer.code == 2
    assert "is in the folder of a run or a sweep" in answer.err
    assert contents(run.path) == before


@FOREIGN
def test_no_event_files_go_into_a_run(cli, run):
    answer = cli("export", run.id, "--format", "tensorboard", "-o", str(run.path))
    assert (answer.code, "is in the folder of a run" in answer.err) == (2, True)


@promise(
    FAULTS,
    "the configuration of a run is edited, or another run's is put in its place",
    "refused in one line with both settings, nothing is changed; limits may be raised",
)
def test_an_edited_configuration(cli, run):
    path = run.path / "config.yaml"
    edited = (
        path.read_text().replace("  tau: 0.1\n", "  tau: 0.5\n").replace("epochs: 1", "epochs: 2")
    )
    assert edited.count("  tau: 0.5\n") == 1
    before = run.database.read_bytes()
    path.write_text(edited)
    answer = cli("resume", run.id)
    assert answer.code == 2
    assert "it has tau 0.1 instead of 0.5; put the old settings back" in answer.err
    assert run.database.read_bytes() == before
    path.write_text(edited.replace("  tau: 0.5\n", "  tau: 0.1\n"))
    assert cli("resume", run.id).code == 0
