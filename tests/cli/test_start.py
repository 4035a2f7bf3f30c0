"""Starting is quick, and knows nothing of torch where nothing is trained."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest


def test_help_answers_at_once():
    """Under 0.4 s; the best of five, since the machine may be busy with other things."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "proxprop_cli", "--help"], capture_output=True, check=True
        )
        times.append(time.perf_counter() - start)
        assert b"train" in done.stdout
    assert min(times) < 0.4


@pytest.mark.parametrize(
    "code",
    [
        "import engine",
        "from proxprop_cli.__main__ import run; run(['runs', 'list'])",
        "from proxprop_cli.__main__ import run; run(['presets', 'show', 'cifar-mlp'])",
        "from proxprop_cli.__main__ import run; run(['train', '--preset', 'nope'])",
        "import engine.store, engine.store_reader, engine.export, engine.summary, engine.runs",
    ],
)
def test_torch_is_not_imported(code, tmp_path, monkeypatch):
    monkeypatch.setenv("PROXPROP_DIR", str(tmp_path))
    check = f"{code}\nimport sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


def test_every_command_explains_itself(cli):
    for command in (
        [],
        ["train"],
        ["resume"],
        ["pause"],
        ["stop"],
        ["runs", "list"],
        ["runs", "show"],
        ["runs", "delete"],
        ["presets", "list"],
        ["presets", "show"],
        ["export"],
    ):
        answer = cli(*command, "--help")
        assert answer.code == 0
        assert "Usage: proxprop" in answer.out


def test_version(cli):
    assert cli("--version").out.startswith("proxprop 0.")


def test_public_names_are_there():
    import engine

    for name in engine.__all__:
        assert getattr(engine, name) is not None
    with pytest.raises(AttributeError):
        engine.nothing  # noqa: B018
