"""A wheel, installed into an environment of its own without network, works."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.system
def test_wheel_is_complete_and_runs(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"engine", "proxprop_cli"}
    assert "proxprop_cli/presets/digits-mlp.yaml" in names

    home = tmp_path / "environment"
    venv.create(home, system_site_packages=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--quiet", wheel],
        check=True,
        capture_output=True,
    )
    # torch and the like come from the environment of the tests; a path file of a path file is
    # not followed, so its editable proxprop does not
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    Path(site, "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {**os.environ, "PROXPROP_DIR": str(tmp_path / "runs")}
    environment["PROXPROP_DATA_DIR"] = str(tmp_path / "data")
    environment.pop("PYTHONPATH", None)

    def run(*arguments: str | Path) -> str:
        return subprocess.check_output(
            [*map(str, arguments)], text=True, cwd=tmp_path, env=environment
        )

    where = run(python, "-c", "import engine, proxprop_cli; print(proxprop_cli.__file__)")
    assert where.startswith(str(home))
    proxprop = home / "bin" / "proxprop"
    assert "cifar-mlp" in run(proxprop, "presets", "list")
    assert "finished" in run(proxprop, "train", "--epochs", "1", "--plain")
