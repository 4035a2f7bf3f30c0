from __future__ import annotations

import csv
import json
import stat

import pytest

from engine.errors import StorageError
from engine.runs import Runs
from proxprop_cli.output import Output
from proxprop_cli.progress import Doing
from tests.cli.terminal import no_file
from tests.cli.trained import train_copy
from tests.dashboard.sweep_helper import make_comparison

SMALL = ["--set", "model.hidden=[64,64]", "--set", "data.train_samples=100", "--samples", "8"]


def test_variants_over_seeds(cli, tmp_path):
    table, picture = tmp_path / "a.csv", tmp_path / "a.svg"
    answer = cli(
        *("diagnose", *SMALL, "--variants", "plain,skip,orthogonal", "--seeds", "2", "--json"),
        *("--csv", str(table), "-o", str(picture)),
    )
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["about"]["samples"] == 8
    assert found["about"]["at"] == "initial"
    summary = {
        (row["variant"], row["hessian"]): row["log10_condition"]
        for row in found["summary"]
        if row["block"] == "1"
    }
    assert list(summary) == [
        (variant, h) for variant in ("plain", "skip", "orthogonal") for h in "Wz"
    ]
    assert all(row["n"] == 2 for row in summary.values())
    assert summary["orthogonal", "z"]["mean"] == pytest.approx(0, abs=1e-4)
    assert summary["skip", "z"]["mean"] < summary["plain", "z"]["mean"]
    with table.open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 3 * 2 * 3 * 2
    assert picture.read_text().startswith("<?xml")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("option", "ending"), [("--csv", "csv"), ("-o", "png")])
def test_a_file_is_replaced_only_by_force(cli, tmp_path, option, ending):
    path = tmp_path / f"a.{ending}"
    path.write_text("of a person")
    command = ["diagnose", *SMALL, "--seeds", "1", option, str(path)]
    answer = cli(*command)
    assert (answer.code, answer.out) == (2, "")
    assert f"{path} is there already; --force replaces it" in answer.err
    assert path.read_text() == "of a person"
    assert cli(*command, "--force").code == 0
    assert path.read_bytes() != b"of a person"


@pytest.mark.parametrize("kind", ["folder", "socket"])
@pytest.mark.parametrize(("option", "ending"), [("--csv", "csv"), ("-o", "png")])
def test_only_files_are_written(cli, tmp_path, option, ending, kind):
    path = tmp_path / f"a.{ending}"
    with no_file(path, kind):
        answer = cli("diagnose", *SMALL, option, str(path), "--force")
        assert (answer.code, answer.out) == (2, "")
        assert f"{path}: expected a file, found" in answer.err
        assert path.exists()
    missing = tmp_path / "none" / path.name
    answer = cli("diagnose", *SMALL, option, str(missing))
    assert (answer.code, answer.out) == (6, "")
    assert f"{missing}: there is no such folder" in answer.err


def test_table(cli):
    answer = cli("diagnose", *SMALL, "--seeds", "2")
    assert answer.code == 0
    assert "local Hessians at initialisation, 8 samples of digits" in answer.out
    assert "1: 64 → 64, relu" in answer.out
    assert " ± " in answer.out
    assert "directions of exact and the gradient" in answer.out
    assert "°" in answer.out
    assert "at least: " in answer.out
    assert "beta: of H_W as method.damping has it" in answer.out


def test_a_variant_that_this_network_has_not_is_left_out(cli):
    narrow = ["--set", "model.hidden=[8]", "--samples", "4", "--seeds", "1"]
    answer = cli("diagnose", *narrow, "--variants", "plain,skip")
    assert answer.code == 0
    assert "left out: variant 'skip': no layer is as wide as its input" in answer.err
    alone = cli("diagnose", *narrow, "--variants", "skip")
    assert alone.code == 2
    assert "no layer is as wide" in alone.err


@pytest.fixture
def trained(tmp_path):
    settings = ["--set", "model.hidden=[8]", "--set", "data.train_samples=100", "--epochs", "2"]
    train_copy(tmp_path / "runs", *settings)
    return Runs(tmp_path / "runs").find("latest")


def test_run(cli, trained):
    before = {path: path.read_bytes() for path in trained.checkpoints.iterdir()}
    answer = cli("diagnose", trained.id, "--samples", "8", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert (found["about"]["run"], found["about"]["step"]) == (trained.id, 2)
    assert [row["block"] for row in found["summary"]] == ["1", "1", "3", "3"]
    assert all(angle["bound"] <= angle["cosine"] + 1e-6 for angle in found["angles"])
    kept = trained.path / "diagnosis.json"
    assert json.loads(kept.read_text()) == found
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert before == {path: path.read_bytes() for path in trained.checkpoints.iterdir()}
    first = cli("diagnose", trained.id, "--samples", "8", "--checkpoint", "initial", "--json").json
    assert first["about"]["at"] == "initial"
    changed = [one["figures"]["largest"] for one in first["spectra"]] != [
        one["figures"]["largest"] for one in found["spectra"]
    ]
    assert changed
    # the start of a run is that of its preset's network with this seed
    same = cli(
        *("diagnose", "--set", "model.hidden=[8]", "--set", "data.train_samples=100"),
        *("--samples", "8", "--seeds", "1", "--json"),
    ).json
    assert same["spectra"] == first["spectra"]
    assert "at step 1," in cli("diagnose", trained.id, "--samples", "4", "--checkpoint", "1").out


def test_a_run_without_a_checkpoint(cli, tmp_path, trained):
    run = Runs(tmp_path / "runs").create(trained.config())
    answer = cli("diagnose", run.id)
    assert answer.code == 4
    assert "has no checkpoint; --checkpoint initial takes its start" in answer.err
    assert cli("diagnose", run.id, "--checkpoint", "initial", "--samples", "4").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variants", "dropout"], "expected any of plain"),
        (["--variants", "plain,"], "--variants: expected names"),
        (["--checkpoint", "best"], "--checkpoint is for a diagnosis of a RUN"),
        (["--data", "--seeds", "2"], "--seeds is for a diagnosis without --data"),
        (["-o", "a.gif"], "ends in .png, .svg or .pdf"),
        (["latest"], "no runs"),
        (["latest", "--variants", "plain"], "--variants is for a diagnosis without RUN"),
    ],
)
def test_mistakes(cli, arguments, said, tmp_path):
    answer = cli("diagnose", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert not answer.out
    assert not (tmp_path / "runs").exists()


def test_checkpoints_that_are_not_there(cli, trained):
    for which, code in (("99", 4), ("first", 2)):
        answer = cli("diagnose", trained.id, "--checkpoint", which)
        assert answer.code == code
        assert which in answer.err


def test_data(cli, tmp_path):
    picture = tmp_path / "a.png"
    answer = cli("diagnose", "--data", "--json", "-o", str(picture))
    assert answer.code == 0
    assert "X X^T" not in answer.err  # no heading where there is no table
    found = {one["normalisation"]: one["figures"] for one in answer.json["data"]}
    assert list(found) == ["raw", "unit", "centred", "standardize", "sample-centred"]
    assert found["raw"]["largest"] == pytest.approx(16**2 * found["unit"]["largest"])
    assert picture.exists()
    text = cli("diagnose", "--data").out
    assert "X X^T over " in text
    assert "standardize: centred, divided by" in text


def test_what_was_measured_is_told_before_files_are_written(cli, tmp_path, monkeypatch):
    def refuse(*_):
        raise StorageError("no room")

    monkeypatch.setattr("engine.diagnosis.tables.write_csv", refuse)
    answer = cli("diagnose", *SMALL, "--seeds", "1", "--json", "--csv", str(tmp_path / "a.csv"))
    assert answer.code == 6
    assert answer.json["spectra"]
    assert answer.err.strip().endswith("no room")
    assert "local Hessians" not in answer.err


def test_one_run_is_taken(cli, tmp_path):
    make_comparison(tmp_path / "runs", ("exact",), 1, id="comparison-562")
    for ref in ("comparison-562", "comparison"):
        answer = cli("diagnose", ref)
        assert answer.code == 2
        assert "comparison-562 is a comparison; diagnose takes one run" in answer.err


class TestDoing:
    def test_a_line_every_so_often_where_it_is_piped(self, capsys):
        said = []
        with Doing(Output(), every=0.01) as doing:
            doing("block 3 of 9")
            while len(said) < 2:
                said += capsys.readouterr().err.splitlines()
        assert all(line.startswith("block 3 of 9, ") for line in said)

    def test_what_is_quick_is_silent(self, capsys):
        with Doing(Output()) as doing:
            doing("block 1 of 1")
        assert capsys.readouterr().err == ""


def test_every_hessian_of_every_block_is_told(cli, monkeypatch):
    told = []
    monkeypatch.setattr(Doing, "__call__", lambda _, what: told.append(what))
    assert cli("diagnose", *SMALL, "--seeds", "1").code == 0
    expected = [f"{h} of block {n} of 3" for n in (1, 2, 3) for h in ("H_W", "H_z")]
    assert told == [f"plain, seed 0: {what}" for what in (*expected, "directions")]
