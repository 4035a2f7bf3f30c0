"""``proxprop resume``, and the checkpoints it resumes from."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from engine.file_control import FileControl
from engine.runs import Runs
from engine.session import Sitting, sit
from engine.store_reader import StoreReader
from engine.summary import summarize
from tests.cli.terminal import SMALL
from tests.cli.trained import train_copy
from tests.engine.small import cache_dir


@pytest.fixture
def trained(tmp_path):
    """A finished run of two epochs."""
    options = ["--epochs", "2", "--name", "first", "--json"]
    return train_copy(tmp_path / "runs", *SMALL, *options).json


def stored(tmp_path):
    return Runs(tmp_path / "runs").all()


def test_resume_of_a_finished_run_says_so_and_extends_it(cli, trained):
    again = cli("resume", "first", "--json")
    assert again.code == 0
    assert again.json["status"] == "finished"
    assert again.json["steps"] == 12
    assert "--epochs" in cli("resume", "first").out
    longer = cli("resume", "first", "--epochs", "3", "--json")
    assert (longer.json["steps"], longer.json["epochs"]) == (18, 3)
    shorter = cli("resume", "first", "--epochs", "1")
    assert shorter.code == 2
    # the same as trained in one go
    whole = cli("train", *SMALL, "--epochs", "3", "--json")
    assert whole.json["train_loss"] == longer.json["train_loss"]


def test_a_step_size_that_depends_on_the_number_of_epochs_is_told_of(cli):
    cosine = ["--set", "schedule.name=cosine", "--tau", "0.5", "--name", "falling"]
    assert cli("train", *SMALL, *cosine, "--epochs", "2").code == 0
    longer = cli("resume", "falling", "--epochs", "4")
    assert longer.code == 0
    told = "with 4 instead of 2, tau goes on with 0.25 instead of 0"
    assert next(line for line in longer.err.splitlines() if "schedule" in line).endswith(told)
    constant = ["train", *SMALL, "--epochs", "1", "--name", "constant"]
    assert cli(*constant).code == 0
    assert "schedule" not in cli("resume", "constant", "--epochs", "2").err


def test_time_limit(cli):
    answer = cli("train", *SMALL, "--epochs", "100000", "--max-seconds", "0.05", "--json")
    assert answer.json["status"] == "finished"
    assert answer.json["reason"] == "time limit"
    assert answer.json["seconds"] >= 0.05
    assert answer.json["epochs"] < 100_000


@pytest.fixture
def same_threads():
    """Undo a run's setting of the number of threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("same_threads")
def test_resume_elsewhere_needs_permission(cli, tmp_path):
    first = cli("train", *SMALL, "--epochs", "1", "--set", "threads=1", "--json")
    run = Runs(tmp_path / "runs").find(first.json["run"])
    config = run.config()
    run.save_config(config.model_copy(update={"threads": 2}))
    refused = cli("resume", run.id, "--epochs", "2")
    assert refused.code == 4
    assert "threads was 1, is 2" in refused.err
    assert "--allow-inexact" in refused.err
    assert run.config().epochs == 1  # what is refused changes nothing
    allowed = cli("resume", run.id, "--epochs", "2", "--allow-inexact", "--json")
    assert allowed.code == 0
    assert allowed.json["steps"] == 12


def test_all_checkpoints_damaged_is_refused_and_changes_nothing(cli, trained, tmp_path):
    run = Runs(tmp_path / "runs").find("first")
    for path in run.checkpoints.glob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    before = run.database.read_bytes()
    answer = cli("resume", "first", "--epochs", "3")
    assert answer.code == 4
    assert "none of its" in answer.err
    assert run.database.read_bytes() == before


def test_damaged_newest_checkpoint_falls_back_and_says_so(cli, trained, tmp_path):
    run = Runs(tmp_path / "runs").find("first")
    newest = max(run.checkpoints.glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-5])
    answer = cli("resume", "first", "--epochs", "3", "--json")
    assert answer.code == 0
    assert "damaged" in answer.err
    assert "going on from step 6" in answer.err
    whole = cli("train", *SMALL, "--epochs", "3", "--json")
    assert answer.json["train_loss"] == whole.json["train_loss"]


def test_a_pickle_in_place_of_a_checkpoint_is_never_loaded(cli, trained, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    run = Runs(tmp_path / "runs").find("first")
    for path in run.checkpoints.iterdir():
        path.write_bytes(pickle.dumps(Bomb()))
    assert cli("resume", "first", "--epochs", "3").code == 4
    assert not (tmp_path / "exploded").exists()


def image_folder(folder):
    """Two classes of 8x8 pictures."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        for index in range(30):
            pixels = rng.integers(0, 120, (8, 8), dtype=np.uint8) + (100 if name == "light" else 0)
            path = folder / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


IMAGES = ["--set", "data.name=imagefolder", "--set", "model.hidden=[8]"]


def test_a_relative_folder_of_images_is_found_again_from_elsewhere(cli, tmp_path, monkeypatch):
    image_folder(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    options = [*IMAGES, "--set", "data.root=pictures", "--set", "data.validation=10"]
    assert cli("train", *options, "--epochs", "1").code == 0
    monkeypatch.chdir("/")
    answer = cli("resume", "latest", "--epochs", "2", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["epochs"] == 2


def test_resume_with_changed_data_needs_permission(cli, tmp_path):
    image_folder(tmp_path / "pictures")
    root = f"data.root={tmp_path / 'pictures'}"
    options = [*IMAGES, "--set", root, "--set", "data.validation=10"]
    assert cli("train", *options, "--epochs", "1").code == 0
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "pictures" / "light" / "0.png")
    refused = cli("resume", "latest", "--epochs", "2")
    assert refused.code == 4
    assert "data_sha256" in refused.err


def test_keeps_the_newest_and_the_best_checkpoint_and_nothing_else(cli, tmp_path):
    cli("train", *SMALL, "--epochs", "14", "--set", "log.keep=1")
    (run,) = stored(tmp_path)
    with StoreReader(run.database) as reader:
        steps, accuracies = reader.series("val_accuracy")
        kept = [row.step for row in reader.checkpoints()]
    best = int(steps[1:][accuracies[1:].argmax()])  # the first of equals
    assert best < 84, "the best epoch must not be the last one for this test"
    assert kept == [84, best]
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == sorted(
        f"{step:09d}.{end}" for step in (best, 84) for end in ("json", "safetensors")
    )


def test_what_a_dead_process_left_among_the_checkpoints_is_removed(cli, trained, tmp_path):
    (run,) = stored(tmp_path)
    strays = [run.checkpoints / ".0123456789abcdef.tmp", run.checkpoints / "000000005.safetensors"]
    ahead = run.checkpoints / "000000099.safetensors"
    for stray in [*strays, ahead]:
        stray.write_bytes(b"x")
    assert cli("resume", "first", "--epochs", "3").code == 0
    assert not any(stray.exists() for stray in strays)
    assert ahead.exists(), "until training has come as far"


def test_after_falling_back_the_summary_is_of_where_the_run_stands(cli, trained, tmp_path):
    (run,) = stored(tmp_path)
    newest = max(run.checkpoints.glob("*.safetensors"))
    newest.write_bytes(b"damaged")
    control = FileControl(run)
    control.request_stop("test")
    sit(run, Sitting(control, lambda event: None, cache_dir()))
    with StoreReader(run.database) as reader:
        steps, losses = reader.series("train_loss")
    assert steps.tolist() == [0, 6]
    summary = summarize(run)
    assert (summary["status"], summary["reason"]) == ("stopped", "test")
    assert (summary["steps"], summary["epoch"]) == (6, 1)
    assert summary["train_loss"] == losses[-1]
