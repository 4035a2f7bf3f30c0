"""The dashboard on a terminal, and what is said once it is closed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

from proxprop_cli.exit_codes import Exit
from proxprop_cli.output import Output

if TYPE_CHECKING:
    from engine.run import Run
    from engine.runs import Runs
    from engine.sweeps import Sweep
    from proxprop_cli.sweeping import How

_STOP_SECONDS = 15.0


def open_dashboard(
    runs: Runs, shown: Sequence[str], data_dir: Path | None, *, sweep: str | None = None
) -> int:
    """Show runs until a person leaves; gives the exit code.

    :param shown: ids; none: the list of runs.
    :param data_dir: folder of data sets; None: the default one.
    :param sweep: id of a sweep to show instead.
    """
    from proxprop_cli.dashboard.app import Dashboard

    app = Dashboard(runs, shown, sweep=sweep, data_dir=data_dir)
    app.run()
    return app.return_code or Exit.OK


def train_and_watch(
    run: Run, data_dir: Path | None, output: Output, *extra: str, fail_on_divergence: bool = False
) -> int:
    """Train in a process of its own, and show it; gives the exit code.

    :param extra: more options of ``resume``.
    """
    from engine.runs import Runs
    from proxprop_cli.sitting import latest_start, spawn, wait_until_begun

    earlier = latest_start(run)
    process, log = spawn(run, data_dir, *extra)
    code = open_dashboard(Runs(run.path.parent), [run.id], data_dir)
    if code:
        return code
    if process.poll() is None:
        wait_until_begun(run, process, log, output, earlier)
    return _report(run, process, log, output, fail_on_divergence)


def sweep_and_watch(sweep: Sweep, folder: Run, how: How, *extra: str) -> int:
    """Train a sweep in processes of their own, and show it; gives the exit code.

    :param extra: more options of ``resume``.
    """
    from proxprop_cli.sitting import last_line, spawn, wait_until_begun
    from proxprop_cli.sweeping import how_to_go_on, is_complete, report

    process, log = spawn(folder, how.data_dir, *extra)
    code = open_dashboard(how.store, [], how.data_dir, sweep=sweep.id)
    if code:
        return code
    if process.poll() is None:
        wait_until_begun(folder, process, log, how.output)
    end = time.monotonic() + _STOP_SECONDS
    while process.poll() is None and _is_over(sweep, folder) and time.monotonic() < end:
        time.sleep(0.05)
    report(sweep, how.store.root, how.output)
    if process.poll() is None:
        how.output.line(f"{sweep.id} trains on; 'proxprop watch {sweep.id}' shows it again")
        return Exit.OK
    if process.returncode:
        how.output.note(last_line(log))
    elif not is_complete(sweep, how.store.root):
        how.output.note(f"stopped; '{how_to_go_on(sweep, how)}' goes on from here")
    return process.returncode


def _is_over(sweep: Sweep, folder: Run) -> bool:
    from engine.control import Desired
    from proxprop_cli.sweeping import is_complete

    return folder.desired() is Desired.STOPPED or is_complete(sweep, folder.path.parent)


def _report(
    run: Run, process: Popen[bytes], log: Path, output: Output, fail_on_divergence: bool
) -> int:
    from engine.cells import ENDED
    from engine.control import Desired
    from engine.summary import summarize
    from proxprop_cli.output import number, percent
    from proxprop_cli.sitting import last_line

    end = time.monotonic() + _STOP_SECONDS
    if run.desired() is Desired.STOPPED or run.status() in ENDED:
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    if process.poll() is None and run.status() == "paused":
        output.line(f"run {run.id} is paused; 'proxprop resume {run.id}' lets it go on")
        return Exit.OK
    if process.poll() is None:
        output.line(f"run {run.id} trains on; 'proxprop watch {run.id}' shows it again")
        return Exit.OK
    if process.returncode not in (Exit.OK, Exit.DIVERGED):
        output.note(last_line(log))
        return process.returncode
    summary = summarize(run)
    if summary["diverged"]:
        output.line(f"run {run.id} diverged after {summary['steps']:,} steps: {summary['reason']}")
        return Exit.DIVERGED if fail_on_divergence else Exit.OK
    figures = f"loss {number(summary['train_loss'])}"
    if summary["val_accuracy"] is not None:
        figures += f", validation accuracy {percent(summary['val_accuracy'])}"
    elif summary["val_loss"] is not None:
        figures += f", validation loss {number(summary['val_loss'])}"
    output.line(f"run {run.id} is {summary['status']} after {summary['steps']:,} steps: {figures}")
    if summary["status"] in ("stopped", "failed"):
        output.line(f"'proxprop resume {run.id}' goes on from here")
    return Exit.OK
