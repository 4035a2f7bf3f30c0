"""A folder of runs to be broken, and everything that looks into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from engine.health import Finding
from engine.runs import Runs
from engine.store import StoreWriter
from proxprop_cli.dashboard.catalog import Catalog
from proxprop_cli.dashboard.list_rows import list_row
from tests.dashboard.runs_helper import make_run, trace
from tests.dashboard.sweep_helper import Made, make_sweep
from tests.fuzz.common import HEALTHY, SICK, SWEEP, assert_decent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("fuzz")


@pytest.fixture(scope="session")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy run and one to be broken, and a sweep of both."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    for id, tau in ((HEALTHY, 0.5), (SICK, 1.0)):
        given = {"id": id, "name": f"name of {id}", "method__tau": tau}
        run = make_run(root, "cg3", steps=20, traces=[trace(1), trace(2)], **given)
        with StoreWriter(run.database) as writer:
            hashes = {"tensors_sha256": "0" * 64, "json_sha256": "0" * 64}
            writer.add_checkpoint(20, **hashes, reason="epoch", epoch=2, best=False)
            writer.set_state({"environment": {"torch": "2", "threads": 1}, "side_by_side": 1})
            writer.append_event(20, "Diverged", {"cause": "made up"})
    make_sweep(root, [("cg3", 0.5, 0, Made(None)), ("cg3", 1.0, 0, Made(None))], id=SWEEP)
    path = root / SWEEP / "sweep.json"
    document = json.loads(path.read_text())
    for cell, id in zip(document["cells"], (HEALTHY, SICK), strict=True):
        cell |= {"run": id, "tau_theta": 1.0}
    path.write_text(json.dumps(document))
    return root


@pytest.fixture
def root(whole_runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_runs, tmp_path / "runs"))


@pytest.fixture
def looked_at(cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Everything that reads a folder of runs; gives the status of the sick one in the list."""
    # torch and the like are fit enough, and take long to look at
    fit = Finding("torch", "ok", "")
    monkeypatch.setattr("engine.health._torch", lambda: fit)
    monkeypatch.setattr("engine.health._torchvision", lambda: fit)

    def look() -> str:
        answer = cli("runs", "list", "--json")
        assert_decent(answer, (0,))
        runs = {run["id"]: run for run in answer.json["runs"]}
        assert runs[HEALTHY]["status"] == "finished"
        assert runs[HEALTHY]["name"] == "name of healthy"
        assert_decent(cli("runs", "list"), (0,))
        for arguments in (["runs", "sweeps"], ["runs", "sweeps", "--json"]):
            assert_decent(cli(*arguments), (0,))
        for arguments in (
            *(["runs", "show", SICK], ["runs", "show", SICK, "--json"], ["runs", "show", SWEEP]),
            *(["export", SICK], ["export", "--wide", SICK], ["export", SWEEP]),
        ):
            answer = cli(*arguments)
            # what is exported to a pipe is not for a terminal
            assert_decent(replace(answer, out="") if "export" in arguments else answer, (0, 2, 6))
            if SICK in arguments:
                told = "is not of this config.yaml" in answer.err  # where that was changed
                assert (answer.code == 0) == (answer.err == "" or told), answer.err
        assert cli("runs", "show", HEALTHY).code == 0
        answer = cli("doctor", "--json")
        assert_decent(answer, (0, 1))
        (stores,) = (one for one in answer.json["findings"] if one["name"] == "stores")
        assert "runs" in stores["text"], "the look itself has failed"
        entries = {entry.id: entry for entry in Catalog(Runs(root)).entries()}
        assert entries[HEALTHY].status == "finished"
        for entry in entries.values():
            list_row(entry, selected=False)
        with suppress(KeyError):
            return str(runs[SICK]["status"])
        return "none"

    return look
