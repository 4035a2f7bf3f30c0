"""The sweep runner's decisions, with pools whose outcomes are scripted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.control import AlwaysRun, Desired, Word
from engine.errors import ConfigError, StorageFullError
from engine.pool import ORPHANED, Kind, Outcome
from engine.run import Run
from engine.runs import Runs
from engine.store import StoreWriter
from engine.store_reader import StoreReader
from engine.sweep_plan import Row, plan_sweep
from engine.sweep_runner import (
    CellBegan,
    CellEnded,
    CellFailed,
    CellWaits,
    SweepEvent,
    SweepRunner,
)
from engine.sweeps import Sweep
from tests.engine import small
from tests.engine.pools import InProcessPool, ScriptedPool


def plan(*taus: float, epochs: int = 1) -> Sweep:
    """A sweep of one method, a run per step size."""
    return plan_sweep("digits", [Row("exact", small.config(epochs=epochs), taus)], (0,))


def finish(root: Path, run: str) -> Outcome:
    """What a pool answers when a run was trained to its end."""
    with Run(root / run).lock(), StoreWriter(Run(root / run).database) as writer:
        writer.set_state({"status": "finished"})
    return Outcome(run, "ended", status="finished")


def keep_checkpoint(root: Path, run: str, step: int) -> None:
    with StoreWriter(Run(root / run).database) as writer:
        hashes = {"tensors_sha256": "0" * 64, "json_sha256": "0" * 64}
        writer.add_checkpoint(step, **hashes, reason="epoch", epoch=0, best=False)
        writer.commit()


class Scripted:
    """A sweep whose runs answer a list of outcomes each, then finish."""

    def __init__(self, root: Path, sweep: Sweep, *first: tuple[Kind, str] | str) -> None:
        self.root = root
        self.sweep = sweep
        self.first = list(first)
        self.events: list[SweepEvent] = []
        self.pool = ScriptedPool(self.answer)
        self.control = Word()

    def answer(self, run: str) -> Iterable[Outcome]:
        if self.first:
            kind, text = self.first.pop(0)
            status = "stopped" if kind == "ended" else None
            return [Outcome(run, kind, text, status)]  # type: ignore[arg-type]
        return [finish(self.root, run)]

    def run(self):
        runner = SweepRunner(
            self.root,
            self.sweep,
            pool=self.pool,
            threads=1,
            control=self.control,
            listener=self.events.append,
            look_seconds=0.0,
            retry_seconds=0.0,
        )
        return runner.run()

    def texts(self, kind: type[SweepEvent]) -> list[str]:
        return [event.text for event in self.events if isinstance(event, kind)]  # type: ignore[union-attr]


def test_each_run_is_given_once_and_its_end_is_told(tmp_path: Path) -> None:
    sweep = plan(1.0, 0.1, 0.01)
    scripted = Scripted(tmp_path, sweep)
    ended = scripted.run()
    assert (ended.status, ended.failed) == ("finished", 0)
    assert Counter(scripted.pool.given) == Counter(str(cell.run) for cell in sweep.cells)
    assert Counter(type(event) for event in scripted.events) == {CellBegan: 3, CellEnded: 3}
    again = Scripted(tmp_path, sweep)
    assert again.run().status == "finished"
    assert again.pool.given == []
    assert [event.kept for event in again.events if isinstance(event, CellEnded)] == [True] * 3


def test_a_larger_sweep_keeps_the_runs_of_a_smaller_one(tmp_path: Path) -> None:
    Scripted(tmp_path, plan(1.0, 0.1)).run()
    larger = Scripted(tmp_path, plan(1.0, 0.5, 0.1))
    larger.run()
    (given,) = larger.pool.given
    assert Run(tmp_path / given).config().method.tau == 0.5


@pytest.mark.parametrize(
    "outcome",
    [("died", "its process ended with code -9"), ("ended", "SIGTERM"), ("ended", ORPHANED)],
)
def test_a_run_whose_process_ends_is_tried_twice_more(tmp_path: Path, outcome) -> None:
    twice = Scripted(tmp_path / "a", plan(1.0), outcome, outcome)
    assert twice.run().failed == 0
    assert len(twice.pool.given) == 3
    assert [e.resumed for e in twice.events if isinstance(e, CellBegan)] == [False, True, True]
    thrice = Scripted(tmp_path / "b", plan(1.0), outcome, outcome, outcome)
    assert thrice.run().failed == 1
    assert len(thrice.pool.given) == 3
    (text,) = thrice.texts(CellFailed)
    assert outcome[1] in text


def test_deaths_do_not_count_where_the_run_came_further(tmp_path: Path) -> None:
    sweep = plan(1.0)
    scripted = Scripted(tmp_path, sweep)
    steps = iter((5, 10, 15, 20, 25))

    def die_after_a_checkpoint(run: str) -> list[Outcome]:
        step = next(steps, None)
        if step is None:
            return [finish(tmp_path, run)]
        keep_checkpoint(tmp_path, run, step)
        return [Outcome(run, "died", "gone")]

    scripted.pool.script = die_after_a_checkpoint
    assert scripted.run().failed == 0
    assert len(scripted.pool.given) == 6


def test_a_run_that_somebody_stops_is_a_failure_and_is_taken_up_again(tmp_path: Path) -> None:
    sweep = plan(1.0, 0.1)
    scripted = Scripted(tmp_path, sweep, ("ended", "asked to stop"))
    ended = scripted.run()
    assert (ended.status, ended.failed) == ("finished", 1)
    assert scripted.texts(CellFailed) == ["stopped before its end (asked to stop)"]
    again = Scripted(tmp_path, sweep)
    assert again.run().failed == 0
    assert again.pool.given == scripted.pool.given[:1]


def test_an_error_of_one_run_does_not_end_the_others(tmp_path: Path) -> None:
    scripted = Scripted(tmp_path, plan(1.0, 0.1, 0.01), ("failed", "no data"))
    assert scripted.run().failed == 1
    assert scripted.texts(CellFailed) == ["no data"]
    assert len(scripted.pool.given) == 3


def test_a_run_that_another_process_has_is_put_off_and_told_once(tmp_path: Path) -> None:
    sweep = plan(1.0, 0.1)
    scripted = Scripted(tmp_path, sweep, ("busy", ""), ("busy", ""), ("busy", ""))
    assert scripted.run().failed == 0
    first, second = (str(cell.run) for cell in sweep.cells)
    assert scripted.pool.given[:3] == [first, second, first]
    assert scripted.texts(CellWaits) == ["trained by another process; waiting for it"] * 2


def test_a_locked_run_is_not_given_at_all(tmp_path: Path) -> None:
    (cell,) = (sweep := plan(1.0)).cells
    run = Runs(tmp_path).create(small.config(epochs=1, method__tau=1.0), id=cell.run)
    lock = run.lock()
    scripted = Scripted(tmp_path, sweep)

    def listen(event: SweepEvent) -> None:
        scripted.events.append(event)
        if isinstance(event, CellWaits):
            assert scripted.pool.given == []
            lock.release()

    runner = SweepRunner(
        tmp_path,
        sweep,
        pool=scripted.pool,
        threads=1,
        control=AlwaysRun(),
        listener=listen,
        look_seconds=0.0,
        retry_seconds=0.0,
    )
    assert runner.run().failed == 0
    assert scripted.pool.given == [cell.run]


def test_a_run_that_comes_back_goes_first_and_its_reason_is_told_once(tmp_path: Path) -> None:
    sweep = plan(1.0, 0.1)
    scripted = Scripted(tmp_path, sweep, ("returned", "no machine"), ("returned", "no machine"))
    assert scripted.run().failed == 0
    first = str(sweep.cells[0].run)
    assert scripted.pool.given[:3] == [first] * 3
    assert scripted.texts(CellWaits) == ["no machine"]
    began = [event.cell.run for event in scripted.events if isinstance(event, CellBegan)]
    assert began.count(first) == 1


def test_a_run_paused_by_itself_is_told_but_not_where_the_sweep_is_paused(tmp_path: Path) -> None:
    sweep = plan(1.0)
    run = str(sweep.cells[0].run)
    scripted = Scripted(tmp_path, sweep)
    scripted.pool.script = lambda run: [Outcome(run, "held"), finish(tmp_path, run)]
    scripted.run()
    (text,) = scripted.texts(CellWaits)
    assert text == f"paused by itself; 'proxprop resume {run}' lets it go on"


def test_pause_gives_no_new_runs_and_stop_ends_the_sweep(tmp_path: Path) -> None:
    sweep = plan(1.0, 0.1, 0.01)
    scripted = Scripted(tmp_path, sweep)
    asked = 0

    def answer(run: str) -> list[Outcome]:
        scripted.control.hear(Desired.PAUSED, "")
        return [finish(tmp_path, run)]

    class Control(Word):
        def desired(self) -> Desired:
            nonlocal asked
            if super().desired() is Desired.PAUSED:
                asked += 1
                assert len(scripted.pool.given) == 1
                if asked == 5:
                    self.hear(Desired.STOPPED, "asked to stop")
            return super().desired()

    scripted.control = Control()
    scripted.pool.script = answer
    ended = scripted.run()
    assert (ended.status, ended.reason) == ("stopped", "asked to stop")
    assert scripted.pool.told == [Desired.PAUSED, Desired.STOPPED]
    assert len(scripted.pool.given) == 1


def test_a_run_that_ends_because_the_sweep_was_stopped_is_no_failure(tmp_path: Path) -> None:
    scripted = Scripted(tmp_path, plan(1.0, 0.1))

    def answer(run: str) -> list[Outcome]:
        return [Outcome(run, "held"), Outcome(run, "ended", "asked to stop", "stopped")]

    class Control(Word):
        def desired(self) -> Desired:
            if scripted.pool.running:
                self.hear(Desired.STOPPED, "asked to stop")
            return super().desired()

    scripted.control = Control()
    scripted.pool.script = answer
    ended = scripted.run()
    assert (ended.status, ended.failed) == ("stopped", 0)
    assert scripted.texts(CellFailed) == []


def test_no_room_for_a_run_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(tmp_path, plan(1.0, 0.1))
    refusals = 2
    create = Runs.create

    def refuse(runs: Runs, *arguments, **options) -> Run:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise StorageFullError("no room")
        return create(runs, *arguments, **options)

    monkeypatch.setattr(Runs, "create", refuse)
    assert scripted.run().failed == 0
    assert scripted.texts(CellWaits) == [f"waiting for room on the disk of {tmp_path}"]
    assert len(scripted.pool.given) == 2


def test_a_cell_without_a_run_is_refused(tmp_path: Path) -> None:
    sweep = plan_sweep("digits", [Row("exact", small.config(), (1.0,))], (0, 1))
    for cells in (
        (replace(sweep.cells[0], run=None), sweep.cells[1]),
        (sweep.cells[0], replace(sweep.cells[1], run=sweep.cells[0].run)),
    ):
        with pytest.raises(ConfigError, match="a run of its own"):
            SweepRunner(
                tmp_path,
                replace(sweep, cells=cells),
                pool=InProcessPool(1, tmp_path, tmp_path),
                threads=1,
                control=AlwaysRun(),
                listener=lambda event: None,
            )
    assert list(tmp_path.iterdir()) == []


def test_runs_are_trained_once_and_those_that_were_stopped_go_on(tmp_path: Path) -> None:
    """Real training in this process: stopped in the middle, a sweep ends with the same figures."""
    sweep = plan(0.5, 0.1, epochs=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"

    def run(root: Path, control: Word | AlwaysRun, listener) -> str:
        pool = InProcessPool(1, root, small.cache_dir())
        runner = SweepRunner(
            root, sweep, pool=pool, threads=1, control=control, listener=listener, look_seconds=0.0
        )
        return runner.run().status

    assert run(whole, AlwaysRun(), lambda event: None) == "finished"
    control = Word()
    assert run(stopped, control, lambda event: control.hear(Desired.STOPPED, "x")) == "stopped"
    assert run(stopped, AlwaysRun(), lambda event: None) == "finished"
    for cell in sweep.cells:
        rows = []
        for root in (whole, stopped):
            with StoreReader(Run(root / str(cell.run)).database) as reader:
                rows.append([row for row in reader.rows() if not row[1].startswith("time/")])
        assert rows[0] == rows[1]
