"""Looking at sweeps while they are trained and afterwards."""

from __future__ import annotations

from pathlib import Path

from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from engine.sweeps import Sweep, all_sweeps
from tests.cli.terminal import SMALL, Answer, Terminal
from tests.reliability.trainings import until

LONG = [*SMALL, "--tau", "0.01,0.02,0.03", "--methods", "backprop", "--seeds", "1"]
LONG += ["--epochs", "300", "--set", "log.checkpoint_epochs=10", "--jobs", "2"]
"""A sweep of three runs, two at a time, of a second or two each."""


def times_started(runs: Path) -> dict[str, int]:
    """How often each run was started or resumed."""
    counts = {}
    for run in Runs(runs).all():
        with StoreReader(run.database) as reader:
            counts[run.id] = sum(event.kind == "RunStarted" for event in reader.events())
    return counts


def figures(answer: Answer) -> list[tuple]:
    """What a sweep came to, run by run."""
    return [
        (cell["run"], cell["status"], cell["train_loss"], cell["val_accuracy"], cell["epoch"])
        for cell in answer.json["cells"]
    ]


def only_sweep(terminal: Terminal) -> Sweep:
    """The sweep, as soon as there is one."""
    until(lambda: all_sweeps(terminal.runs))
    return all_sweeps(terminal.runs)[0]


def trained_steps(terminal: Terminal, sweep: Sweep) -> list[int]:
    """Steps of the runs there are."""
    steps = []
    for cell in sweep.cells:
        run = Run(terminal.runs / str(cell.run))
        if run.exists():
            with StoreReader(run.database) as reader:
                steps.append(reader.state().get("step", 0))
    return steps


def until_trained(terminal: Terminal, sweep: Sweep, steps: int, runs: int = 2) -> None:
    """Wait until so many runs have more than so many steps."""
    until(lambda: sum(step > steps for step in trained_steps(terminal, sweep)) >= runs)


def workers_of(pid: int) -> list[int]:
    """Worker processes of a sweep."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            line = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[1]) == pid and b"resource_tracker" not in line:
            children.append(int(path.parent.name))
    return children


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not Path(f"/proc/{pid}").exists()
