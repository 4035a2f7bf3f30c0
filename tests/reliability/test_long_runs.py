"""Runs of very many steps: neither the memory of trainer and dashboard nor the store grow with
them."""

from __future__ import annotations

import functools
import gc
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from textual.cache import FIFOCache, LRUCache

from engine.checkpoint import Snapshot
from engine.config_sections import LogConfig
from engine.control import AlwaysRun
from engine.events import CheckpointDue, Diverged, LadderClimbed, RunEnded, StepsDone
from engine.locks import RunLock
from engine.recorder import Recorder
from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from proxprop_cli.dashboard.app import Dashboard
from proxprop_cli.dashboard.screens.live import LiveScreen
from tests.cli.terminal import SMALL, start
from tests.dashboard.runs_helper import in_app, make_run, trace, until
from tests.engine import small
from tests.reliability.long_run import EPOCH, EVALUATED, KEYS, LAYERS
from tests.reliability.report import MORE, many, promise


def kept(last: int, full: int = 100_000) -> int:
    """How many of so many steps have metrics."""
    count, begin, distance = 0, 0, 1
    while begin < last:
        end = min(last, full * distance)
        count += (end - begin) // distance
        begin, distance = end, distance * 10
    return count


@pytest.mark.system
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@promise(
    MORE, "an hour of 1,000 steps a second", "the trainer's memory is flat, the store is thinned"
)
@many(150_000, 3_600_000)
def test_the_store_of_a_long_run(tmp_path, measured, times):
    """In a process of its own: in this one an earlier test's memory would hide a leak."""
    process = start(
        [sys.executable, "-m", "tests.reliability.long_run", str(tmp_path), str(times)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    memory, size = found["memory"], found["size"]
    quarter = len(memory) // 4
    grown = max(memory[-quarter:]) - max(memory[quarter : 2 * quarter])
    assert grown < 3 * 1024
    with StoreReader(Runs(tmp_path).find("latest").database) as reader:
        assert reader.state()["step"] == times
        rows, traces, events = reader.row_count(), reader.traces(), reader.events()
    evaluations, traced = times // EPOCH, 1 + kept(times // 50, 2_000)
    assert len(traces) == len(LAYERS) * traced
    expected = len(KEYS) * kept(times) + len(EVALUATED) * evaluations
    assert rows == expected + 4 * len(LAYERS) * traced
    assert sum(event.payload["counts"]["float64"] for event in events) > 0.98 * 6 * len(memory)
    # every thousand steps at first, then whenever the step has grown by a hundredth
    assert len(events) < len(LAYERS) * (105 + math.log(times / 1e5, 1.01))
    # of every thousand steps, of which a tenth is kept by then
    early = (size[99] - size[0]) / 99
    late = (size[-1] - size[100]) / (len(size) - 101)
    assert late < 0.2 * early
    measured(f"{times:,} steps: {size[-1] / 1e6:.0f} MB, memory {grown / 1024:+.1f} MiB")


@pytest.fixture
def frozen():
    """Spare the collector what is there already, which takes it long; gives the caches among it."""
    gc.collect()
    caches = list(filter(is_cache, gc.get_objects()))
    gc.freeze()
    yield caches
    gc.unfreeze()


@pytest.mark.timeout(1800)
@promise(MORE, "many steps of a real training", "the memory of its process is flat")
@many(600, 50_000)
def test_the_memory_of_a_training(frozen, measured, times):
    """Of Python's objects, numbers too: the peak of a process tells little of so small a
    network."""
    config = small.config(method="cg3", epochs=10**6, batch_size=10, log__trace_every=50)
    made = small.trainer(config, control := small.stopping_at(times))
    control.trainer = made
    counts = []
    for event in made.events():
        if isinstance(event, StepsDone) and len(counts) * times / 10 <= made.step:
            counts.append(blocks())
    assert made.step >= times
    later = counts[2:]
    assert max(later) - min(later) < 1_000, counts
    measured(f"{times:,} steps, blocks of memory within {max(later) - min(later)}")


@pytest.mark.system  # for as long as it takes
@pytest.mark.timeout(1800)
@promise(MORE, "many looks of a dashboard at a run that is trained", "its memory is flat")
@many(50, 2_000)
def test_the_memory_of_the_dashboard(frozen, tmp_path, measured, times):
    run = make_run(tmp_path, "cg3", steps=5_000, per_epoch=100, status="running")
    counts = []

    async def script(pilot):
        await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen))
        screen = pilot.app.screen
        with StoreWriter(run.database) as writer:
            for _ in range(500):  # as many lines of its log as are shown
                fell_back(writer, 5_000)
            for number in range(times):
                last = 5_000 + 500 * (number + 1)
                train(writer, last)
                await until(pilot, lambda last=last: shows(screen, last), 120)
                if number % (times // 25) == 0:
                    empty_caches(frozen)
                    counts.append(blocks())

    with RunLock(run.lock_file):
        in_app(Dashboard(Runs(tmp_path), [run.id]), script)
    half = len(counts) // 2
    # the least: a look that is under way has more, but none has less
    grown = min(counts[half:]) - min(counts[5:half])
    assert grown < 500, counts
    measured(f"{times:,} looks at {500 * times:,} steps, {grown:+,} blocks of memory")


def fell_back(writer, step):
    writer.append_event(step, "LadderClimbed", {"layer": "1", "counts": {"float64": 1}})


def train(writer, last):
    """Store 500 steps, an evaluation, what the solvers did and that they fell back often."""
    steps = range(last - 499, last + 1)
    values = {
        "batch_loss": [1.0 / step for step in steps],
        "time/train": [0.01 * step for step in steps],
        "time/wall": [0.02 * step for step in steps],
        "work": [2.5 * step for step in steps],
    }
    writer.append_block(steps, values)
    metrics = {"epoch": last / 100, "train_loss": 1.0 / last, "val_loss": 2.0 / last}
    metrics |= {"train_accuracy": 1.0, "val_accuracy": 0.9, "time/train": 0.01 * last}
    writer.append_metrics(last, metrics)
    writer.append_traces([trace(last, "1"), trace(last, "3")])
    for _ in range(5):
        fell_back(writer, last)
    writer.set_state({"step": last, "epoch": last / 100, "metrics": metrics})
    writer.commit()


def shows(screen, step):
    if screen.poller is not None:
        screen.poller.wake()
    return bool(screen.views) and screen.views[0].step == step


def is_cache(one: object) -> bool:
    """Whether an object is what a library of the dashboard keeps up to a limit."""
    kind = type(one)  # to ask some objects for their class is to use them
    if issubclass(kind, functools._lru_cache_wrapper):
        drawn = one.__module__.partition(".")[0] in ("rich", "textual", "proxprop_cli")
        return drawn and one.cache_info().maxsize is not None
    return issubclass(kind, LRUCache | FIFOCache)


def empty_caches(known) -> None:
    """Forget what is kept up to a limit that takes long to reach."""
    for one in [*known, *filter(is_cache, gc.get_objects())]:
        if isinstance(one, LRUCache | FIFOCache):
            one.clear()
        else:
            one.cache_clear()


def blocks() -> int:
    """Blocks of memory that Python has in use."""
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize(
    "last", [CheckpointDue(1_001, 9, "epoch"), Diverged(1_001, ""), RunEnded(1_001, 9, "stopped")]
)
def test_fallbacks_that_wait_are_told_of_by_a_checkpoint_and_the_end(tmp_path, last):
    run = Runs(tmp_path).create(small.config())
    with run.lock(), StoreWriter(run.database) as writer:
        snapshot = Snapshot({}, {})
        recorder = Recorder(
            run, writer, AlwaysRun(), lambda: snapshot, LogConfig(), lambda event: None
        )
        for event in (*(LadderClimbed(step, "1", {"eigh": 2}) for step in (1_000, 1_001)), last):
            recorder.record(event)
    with StoreReader(run.database) as reader:
        told = [event for event in reader.events() if event.kind == "LadderClimbed"]
    assert [event.step for event in told] == [1_000, 1_001]
    assert [event.payload for event in told] == [{"layer": "1", "counts": {"eigh": 2}}] * 2


@promise(MORE, "`log.full_steps`", "later metrics and traces are thinned, a resumed run's too")
def test_a_thinned_run_is_resumed(cli, tmp_path):
    short = [*SMALL, "--set", "log.full_steps=10", "--method", "cg3"]
    short += ["--set", "log.trace_every=2"]
    assert cli("train", *short, "--epochs", "30").code == 0
    whole = Runs(tmp_path / "runs").find("latest")
    assert cli("train", *short, "--epochs", "7").code == 0
    parts = Runs(tmp_path / "runs").find("latest")
    assert cli("resume", parts.id, "--epochs", "30").code == 0
    found = []
    for run in (whole, parts):
        with StoreReader(run.database) as reader:
            layer = reader.traces()[0].layer
            keys = ("batch_loss", f"solver/{layer}/residual")
            series = [[column.tolist() for column in reader.series(key)] for key in keys]
            found.append([*series, reader.traces(layer=layer)])
    losses, residuals, traces = found[0]
    assert losses[0] == [*range(1, 11), *range(20, 101, 10)]
    assert residuals[0] == [1, *range(2, 11, 2), *range(20, 101, 20)]
    assert [one.step for one in traces] == residuals[0]
    assert found[0] == found[1]
