"""Starting is quick, and loads nothing that is not needed."""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys

import pytest

from tests.dashboard.sweep_helper import Made, make_sweep

COMMANDS = (
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
)


def processor_seconds():
    """Seconds that the ended children of this process have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.timing
def test_help_answers_at_once():
    """After less than 0.4 s of the processor; the best of five, since caches may be cold."""
    times = []
    for _ in range(5):
        before = processor_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "proxprop_cli", "--help"], capture_output=True, check=True
        )
        times.append(processor_seconds() - before)
        assert b"train" in done.stdout
    assert min(times) < 0.4


def load(statements, modules):
    """Run statements in a new interpreter; return those after which one of the modules is there."""
    code = ["import sys"]
    for statement in statements:
        code += [statement, f"if set({modules!r}) & set(sys.modules): print({statement!r})"]
    command = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line in statements]


@pytest.mark.system
def test_commands_that_do_not_train_leave_torch_alone(tmp_path):
    root = tmp_path / "runs"
    make_sweep(root, [("cg3", 1.0, 0, Made(loss=0.25))])
    packages = {"csv": "csv", "parquet": "pyarrow", "tensorboard": "tensorboard"}
    kinds = [kind for kind, package in packages.items() if importlib.util.find_spec(package)]
    export = ["export", "sweep", "--metrics", "--dir", str(root), "--format"]
    commands = [
        ["runs", "list", "--dir", str(root)],
        ["presets", "show", "cifar-mlp"],
        ["train", "--preset", "nope"],
        *([*export, kind, "-o", str(tmp_path / kind)] for kind in kinds),
    ]
    statements = [
        "import engine",
        "import engine.store, engine.store_reader, engine.export, engine.summary, engine.runs",
        "from proxprop_cli.__main__ import run",
        *(f"run({command!r})" for command in commands),
    ]
    assert load(statements, ["torch", "tensorflow"]) == []
    assert all((tmp_path / kind).exists() for kind in kinds)


@pytest.mark.system
@pytest.mark.parametrize(
    ("statement", "modules"),
    [
        ("import proxprop_cli.presets", ["torch"]),
        ("import proxprop_cli.commands.plot", ["matplotlib", "torch", "numpy"]),
        (
            "import engine.figures.curves, engine.figures.read_curves, engine.figures.stability, "
            "engine.figures.heatmap, engine.figures.residuals",
            ["torch", "matplotlib.pyplot", "proxprop_cli"],
        ),
    ],
    ids=["presets", "plot", "figures"],
)
def test_modules_that_are_not_loaded(statement, modules):
    assert load([statement], modules) == []


def test_every_command_explains_itself(cli):
    for command in COMMANDS:
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
