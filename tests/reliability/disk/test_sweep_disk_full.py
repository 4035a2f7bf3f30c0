"""A sweep on a disk that is full for a while."""

from __future__ import annotations

import signal

import pytest

from engine.cells import read_cell
from engine.control import AlwaysRun, Desired
from engine.errors import StorageFullError
from engine.file_control import FileControl
from engine.pool import Outcome, train_run
from engine.run import Run
from engine.runs import Runs
from engine.session import Sitting
from engine.store import StoreWriter
from engine.sweep_plan import Row, cell_config, plan_sweep
from engine.sweep_runner import CellWaits, SweepRunner
from engine.sweeps import all_sweeps, save_sweep
from tests.cli.terminal import SMALL, Terminal
from tests.engine import small
from tests.engine.pools import InProcessPool
from tests.reliability.disk.small_disk import fill
from tests.reliability.report import FAULTS, MORE, promise
from tests.reliability.trainings import until

GRID = [*SMALL, "--tau", "1,0.1,0.01", "--methods", "cg3", "--seeds", "1", "--epochs", "2"]


def begun_sweep(disk, terminal):
    """A sweep on a disk that has room for its own folder, but not for a run."""
    fill(disk / "filler", but=1 << 16)
    process = terminal.start("sweep-tau", *GRID, "--jobs", "2", "--plain")
    until(lambda: all_sweeps(terminal.runs) or process.poll() is not None)
    (sweep,) = all_sweeps(terminal.runs)
    folder = Run(terminal.runs / sweep.id)
    until(lambda: folder.is_waiting() or process.poll() is not None)
    assert process.poll() is None
    return process, sweep, folder


@pytest.mark.timeout(600)
@promise(
    FAULTS,
    "disk full when a sweep makes its next run",
    "waits with a message, and trains all its runs once there is room",
)
def test_a_sweep_that_has_no_room_for_its_next_run(small_disk, impatient):
    terminal = Terminal(small_disk / "runs")
    process, sweep, folder = begun_sweep(small_disk, terminal)
    assert [path.name for path in terminal.runs.iterdir()] == [sweep.id]
    assert impatient("pause", sweep.id, "--dir", str(terminal.runs)).code == 0
    (small_disk / "filler").unlink()
    assert terminal("resume", sweep.id).code == 0
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (out + err).count("waiting for room on the disk of ") == 1
    assert {read_cell(terminal.runs, cell).status for cell in sweep.cells} == {"finished"}
    assert not (folder.path / "waiting").exists()


@pytest.mark.timeout(600)
@promise(
    MORE,
    "a sweep that waits for room is stopped or interrupted",
    "ends at once; exit 0, 130 or 143, and it can be resumed",
)
@pytest.mark.parametrize("by", ["stop", "SIGINT", "SIGTERM"])
def test_a_sweep_stopped_while_the_disk_is_full(small_disk, by):
    terminal = Terminal(small_disk / "runs")
    process, sweep, folder = begun_sweep(small_disk, terminal)
    fill(small_disk / "filler")
    if by == "stop":
        assert terminal("stop", sweep.id).code == 0
    else:
        process.send_signal(getattr(signal, by))
    _, err = process.communicate(timeout=60)
    assert process.returncode == {"stop": 0, "SIGINT": 130, "SIGTERM": 143}[by], err
    assert "Traceback" not in err
    assert not (folder.path / "waiting").exists()
    assert [path.name for path in terminal.runs.iterdir()] == [sweep.id]
    (small_disk / "filler").unlink()
    resumed = terminal("resume", sweep.id, "--json")
    assert resumed.code == 0, resumed.err
    assert {cell["status"] for cell in resumed.json["cells"]} == {"finished"}


def left_with_a_log(run):
    """Make its store one that was copied while it was written: reading that takes room for the
    shared memory, which is not there."""
    log = run.database.with_name("run.db-wal")
    with StoreWriter(run.database) as writer:
        writer.append_metrics(0, {"loss": 0.0})
        writer.commit()
        content = log.read_bytes()
    log.write_bytes(content)
    return run


def test_a_run_that_can_not_be_looked_into_waits(small_disk):
    run = left_with_a_log(Runs(small_disk / "runs").create(small.config(epochs=1)))

    def trained():
        return train_run(run, Sitting(FileControl(run), lambda event: None, small.cache_dir()))

    fill(small_disk / "filler")
    assert trained().kind == "full"
    run.set_desired(Desired.STOPPED, "enough")
    assert trained() == Outcome(run.id, "ended", "enough", "stopped")
    (small_disk / "filler").unlink()
    run.set_desired(Desired.RUNNING)
    assert trained().status == "finished"


class Freed(AlwaysRun):
    """Makes room once a sweep has waited for a while, and pauses it for as long."""

    def __init__(self, sweep, filler, made):
        self._sweep, self._filler, self._made = sweep, filler, made
        self._looks = 0

    def desired(self):
        if self._looks < 20 and self._sweep.is_waiting():
            names = {path.name for path in self._sweep.path.parent.iterdir()}
            assert names == {self._sweep.id, *self._made}, "half a run, or one of a paused sweep"
            self._looks += 1
            if self._looks == 10:
                self._filler.unlink()
        return Desired.PAUSED if 10 <= self._looks < 20 else Desired.RUNNING


@pytest.mark.parametrize("made", [True, False])
def test_the_rest_of_a_sweep_waits_and_is_told_of_once(small_disk, made):
    root, filler, events = small_disk / "runs", small_disk / "filler", []
    sweep = plan_sweep("digits", [Row("cg3", small.config(epochs=1), (1.0, 0.1))], (0,))
    save_sweep(root, sweep)
    runs = [cell.run for cell in sweep.cells] if made else []
    for cell in sweep.cells:
        if made:
            left_with_a_log(Runs(root).create(cell_config(sweep, cell), id=cell.run))
    folder = Run(root / sweep.id)
    with folder.lock():
        fill(filler)
        ended = SweepRunner(
            root,
            sweep,
            pool=InProcessPool(2, root, small.cache_dir()),
            threads=1,
            control=Freed(folder, filler, runs),
            listener=events.append,
            look_seconds=0.0,
            retry_seconds=0.0,
        ).run()
        assert not folder.is_waiting()
    assert (ended.status, ended.failed) == ("finished", 0)
    assert not filler.exists()
    assert sum(isinstance(event, CellWaits) for event in events) == 1
    assert {read_cell(root, cell).status for cell in sweep.cells} == {"finished"}


def test_a_run_is_made_whole_or_not_at_all_however_much_room_there_is(small_disk):
    runs, filler = Runs(small_disk / "runs"), small_disk / "filler"
    runs.create(small.config(), id="first")
    outcomes = []
    for pages in range(0, 48, 3):
        fill(filler, but=4096 * pages)
        try:
            runs.create(small.config(), id=f"room-{pages}")
        except StorageFullError:
            assert {path.name for path in runs.root.iterdir()} == {"first"}
            outcomes.append("no room")
        else:
            outcomes.append("made")
            break
    assert outcomes[-1] == "made"
    assert outcomes[0] == "no room"
