"""Sweeps and comparisons as a user runs them: real processes, killed and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from engine.cells import read_cell
from engine.numbers import format_number
from engine.run import Run
from engine.runs import Runs
from engine.store_reader import StoreReader
from engine.sweeps import Sweep, all_sweeps
from tests.cli.terminal import SMALL, Terminal, end
from tests.reliability.report import FAULTS, MORE, promise

GRID = [*SMALL, "--tau", "1,0.05,500", "--methods", "backprop,cg3", "--seeds", "2"]
LONG = [*SMALL, "--tau", "0.01,0.02,0.03", "--methods", "backprop", "--seeds", "1"]
LONG += ["--epochs", "300", "--set", "log.checkpoint_epochs=10", "--jobs", "2"]


def sittings(runs: Path) -> dict[str, int]:
    """How often each run was begun or gone on with."""
    found = {}
    for run in Runs(runs).all():
        with StoreReader(run.database) as reader:
            found[run.id] = sum(event.kind == "RunStarted" for event in reader.events())
    return found


def figures(answer) -> list[tuple]:
    return [
        (cell["run"], cell["status"], cell["train_loss"], cell["val_accuracy"], cell["epoch"])
        for cell in answer.json["cells"]
    ]


def only_sweep(terminal: Terminal, seconds: float = 60) -> Sweep:
    """The sweep, as soon as there is one."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if found := all_sweeps(terminal.runs):
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no sweep")


def wait_for(what, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.02)


def trained_steps(terminal: Terminal, sweep: Sweep) -> list[int]:
    """Steps of the runs there are."""
    found = []
    for cell in sweep.cells:
        run = Run(terminal.runs / str(cell.run))
        if run.exists():
            with StoreReader(run.database) as reader:
                found.append(reader.state().get("step", 0))
    return found


def children(pid: int) -> list[int]:
    """Worker processes of a coordinator."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            line = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in line:
            found.append(int(path.parent.name))
    return found


def test_a_grid_and_the_same_grid_again(terminal):
    answer = terminal("sweep-tau", *GRID, "--epochs", "3", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["tau"] == [500.0, 1.0, 0.05]
    assert len(found["cells"]) == 12
    by_place = {(c["method"], c["tau"], c["seed"]): c for c in found["cells"]}
    assert by_place["cg3", 1.0, 0]["status"] == "finished"
    assert by_place["backprop", 500.0, 0]["train_loss"] is None or (
        by_place["backprop", 500.0, 0]["train_loss"] > 2.4
    )
    assert set(found["methods"]) == {"backprop", "cg3"}
    assert found["methods"]["cg3"]["best_tau"] in (1.0, 0.05)
    assert set(sittings(terminal.runs).values()) == {1}

    # 3 epochs, one checkpoint: a large network's would fill the disk
    kept = [len(list(run.checkpoints.glob("*.safetensors"))) for run in Runs(terminal.runs).all()]
    assert max(kept) == 1

    again = terminal("sweep-tau", *GRID, "--epochs", "3", "--json")
    assert figures(again) == figures(answer)
    assert again.err.count("(kept)") == 12
    assert set(sittings(terminal.runs).values()) == {1}

    larger = terminal("sweep-tau", *GRID, "--epochs", "3", "--tau", "1,0.05,500,0.2", "--json")
    assert larger.err.count("(kept)") == 12
    assert larger.json["sweep"] != found["sweep"]
    assert len(sittings(terminal.runs)) == 16


def test_a_cell_is_the_run_that_train_makes(terminal):
    settings = [*SMALL, "--epochs", "2"]
    one = terminal("train", *settings, "--method", "cg3", "--tau", "0.5", "--seed", "1", "--json")
    grid = ["--tau", "0.5", "--methods", "cg3,exact", "--seeds", "1", "--seed", "1"]
    sweep = terminal("sweep-tau", *settings, *grid, "--jobs", "2", "--json")
    (cell,) = (cell for cell in sweep.json["cells"] if cell["method"] == "cg3")
    for key in ("train_loss", "val_accuracy"):
        assert cell[key] == one.json[key]


@promise(
    FAULTS, "sweep interrupted and started again", "finished runs are kept, none is trained twice"
)
def test_a_killed_sweep_goes_on_and_is_the_sweep_it_would_have_been(terminal, tmp_path):
    command = ["sweep-tau", *LONG, "--epochs", "800"]
    undisturbed = Terminal(tmp_path / "other")(*command, "--json")
    process = terminal.start(*command, "--plain")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(step > 100 for step in trained_steps(terminal, sweep)) >= 2)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate(timeout=60)
    # orphans notice it, keep their state and leave
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    states = {str(cell.run): read_cell(terminal.runs, cell).status for cell in sweep.cells}
    stopped = {run for run, status in states.items() if status == "stopped"}
    assert stopped
    assert set(states.values()) <= {"stopped", "finished", "waiting"}
    answer = terminal(*command, "--json")
    assert answer.code == 0, answer.err
    assert figures(answer) == figures(undisturbed)
    assert sittings(terminal.runs) == {run: 1 + (run in stopped) for run in states}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_keeps_its_runs(terminal, number, code):
    process = terminal.start("sweep-tau", *LONG, "--plain")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(step > 20 for step in trained_steps(terminal, sweep)) >= 2)
    workers = children(process.pid)
    answer = end(process, number)
    assert answer.code == code
    assert f"'proxprop resume {sweep.id}' goes on" in answer.err
    assert "Traceback" not in answer.err
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    answer = terminal("resume", sweep.id[:14], "--json")
    assert answer.code == 0, answer.err
    assert {cell["status"] for cell in answer.json["cells"]} == {"finished"}


def test_a_worker_that_dies_costs_nothing_but_time(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(step > 70 for step in trained_steps(terminal, sweep)) >= 2)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "going on with backprop" in out
    assert all(read_cell(terminal.runs, cell).status == "finished" for cell in sweep.cells)


def test_a_worker_that_is_told_to_end_is_replaced(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(step > 70 for step in trained_steps(terminal, sweep)) >= 2)
    os.kill(children(process.pid)[0], signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert all(read_cell(terminal.runs, cell).status == "finished" for cell in sweep.cells)


def test_a_run_that_somebody_stops_is_not_called_done(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(step > 20 for step in trained_steps(terminal, sweep)) >= 2)
    states = [read_cell(terminal.runs, cell) for cell in sweep.cells]
    (run, *_) = (
        str(c.run) for c, s in zip(sweep.cells, states, strict=True) if s.status == "running"
    )
    assert terminal("stop", run).code == 0
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"run {run}: stopped before its end (asked to stop)" in err
    assert "   3/3" not in out
    again = terminal("sweep-tau", *LONG, "--json")
    assert again.code == 0, again.err
    assert {cell["status"] for cell in again.json["cells"]} == {"finished"}


def test_a_run_that_somebody_pauses_is_told_of_and_goes_on_with_its_sweep(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain", "--jobs", "1")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(step > 20 for step in trained_steps(terminal, sweep)) >= 1)
    (run,) = (run.id for run in Runs(terminal.runs).all())
    assert terminal("pause", run).code == 0
    answer = terminal("resume", sweep.id)
    assert answer.out.strip() == f"{sweep.id} goes on"
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"run {run}: paused by itself; 'proxprop resume {run}'" in err


@promise(MORE, "two sweeps with the same runs at once", "each run is trained once, by one of them")
def test_two_sweeps_with_the_same_runs_at_the_same_time(terminal):
    larger = [part if part != "0.01,0.02,0.03" else "0.01,0.02,0.03,0.04" for part in LONG]
    one = terminal.start("sweep-tau", *LONG, "--plain")
    two = terminal.start("sweep-tau", *larger, "--plain")
    for process in (one, two):
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    assert sorted(sittings(terminal.runs).values()) == [1, 1, 1, 1]


def test_who_waits_for_another_sweep_s_run_can_not_stop_it(terminal):
    first = [part if part != "0.01,0.02,0.03" else "0.01" for part in LONG]
    one = terminal.start("sweep-tau", *first, "--plain", "--epochs", "2000")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(trained_steps(terminal, sweep)) > 5)
    two = terminal.start("sweep-tau", *LONG, "--plain", "--epochs", "2000")
    wait_for(lambda: len(all_sweeps(terminal.runs)) == 2)
    wait_for(lambda: len(Runs(terminal.runs).all()) == 3)
    answer = end(two, signal.SIGINT)
    assert answer.code == 130
    assert "trained by another process; waiting for it" in answer.err
    _, err = one.communicate(timeout=200)
    assert one.returncode == 0, err
    assert read_cell(terminal.runs, sweep.cells[0]).status == "finished"
    assert sittings(terminal.runs)[str(sweep.cells[0].run)] == 1


def test_an_interrupt_while_processes_start_is_quiet(terminal):
    process = subprocess.Popen(
        terminal.command("sweep-tau", *LONG, "--plain"),
        env=terminal.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: children(process.pid))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err


def test_pause_resume_and_stop_from_another_process(terminal):
    process = terminal.start("sweep-tau", *LONG, "--plain", "--epochs", "100000")
    sweep = only_sweep(terminal)
    wait_for(lambda: sum(step > 5 for step in trained_steps(terminal, sweep)) >= 2)
    busy = terminal("sweep-tau", *LONG, "--plain", "--epochs", "100000")
    assert busy.code == 5
    assert "is being trained already" in busy.err
    assert terminal("pause", sweep.id, "--json").json["status"] == "paused"
    states = lambda: [read_cell(terminal.runs, cell).status for cell in sweep.cells]  # noqa: E731
    wait_for(lambda: states().count("paused") == 2)
    before = trained_steps(terminal, sweep)
    time.sleep(0.3)
    assert trained_steps(terminal, sweep) == before
    assert terminal("resume", sweep.id).code == 0
    wait_for(lambda: sum(trained_steps(terminal, sweep)) > sum(before))
    assert terminal("stop", sweep.id).code == 0
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert states().count("stopped") == 2
    assert terminal("stop", sweep.id).code == 2


def test_one_bad_run_does_not_end_the_others(terminal):
    grid = [*SMALL, "--epochs", "1", "--tau", "1,0.1", "--methods", "exact", "--seeds", "1"]
    first = terminal("sweep-tau", *grid, "--json").json
    run = Run(terminal.runs / first["cells"][0]["run"])
    run.save_config(run.config().model_copy(update={"batch_size": 60}))
    answer = terminal("sweep-tau", *grid, "--tau", "1,0.1,0.2", "--json")
    assert answer.code == 1
    assert "with another configuration" in answer.err
    assert len(answer.json["cells"]) == 3
    assert [cell["status"] for cell in answer.json["cells"]] == ["finished"] * 3


def test_a_second_axis(terminal):
    grid = [*SMALL, "--epochs", "1", "--tau", "1,0.1", "--methods", "backprop,exact"]
    answer = terminal(
        "sweep-tau", *grid, "--seeds", "1", "--over", "method.tau_theta=0.1,1", "--json"
    )
    assert answer.code == 0, answer.err
    assert list(answer.json["methods"]) == ["backprop", "exact tau_theta=0.1", "exact tau_theta=1"]
    thetas = [cell["tau_theta"] for cell in answer.json["cells"]]
    assert thetas == [None, None, 0.1, 0.1, 1.0, 1.0]


def test_a_second_axis_of_a_setting_that_only_cg_heeds(terminal):
    grid = [*SMALL, "--epochs", "1", "--tau", "1", "--methods", "backprop,exact,cg1"]
    answer = terminal("sweep-tau", *grid, "--seeds", "1", "--over", "method.tol=0.1,0.5", "--json")
    assert answer.code == 0, answer.err
    assert list(answer.json["methods"]) == ["backprop", "exact", "cg1 tol=0.1", "cg1 tol=0.5"]


def test_compare(terminal):
    variants = ["--variant", "adam: method=backprop optimizer.name=adam tau=1e-3"]
    options = [*SMALL, "--epochs", "2", "--seeds", "2", "--methods", "backprop,exact", *variants]
    answer = terminal("compare", *options, "--json")
    assert answer.code == 0, answer.err
    rows = {row["method"]: row for row in answer.json["methods"]}
    assert list(rows) == ["backprop", "exact", "adam"]
    assert (rows["exact"]["tau"], rows["backprop"]["tau"], rows["adam"]["tau"]) == (1, 0.1, 1e-3)
    for row in rows.values():
        losses = []
        for run in row["runs"]:
            with StoreReader(terminal.runs / run / "run.db") as reader:
                losses.append(reader.state()["metrics"]["train_loss"])
        assert row["train_loss"]["n"] == 2
        assert row["train_loss"]["mean"] == pytest.approx(sum(losses) / 2)
        assert row["train_loss"]["ci95"] > row["train_loss"]["std"]
        assert row["seconds_to_best"]["mean"] <= row["seconds"]["mean"]
        assert row["seconds_at_loss"]["n"] == 2
    config = Runs(terminal.runs).find(rows["adam"]["runs"][0]).config()
    assert (config.optimizer.name, config.method.name) == ("adam", "backprop")
    text = terminal("compare", *options)
    ends, _, rest = text.out.partition("time of training, without evaluation")
    times, _, there = rest.partition("at the training loss")
    for part in (ends, times, there):
        assert " sd" in part
        assert part.count("±") >= 3
    deviation = rows["exact"]["train_loss"]["std"]
    assert format_number(deviation) in ends


def test_equal_time(terminal):
    options = [*SMALL, "--epochs", "100000", "--seeds", "1", "--methods", "backprop,exact"]
    answer = terminal("compare", *options, "--max-seconds", "0.3", "--json")
    for row in answer.json["methods"]:
        assert row["seconds"]["mean"] == pytest.approx(0.3, abs=0.15)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sweep-tau", "--tau", "x"], "--tau: expected a number"),
        (["sweep-tau", "--tau", "logspace(1e-4,50,100000)"], "1,500,000 runs asked for"),
        (["sweep-tau", "--methods", "foo"], "method.name"),
        (["sweep-tau", "--methods", ""], "--methods: expected names"),
        (["sweep-tau", "--over", "seed=1,2"], "--seeds is for"),
        (["sweep-tau", "--over", "nonsense"], "expected KEY=LIST"),
        (["sweep-tau", "--over", "batch_size=0,1"], "batch_size"),
        (["sweep-tau", "--seeds", "0"], "--seeds"),
        (["sweep-tau", "--tau", "logspace(1,2)"], "--tau: expected logspace(A,B,N)"),
        (["sweep-tau", "--level", "nan"], "--level: expected a training loss greater than 0"),
        (["compare", "--at-loss", "-1"], "--at-loss: expected a training loss greater than 0"),
        (["sweep-tau", "--preset", "nope"], "unknown preset"),
        (["compare", "--variant", "x"], "expected 'LABEL: KEY=VALUE"),
        (["compare", "--variant", "x: =1"], "expected KEY=VALUE"),
        (["compare", "--variant", "x: method=3"], "expected a name"),
        (["compare", "--variant", "exact: tau=1"], "more than once"),
        (["resume", "sweep-nothing"], "no run"),
    ],
)
def test_bad_input_makes_nothing(cli, tmp_path, arguments, text):
    answer = cli(*arguments)
    assert answer.code == 2
    assert text in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())
