"""Every command on runs that have losses alone: no accuracy is asked for, none is made up."""

from __future__ import annotations

import csv
import io
import re
import sqlite3

import pytest
from PIL import Image

from engine.config import resolve
from engine.figures.style import render
from engine.reconstructions import SAMPLES
from engine.runs import Runs
from engine.store_reader import StoreReader
from proxprop_cli import presets
from tests.cli.trained import train_copy

SMALL = ["--preset", "digits-autoencoder", "--set", "model.hidden=[12,4,12]"]
SMALL += ["--set", "data.train_samples=300", "--device", "cpu"]
EMPTY = re.compile(r"\bnan\b|\bNone\b|accuracy|%", re.IGNORECASE)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def trained(runs):
    """Makes a run of two epochs with more options; runs with the same options are one."""
    return lambda *options: train_copy(runs.root, *SMALL, "--epochs", "2", *options, "--plain")


def test_training_tells_losses(runs, trained):
    lines = [line for line in trained().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    assert all(re.search(r"train +\S+  val +\S+  test +\S+", line) for line in lines)
    assert not any(EMPTY.search(line) for line in lines)
    assert len({line.index("  val") for line in lines}) == 1
    with StoreReader(runs.find("latest").database) as reader:
        keys = reader.keys()
        assert not [key for key in keys if "accuracy" in key]
        assert [made.epoch for made in reader.reconstructions()] == [0, 1, 2]


def test_json_has_the_losses_and_null_for_accuracies(cli):
    found = cli("train", *SMALL, "--epochs", "1", "--json").json
    assert found["val_accuracy"] is found["test_accuracy"] is None
    assert all(found[key] > 0 for key in ("train_loss", "val_loss", "test_loss"))


def test_lists_and_facts(cli, trained):
    trained()
    found = cli("runs", "list", "--json").json["runs"][0]
    (line,) = cli("runs", "list").out.splitlines()[1:]
    assert f"{found['val_loss']:.4g}" in line
    assert f"{found['test_loss']:.4g}" in line
    assert not EMPTY.search(line)
    shown = cli("runs", "show", "latest").out
    assert "val_loss" in shown
    assert not EMPTY.search(shown.partition("environment")[0])


def test_the_best_checkpoint_is_that_of_the_least_validation_loss(runs, trained):
    # a step size with which the loss goes down in the first epoch and up in the second
    trained("--method", "backprop", "--tau", "0.2", "--set", "log.keep=1")
    with StoreReader(runs.find("latest").database) as reader:
        steps, losses = reader.series("val_loss")
        best = int(steps[1:][losses[1:].argmin()])
        rows = reader.checkpoints()
        assert best == steps[1] < steps[-1]
        assert [best] == [row.step for row in rows if row.best]


def test_a_run_goes_on(cli, runs, trained):
    trained()
    answer = cli("resume", "latest", "--epochs", "3", "--plain")
    assert answer.code == 0, answer.err
    resumed = runs.find("latest")
    assert cli("train", *SMALL, "--epochs", "3", "--plain").code == 0
    whole = runs.find("latest")
    made = []
    for run in (resumed, whole):
        with StoreReader(run.database) as reader:
            made.append(reader.reconstructions()[-1])
    assert made[0] == made[1]
    assert made[0].epoch == 3


def test_comparisons_are_of_losses(cli):
    options = ["--methods", "backprop,cg3", "--seeds", "2", "--epochs", "2"]
    answer = cli("compare", *SMALL, *options, "--jobs", "1", "--plain")
    assert answer.code == 0, answer.err
    ends, times, there = [x for x in answer.out.splitlines() if x.startswith("method")]
    assert all("val loss" in head and "test loss" in head for head in (ends, there))
    assert "best val loss" in times
    tables = [line for line in answer.out.splitlines() if line.startswith(("backprop", "cg3"))]
    assert len(tables) == 6
    assert not any(EMPTY.search(line) or re.search(r"(?<= )-(?= |$)", line) for line in tables)
    found = cli("compare", *SMALL, *options, "--jobs", "1", "--json").json["methods"]
    for row in found:
        assert row["val_loss"]["n"] == row["best_val_loss"]["n"] == 2
        assert row["best_val_loss"]["mean"] <= row["val_loss"]["mean"]
        assert row["seconds_to_best"]["n"] == 2
        assert not [key for key in row if "accuracy" in key]


def test_sweeps_are_of_losses(cli):
    options = ["--methods", "backprop", "--tau", "0.1,0.01", "--seeds", "1", "--epochs", "1"]
    answer = cli("sweep-tau", *SMALL, *options, "--jobs", "1", "--plain")
    assert answer.code == 0, answer.err
    assert "val loss" in answer.out
    assert "%" not in answer.out.replace("95 % interval", "")
    found = cli("sweep-tau", *SMALL, *options, "--jobs", "1", "--json").json
    assert all(cell["val_loss"] > 0 and cell["val_accuracy"] is None for cell in found["cells"])


def test_exports(cli, trained):
    trained()
    rows = list(csv.DictReader(io.StringIO(cli("export", "latest").out)))
    keys = {row["key"] for row in rows}
    assert {"train_loss", "val_loss", "test_loss"} <= keys
    assert not [key for key in keys if "accuracy" in key]


class TestFigures:
    def test_curves_are_of_losses(self, cli, tmp_path, trained):
        trained()
        path = tmp_path / "curves.svg"
        assert cli("plot", "latest", "-o", str(path)).code == 0
        assert "Validation loss" in path.read_text()
        assert "accuracy" not in path.read_text()

    def test_reconstructions_of_a_run(self, cli, tmp_path, trained):
        trained()
        path = tmp_path / "made.svg"
        answer = cli("plot", "latest", "--kind", "reconstructions", "-o", str(path), "--json")
        assert answer.code == 0, answer.err
        assert answer.json["kind"] == "reconstructions"
        assert path.read_text().count("<image") == 2 * SAMPLES
        png = path.with_suffix(".png")
        assert cli("plot", "latest", "--kind", "reconstructions", "-o", str(png)).code == 0
        with Image.open(png) as picture:
            assert picture.width > 3 * picture.height

    def test_runs_below_one_another(self, cli, tmp_path, runs, trained):
        trained("--method", "backprop")
        trained("--method", "cg3")
        again = cli("train", *SMALL, "--epochs", "2", "--method", "backprop", "--plain")
        assert again.code == 0, again.err
        path = tmp_path / "made.svg"
        ids = [run.id for run in runs.all()]
        assert cli("plot", *ids, "--kind", "reconstructions", "-o", str(path)).code == 0
        text = path.read_text()
        assert text.count("<image") == 4 * SAMPLES
        assert text.count(">test loss ") == text.count(">epoch ") == 3
        assert sum(f"[{id}]<" in text for id in ids) == 1  # the second of the same name

    def test_a_run_that_diverged_is_told_as_that(self, cli, tmp_path, trained):
        trained("--tau", "1e30", "--method", "backprop")
        path = tmp_path / "made.svg"
        assert cli("plot", "latest", "--kind", "reconstructions", "-o", str(path)).code == 0
        text = path.read_text()
        assert ">epoch 0, then diverged<" in text
        assert text.count(">test loss ") == 1  # of the weights that made these pictures
        assert "nan" not in text.partition(">test loss ")[2][:20]

    def test_what_can_not_be_drawn(self, cli, tmp_path, runs, trained):
        path = str(tmp_path / "a.png")
        for seed in ("0", "1"):
            trained("--epochs", "0", "--seed", seed)
        ids = [run.id for run in runs.all()]
        with sqlite3.connect(runs.find(ids[0]).database) as connection:
            connection.execute("UPDATE reconstructions SET inputs = zeroblob(length(inputs))")
        connection.close()
        answer = cli("plot", *ids, "--kind", "reconstructions", "-o", path)
        assert (answer.code, "different samples" in answer.err) == (2, True)
        assert cli("train", "--epochs", "0", "--plain").code == 0
        answer = cli("plot", "latest", "--kind", "reconstructions", "-o", path)
        assert (answer.code, "has no reconstructions" in answer.err) == (2, True)


class TestReproduction:
    OPTIONS = ("--set", "data.name=digits", "--set", "data.validation=100", "--epochs", "1")
    OPTIONS += ("--train-samples", "200", "--set", "model.hidden=[8,3,8]", "--set", "threads=1")

    def test_usps(self, cli, tmp_path, monkeypatch):
        # figures take longer than these trainings; test_reproduce looks at PNG files
        wanted = ["svg"]
        monkeypatch.setattr(
            "engine.figures.style.render",
            lambda figure, kind: render(figure, kind) if kind in wanted else b"",
        )
        folder = tmp_path / "out"
        options = [*self.OPTIONS, "--methods", "backprop,cg3", "-o", str(folder)]
        answer = cli("reproduce", "usps", *options, "--seeds", "2")
        assert answer.code == 0, answer.err
        assert "not published" in answer.out
        assert "val loss" in answer.out
        report = (folder / "report.md").read_text()
        assert report.startswith("# A deep autoencoder on USPS (a stand-in: ")
        assert "on digits, 1 of 50 epochs, 200 training samples" in report.splitlines()[0]
        assert "there is no published figure to set these beside" in report
        assert "| method | figure | paper |" not in report
        assert "validation loss | test loss" in report
        assert not re.search(r"\bnan\b|accuracy|\| - \|", report.partition("## Settings")[0])
        for name in ("curves.png", "reconstructions.png"):
            assert f"]({name})" in report
            assert (folder / name).is_file()
        pictures = (folder / "reconstructions.svg").read_text()
        assert pictures.count("<image") == 3 * SAMPLES
        wanted.clear()
        again = cli("reproduce", "usps", *options, "--seeds", "2", "--report-only", "--json")
        assert again.json["figures"] == []
        assert [row["method"] for row in again.json["methods"]] == ["backprop", "cg3"]

    def test_before_anything_is_trained(self, cli, tmp_path):
        options = [*self.OPTIONS, "--report-only", "-o", str(tmp_path / "out")]
        answer = cli("reproduce", "usps", *options)
        assert answer.code == 0, answer.err
        assert "not complete: 0 of 5 runs" in answer.out


@pytest.mark.parametrize("name", ["usps-autoencoder", "digits-autoencoder"])
@pytest.mark.parametrize("method", ["backprop", "exact", "cg3", "cg5", "mac"])
def test_presets_have_settings_for_every_method(name, method):
    document, source = presets.load(name)
    config = resolve(document, method=method, source=source)
    assert (config.method.name, config.loss) == (method, "reconstruction")
    assert (config.optimizer.momentum, config.method.tau) != (0.0, 1.0) or method == "mac"
