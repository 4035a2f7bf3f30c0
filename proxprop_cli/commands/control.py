"""``proxprop pause`` and ``proxprop stop``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output

if TYPE_CHECKING:
    from engine.control import Desired
    from engine.run import Run

_PATIENCE_SECONDS = 10.0


def pause(
    run: opt.RunArgument, as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None
) -> None:
    """Hold a run or a sweep between two steps, its state kept; 'proxprop resume' lets it go on."""
    from engine.control import Desired

    found = _run_or_leave(run, Desired.PAUSED, runs_dir, as_json=as_json)
    if not found.is_live():
        raise ConfigError(f"run {found.id} is not being trained; its status is {found.status()}")
    found.set_desired(Desired.PAUSED)
    _wait_and_report(found, "paused", Output(as_json=as_json))


def stop(
    run: opt.RunArgument, as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None
) -> None:
    """End a run or a sweep, its state kept; 'proxprop resume' can still continue it."""
    from engine.control import Desired

    found = _run_or_leave(run, Desired.STOPPED, runs_dir, as_json=as_json)
    output = Output(as_json=as_json)
    if found.is_live():
        found.set_desired(Desired.STOPPED, "asked to stop")
    elif found.status() in ("interrupted", "paused", "created"):
        _mark_stopped(found)
    _wait_and_report(found, "stopped", output)


def _run_or_leave(ref: str, desired: Desired, runs_dir: Path | None, *, as_json: bool) -> Run:
    """The run that is meant; where a sweep is, tell it and leave."""
    from engine.run import Run

    store = opt.open_runs(runs_dir)
    found = opt.find(store, ref)
    if isinstance(found, Run):
        return found
    from proxprop_cli.sweeping import How, hold_sweep

    how = How(store, Output(as_json=as_json), None, jobs=None, plain=True, detach=False)
    raise typer.Exit(hold_sweep(found, how, desired))


def _mark_stopped(run: Run) -> None:
    """No process has the run, so its status is ours to write."""
    from engine.store import StoreWriter

    with run.lock(), StoreWriter(run.database) as writer:
        writer.set_state({"status": "stopped", "reason": "asked to stop"})


def _wait_and_report(run: Run, wanted: str, output: Output) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    status = run.status()
    while status != wanted and run.is_live() and time.monotonic() < end:
        time.sleep(0.05)
        status = run.status()
    if status == wanted or not run.is_live():
        output.line(f"run {run.id} is {status}")
    else:
        output.line(f"run {run.id} will be {wanted} after its current step; it is {status} now")
    output.document({"run": run.id, "status": status})
