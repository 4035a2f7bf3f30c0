"""Running a sweep or a comparison, for the commands that do so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import BusyError, ConfigError
from proxprop_cli import engines, sitting
from proxprop_cli.engines import Engine
from proxprop_cli.exit_codes import Exit
from proxprop_cli.output import Output
from proxprop_cli.sweep_data import prepare_data, refuse_other_data

if TYPE_CHECKING:
    from engine.comparison import Comparison
    from engine.config import RunConfig
    from engine.control import Desired
    from engine.run import Run
    from engine.runs import Runs
    from engine.sweep_plan import Row
    from engine.sweeps import Kind, Sweep


@dataclass(frozen=True, slots=True)
class How:
    """The options of a command that trains many runs.

    :ivar jobs: runs side by side; None: as many as the CPU has room for.
    :ivar tell: print the tables when all is done.
    :ivar engine: where runs are trained.
    """

    store: Runs
    output: Output
    data_dir: Path | None
    jobs: int | None
    plain: bool
    detach: bool
    tell: bool = True
    engine: Engine = field(default_factory=Engine)


def plan_and_start(
    title: str,
    rows: Sequence[Row],
    seeds: int,
    how: How,
    *,
    kind: Kind = "sweep",
    level: float | None = None,
    max_runs: int | None = None,
) -> int:
    """Plan every row with so many seeds from its first on, and train it; gives the exit code.

    :param max_runs: None: the default limit.
    :raises ConfigError: see :func:`engine.sweep_plan.plan_sweep`.
    :raises BusyError: it is being trained already.
    """
    from engine.sweep_plan import DEFAULT_MAX_RUNS, plan_sweep

    first = rows[0].config.seed
    sweep = plan_sweep(
        title,
        rows,
        range(first, first + seeds),
        kind=kind,
        level=level,
        max_runs=max_runs or DEFAULT_MAX_RUNS,
    )
    return start(sweep, [row.config for row in rows], how)


def start(sweep: Sweep, configs: Sequence[RunConfig], how: How) -> int:
    """Keep a new sweep, or find it again, and train what is left of it; gives the exit code.

    :param configs: one of every row, to see that data and machine fit before anything is made.
    :raises BusyError: it is being trained already.
    :raises DataError: the data have changed since runs of it were trained.
    """
    from engine.sweeps import load_sweep, save_sweep, sweep_file

    root = how.store.root
    folder = sweep_folder(root, sweep)
    if folder.is_live():
        raise _busy(sweep)
    how.engine.check(sweep, root, how.jobs)
    prepare_data(configs, how)
    refuse_other_data(sweep, how)
    if sweep_file(root, sweep.id).is_file():
        created = load_sweep(root, sweep.id).created
        sweep = replace(sweep, created=created)
    save_sweep(root, sweep)
    how.output.note(f"{sweep.kind} {sweep.id} · {sweep.preset} · {len(sweep.cells)} runs")
    return go_on(sweep, how)


def go_on(sweep: Sweep, how: How, *, as_told: bool = False) -> int:
    """Train what is left of a sweep that was kept; gives the exit code.

    :param as_told: leave what a person wants of it as it is.
    :raises BusyError: it is being trained already.
    """
    from engine.control import Desired

    folder = sweep_folder(how.store.root, sweep)
    if folder.is_live():
        raise _busy(sweep)
    if not as_told:
        folder.set_desired(Desired.RUNNING)
    extra = [] if how.jobs is None else ["--jobs", str(how.jobs)]
    extra += how.engine.options
    if how.detach:
        process, log = sitting.spawn(folder, how.data_dir, *extra)
        sitting.wait_until_begun(folder, process, log, how.output)
        how.output.line(f"{sweep.id} is trained in the background; its output goes to {log}")
        how.output.document({"sweep": sweep.id, "pid": process.pid, "log": str(log)})
        return Exit.OK
    if not how.plain and how.output.draws():
        from proxprop_cli.watching import sweep_and_watch

        return sweep_and_watch(sweep, folder, how, *extra)
    return _conduct(sweep, folder, how)


def resume_sweep(sweep: Sweep, how: How, *, as_told: bool = False) -> int:
    """Let a paused sweep go on, or train what is left of one; gives the exit code.

    :raises DataError: the data have changed since runs of it were trained.
    """
    from engine.control import Desired

    folder = sweep_folder(how.store.root, sweep)
    if not folder.is_live():
        if not as_told:
            how.engine.check(sweep, how.store.root, how.jobs)
        refuse_other_data(sweep, how)
        return go_on(sweep, how, as_told=as_told)
    if how.engine.allow_inexact:
        raise ConfigError(f"--allow-inexact: {sweep.id} is being trained; stop it first")
    held = [run for run in _live_runs(how.store.root, sweep) if run.desired() is Desired.PAUSED]
    for run in held:
        run.set_desired(Desired.RUNNING)
    waited = held or folder.desired() is not Desired.RUNNING
    folder.set_desired(Desired.RUNNING)
    is_running = "goes on" if waited else "is being trained already"
    how.output.line(f"{sweep.id} {is_running}")
    how.output.document({"sweep": sweep.id, "status": "running"})
    return Exit.OK


def _live_runs(root: Path, sweep: Sweep) -> list[Run]:
    from engine.run import Run

    runs = (Run(root / cell.run) for cell in sweep.cells if cell.run)
    return [run for run in runs if run.is_live()]


def hold_sweep(sweep: Sweep, how: How, desired: Desired) -> int:
    """Pause or stop a sweep that is being trained; gives the exit code.

    :raises ConfigError: nobody trains it.
    """
    folder = sweep_folder(how.store.root, sweep)
    if not folder.is_live():
        raise ConfigError(f"{sweep.id} is not being trained")
    folder.set_desired(desired, "asked to stop" if desired == "stopped" else "")
    how.output.line(f"{sweep.id} will be {desired.value} after the steps its runs are at")
    how.output.document({"sweep": sweep.id, "status": desired.value})
    return Exit.OK


def sweep_folder(root: Path, sweep: Sweep) -> Run:
    """The folder of a sweep: like that of a run it has a lock, and a word of what is wanted."""
    from engine.run import Run

    return Run(root / sweep.id)


def report(sweep: Sweep, root: Path, output: Output) -> None:
    """Print what a sweep has come to."""
    from engine.cells import read_cells
    from engine.comparison import at_best, compare
    from engine.stability import summarize_sweep
    from proxprop_cli import sweep_tables as tables

    states = read_cells(root, sweep)
    for line in tables.left_out(sweep, states):
        output.note(line)
    if sweep.kind == "comparison":
        found = compare(root, sweep, loss=sweep.level, states=states)
        output.document(tables.comparison_document(sweep, found))
        print_comparison(found, output)
        return
    grid = summarize_sweep(sweep, states)
    chosen = at_best(sweep, grid)
    by_cell = dict(zip(sweep.cells, states, strict=True))
    best = compare(root, chosen, states=[by_cell[cell] for cell in chosen.cells])
    output.document(tables.sweep_document(sweep, states, grid, best))
    if output.as_json:
        return
    output.table(tables.grid_columns(grid), tables.grid_rows(grid))
    output.line(tables.grid_legend(grid))
    if best.rows:
        print_comparison(best, output, of="each at its best step size, ")


def print_comparison(found: Comparison, output: Output, *, of: str = "") -> None:
    """Print where the rows of a comparison ended, and where they had a common training loss.

    :param of: how they were chosen.
    """
    from proxprop_cli import sweep_tables as tables

    if output.as_json:
        return
    output.line(f"{of}at the end, mean ± half of its 95 % interval, and deviation (sd) over seeds:")
    output.table(tables.comparison_columns(found), tables.comparison_rows(found))
    output.line("time of training, without evaluation, and until the best evaluation:")
    output.table(tables.time_columns(found), tables.time_rows(found))
    most = max((state.side_by_side for row in found.rows for state in row.states), default=1)
    if most > 1:
        output.line(f"times are those of runs trained {most} side by side")
    if found.loss is not None:
        output.line(f"at the training loss {found.loss:.4g}, interpolated:")
        output.table(tables.at_loss_columns(found), tables.at_loss_rows(found))


def _conduct(sweep: Sweep, folder: Run, how: How) -> int:
    """Train, in processes here or elsewhere, until all is done or a person stops it."""
    from engine.control import Desired
    from engine.file_control import FileControl
    from engine.sweep_runner import SweepRunner
    from engine.sweep_watch import SweepWatch
    from proxprop_cli.sweep_progress import SweepProgress

    control = FileControl(folder)
    root = how.store.root
    if not how.engine.on_ray:
        jobs, _ = engines.share_out(sweep, how.jobs)
        jobs = min(jobs, runs_left(sweep, root))
        if jobs > 1:
            how.output.note(f"{jobs} runs are trained side by side; --jobs 1: one after the other")
    elif how.engine.address is None:
        how.output.note("a Ray cluster starts on this machine, and ends with the sweep")
    with (
        folder.lock(),
        # first: what starts a cluster would lose an interrupt
        sitting.signals(control),
        how.engine.pool(sweep, root, how.data_dir, how.jobs) as (pool, threads),
        SweepProgress(sweep, SweepWatch(root, sweep.id), how.output) as progress,
    ):
        ended = SweepRunner(
            root,
            sweep,
            pool=pool,
            threads=threads,
            control=control,
            listener=progress,
        ).run()
    if how.tell:
        report(sweep, root, how.output)
    if ended.failed:
        how.output.note(
            f"{ended.failed} runs did not come to their end; the same command tries again"
        )
    if ended.status == "stopped":
        folder.set_desired(Desired.STOPPED, ended.reason)
        how.output.note(f"stopped; '{how_to_go_on(sweep, how)}' goes on from here")
    if ended.reason == "SIGINT":
        return Exit.INTERRUPTED
    if ended.reason == "SIGTERM":
        return Exit.TERMINATED
    return Exit.ERROR if ended.failed else Exit.OK


def how_to_go_on(sweep: Sweep, how: How) -> str:
    """The command that trains what is left of a sweep, where and as it was trained."""
    return " ".join(["proxprop resume", sweep.id, *how.engine.options])


def runs_left(sweep: Sweep, root: Path) -> int:
    """How many runs of a sweep are not at their end."""
    from engine.cells import read_cells

    return sum(not state.ended for state in read_cells(root, sweep))


def is_complete(sweep: Sweep, root: Path) -> bool:
    """Whether nothing is left to do for any run of a sweep."""
    return runs_left(sweep, root) == 0


def _busy(sweep: Sweep) -> BusyError:
    return BusyError(f"{sweep.id} is being trained already; 'proxprop watch {sweep.id}' shows it")
