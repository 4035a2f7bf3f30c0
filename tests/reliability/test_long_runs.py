"""A run of very many steps: neither memory nor store grow with them."""

from __future__ import annotations

import gc
import resource
import sys

import pytest

from engine.checkpoint import Snapshot
from engine.config_sections import LogConfig
from engine.control import Desired
from engine.events import StepsDone
from engine.recorder import Recorder
from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from tests.cli.terminal import SMALL
from tests.engine import small
from tests.reliability.report import MORE, many, promise

KEYS = ("batch_loss", "direction_norm", "lr", "time/train", "time/wall")


class Never:
    """A control that nobody turns to."""

    def desired(self):
        return Desired.RUNNING

    def stop_reason(self):
        return ""


@pytest.mark.timeout(1800)
@promise(
    MORE, "an hour of 1,000 steps a second", "the trainer's memory is flat, the store is thinned"
)
@many(300_000, 3_600_000)
def test_the_store_of_a_long_run(tmp_path, measured, times):
    run = Runs(tmp_path).create(small.config())
    peaks, sizes = [], []
    with run.lock(), StoreWriter(run.database) as writer:
        recorder = Recorder(
            run, writer, Never(), lambda: Snapshot({}, {}), LogConfig(), lambda event: None
        )
        for first in range(1, times, 1000):
            steps = tuple(range(first, first + 1000))
            clock = tuple(map(float, steps))
            recorder.record(StepsDone(0, steps, dict.fromkeys(KEYS, clock)))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            sizes.append(run.database.stat().st_size)
    quarter = len(peaks) // 4
    grown = (peaks[-1] - peaks[quarter]) / (1 if sys.platform == "linux" else 1024)  # KiB
    assert grown < 8 * 1024
    with StoreReader(run.database) as reader:
        rows = reader.row_count()
        assert reader.state()["step"] == times
    expected = 100_000 + 9 * 10_000 * min(1, (times - 100_000) / 900_000)
    expected += max(0, times - 10**6) / 100
    assert rows == pytest.approx(len(KEYS) * expected, rel=0.001)
    size = run.database.stat().st_size
    assert size < 60 * rows
    measured(f"{times:,} steps: {size / 1e6:.0f} MB, memory +{max(0, grown) / 1024:.1f} MiB")


@pytest.mark.timeout(1800)
@promise(MORE, "many steps of a real training", "the memory of its process is flat")
@many(2_000, 50_000)
def test_the_memory_of_a_training(measured, times):
    """In this process, of objects: the peak of a process tells little of so small a network."""
    config = small.config(method="cg3", epochs=10**6, batch_size=10, log__trace_every=50)
    made = small.trainer(config, control := small.stopping_at(times))
    control.trainer = made
    counts = []
    for event in made.events():
        if isinstance(event, StepsDone) and len(counts) * times / 10 <= made.step:
            gc.collect()
            counts.append(len(gc.get_objects()))
    assert made.step >= times
    assert max(counts[2:]) - min(counts[2:]) < 200, counts
    measured(f"{times:,} steps, live objects within {max(counts[2:]) - min(counts[2:])}")


@promise(MORE, "`log.full_steps`", "metrics of later steps are thinned, a resumed run's too")
def test_a_thinned_run_is_resumed(cli, tmp_path):
    short = [*SMALL, "--set", "log.full_steps=10", "--method", "cg3"]
    assert cli("train", *short, "--epochs", "30").code == 0
    whole = Runs(tmp_path / "runs").find("latest")
    assert cli("train", *short, "--epochs", "7").code == 0
    parts = Runs(tmp_path / "runs").find("latest")
    assert cli("resume", parts.id, "--epochs", "30").code == 0
    found = []
    for run in (whole, parts):
        with StoreReader(run.database) as reader:
            found.append(reader.series("batch_loss"))
    assert found[0][0].tolist() == [*range(1, 11), *range(20, 101, 10)]
    assert found[0][1].tolist() == found[1][1].tolist()
