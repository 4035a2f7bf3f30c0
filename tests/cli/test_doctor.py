"""``proxprop doctor``: what is wrong is named, with a remedy."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine import health
from engine.health import examine
from engine.runs import Runs
from tests.cli.trained import train_copy
from tests.engine.small import cache_dir, config


def findings(root: Path) -> dict[str, health.Finding]:
    found = list(examine(root, cache_dir()))
    assert all(f.fix for f in found if f.state == "wrong")
    return {f.name: f for f in found}


def test_a_fit_machine(cli, tmp_path):
    answer = cli("doctor", "--json")
    assert answer.code == 0
    found = answer.json
    assert found["fit"]
    names = [item["name"] for item in found["findings"]]
    assert names[:4] == ["proxprop", "terminal", "Python", "torch"]
    text = cli("doctor")
    assert text.out.splitlines()[-1] == "fit"
    assert not (tmp_path / "runs").exists()


def test_a_damaged_store_is_named(cli, tmp_path):
    runs = Runs(tmp_path / "runs")
    whole, broken = runs.create(config()), runs.create(config())
    content = bytearray(broken.database.read_bytes())
    content[4096:8192] = b"\xff" * 4096  # a page of a table
    broken.database.write_bytes(content)
    answer = cli("doctor", "--json")
    assert answer.code == 1
    (stores,) = (item for item in answer.json["findings"] if item["name"] == "stores")
    assert (stores["state"], stores["text"][:11]) == ("wrong", "1 of 2 runs")
    assert broken.id in stores["text"]
    assert whole.id not in stores["text"]
    assert "runs delete" in stores["fix"]
    assert "1 wrong" in cli("doctor").out


def test_a_damaged_checkpoint_is_named(tmp_path):
    settings = ["--set", "model.hidden=[8]", "--set", "data.train_samples=100", "--epochs", "1"]
    train_copy(tmp_path / "runs", *settings)
    assert findings(tmp_path / "runs")["stores"].state == "ok"
    (file,) = (tmp_path / "runs").glob("*/checkpoints/*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    found = findings(tmp_path / "runs")["stores"]
    assert found.state == "wrong"
    assert "safetensors: damaged" in found.text


def test_folders_that_can_not_be_used(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    found = findings(file)
    assert found["runs folder"].state == "wrong"
    assert found["stores"].state == "wrong"
    assert "PROXPROP_DIR" in found["runs folder"].fix
    monkeypatch.setattr("engine.filesystems.filesystem", lambda path: "nfs4")
    found = findings(tmp_path / "runs")
    assert found["runs folder"].state == "wrong"
    assert "network file system" in found["runs folder"].text
    assert not list(tmp_path.glob(".proxprop-look-*"))


def test_locks_that_do_not_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "is_locked", lambda path: False)
    found = findings(tmp_path / "runs")
    assert "locks do not hold" in found["runs folder"].text


@pytest.mark.parametrize(
    ("module", "broken"),
    [
        ("torch", "torch.cuda.is_available"),
        ("torchvision", "engine.data.torchvision_import.import_torchvision"),
    ],
)
def test_a_library_that_does_not_load_does_not_end_the_look(tmp_path, monkeypatch, module, broken):
    def fail():
        raise RuntimeError("operator\nmissing")

    monkeypatch.setattr(broken, fail)
    found = findings(tmp_path / "runs")
    assert found[module].state == "wrong"
    assert found[module].text == "RuntimeError: operator missing"
    assert found["stores"].state == "ok"


def test_an_extra_that_is_not_there_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = findings(tmp_path / "runs")
    assert (found["parquet"].state, "proxprop[parquet]" in found["parquet"].fix) == ("note", True)


def test_little_room_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    assert findings(tmp_path / "runs")["runs folder"].state == "note"


@pytest.mark.parametrize("extra", ["cluster", "baselines"])
def test_every_extra_is_looked_for(tmp_path, monkeypatch, extra):
    assert findings(tmp_path / "runs")[extra].state == "ok"
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    found = findings(tmp_path / "runs")[extra]
    assert (found.state, f"proxprop[{extra}]" in found.fix) == ("note", True)
