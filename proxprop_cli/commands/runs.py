"""``proxprop runs list``, ``show`` and ``delete``."""

from __future__ import annotations

import datetime
import sys
from typing import Annotated, Any

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output, duration, number, percent

app = typer.Typer(help="What was trained.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_runs(as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None) -> None:
    """List all runs, newest first."""
    from engine.summary import summarize_or_explain
    from engine.sweeps import all_sweeps

    runs = opt.open_runs(runs_dir)
    of_sweep = {cell.run: sweep.id for sweep in all_sweeps(runs.root) for cell in sweep.cells}
    summaries = [{**summarize_or_explain(run), "sweep": of_sweep.get(run.id)} for run in runs.all()]
    output = Output(as_json=as_json)
    output.document({"runs": summaries})
    if not summaries:
        output.line(f"no runs in {runs.root} yet; start one with 'proxprop train'")
        return
    columns = ["id", "name", "status", "preset", "method", "tau", "epoch", "loss", "val", "test"]
    output.table([*columns, "time", "age"], [_row(summary) for summary in summaries])


@app.command("sweeps")
def list_sweeps(as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None) -> None:
    """List all sweeps and comparisons, newest first."""
    from engine.cells import read_cell
    from engine.run import Run
    from engine.sweeps import all_sweeps

    root = opt.open_runs(runs_dir).root
    found: list[dict[str, Any]] = []
    for sweep in all_sweeps(root):
        states = [read_cell(root, cell) for cell in sweep.cells]
        found.append(
            {
                "id": sweep.id,
                "kind": sweep.kind,
                "preset": sweep.preset,
                "live": Run(root / sweep.id).is_live(),
                "runs": len(states),
                "ended": sum(state.status in ("finished", "diverged") for state in states),
                "created": sweep.created,
            }
        )
    output = Output(as_json=as_json)
    output.document({"sweeps": found})
    if not found:
        output.line(f"no sweeps in {root} yet; start one with 'proxprop sweep-tau'")
        return
    now = datetime.datetime.now().timestamp()
    rows = [
        [
            item["id"],
            item["preset"],
            "running" if item["live"] else "",
            f"{item['ended']}/{item['runs']}",
            duration(now - item["created"]),
        ]
        for item in found
    ]
    output.table(["id", "preset", "status", "runs", "age"], rows)


@app.command("show")
def show_run(
    run: opt.RunArgument, as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None
) -> None:
    """Show one run, where it stands and its whole configuration; or the table of a sweep."""
    from engine.config import dump
    from engine.store_reader import StoreReader
    from engine.summary import summarize
    from engine.sweeps import find_sweep

    store = opt.open_runs(runs_dir)
    sweep = find_sweep(store.root, run)
    if sweep is not None:
        from proxprop_cli.sweeping import report

        report(sweep, store.root, Output(as_json=as_json))
        return
    found = store.find(run)
    summary = summarize(found)
    config = found.config()
    with StoreReader(found.database) as reader:
        rows, checkpoints = reader.row_count(), [row.step for row in reader.checkpoints()]
        environment = reader.state().get("environment", {})
    output = Output(as_json=as_json)
    output.document(
        {
            **summary,
            "path": str(found.path),
            "rows": rows,
            "checkpoints": checkpoints,
            "environment": environment,
            "config": config.model_dump(mode="json"),
        }
    )
    if as_json:
        return
    facts = {**summary, "path": found.path, "rows": rows, "checkpoints": checkpoints}
    facts |= {f"environment.{key}": value for key, value in environment.items()}
    output.table(["key", "value"], [[key, _fact(value)] for key, value in facts.items()])
    for line in dump(config).splitlines():
        output.line(line)


@app.command("delete")
def delete_runs(
    runs: opt.RunsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
) -> None:
    """Delete runs with their checkpoints, or sweeps with the runs that no other sweep has.

    A run or a sweep that is being trained is not deleted.
    """
    from engine.sweep_deletion import delete_sweep, own_runs
    from engine.sweeps import find_sweep

    store = opt.open_runs(runs_dir)
    sweeps = {ref: find_sweep(store.root, ref) for ref in dict.fromkeys(runs)}
    chosen = list({sweep.id: sweep for sweep in sweeps.values() if sweep is not None}.values())
    found = [store.find(ref) for ref, sweep in sweeps.items() if sweep is None]
    found = list({run.id: run for run in found}.values())
    output = Output(as_json=as_json)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise ConfigError("deleting asks first, and there is nobody to answer; add --yes")
        named = [f"{sweep.id} with {len(own_runs(store, sweep))} runs" for sweep in chosen]
        named += [run.id for run in found]
        typer.confirm(f"Delete {', '.join(named)}?", abort=True, err=True)
    for sweep in chosen:
        count = delete_sweep(store, sweep)
        output.line(f"deleted {sweep.id} and {count} runs")
    for run in found:
        if run.exists():  # it may have gone with its sweep
            store.delete(run)
            output.line(f"deleted {run.id}")
    output.document({"deleted": [*(sweep.id for sweep in chosen), *(run.id for run in found)]})


def _row(summary: dict[str, Any]) -> list[str]:
    if summary["status"] == "unreadable":
        return [summary["id"], "", "unreadable", *([""] * 9)]
    age = datetime.datetime.now().timestamp() - (summary["created"] or 0)
    return [
        summary["id"],
        summary["name"] or "",
        summary["status"],
        summary["preset"] or "",
        summary["method"],
        number(summary["tau"]),
        f"{summary['epoch']:g}/{summary['epochs_limit']}",
        number(summary["train_loss"]),
        percent(summary["val_accuracy"]),
        percent(summary["test_accuracy"]),
        duration(summary["seconds"]),
        duration(age),
    ]


def _fact(value: object) -> str:
    return "-" if value is None else str(value)
