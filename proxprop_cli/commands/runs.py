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

    runs = opt.open_runs(runs_dir)
    summaries = [summarize_or_explain(run) for run in runs.all()]
    output = Output(as_json=as_json)
    output.document({"runs": summaries})
    if not summaries:
        output.line(f"no runs in {runs.root} yet; start one with 'proxprop train'")
        return
    columns = ["id", "name", "status", "preset", "method", "tau", "epoch", "loss", "val", "test"]
    output.table([*columns, "time", "age"], [_row(summary) for summary in summaries])


@app.command("show")
def show_run(
    run: opt.RunArgument, as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None
) -> None:
    """Show one run: where it stands, and its whole configuration."""
    from engine.config import dump
    from engine.store_reader import StoreReader
    from engine.summary import summarize

    found = opt.open_runs(runs_dir).find(run)
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
    """Delete runs with their checkpoints. A run that is being trained is not deleted."""
    store = opt.open_runs(runs_dir)
    found = list({run.id: run for run in map(store.find, runs)}.values())
    output = Output(as_json=as_json)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise ConfigError("deleting asks first, and there is nobody to answer; add --yes")
        typer.confirm(f"Delete {', '.join(run.id for run in found)}?", abort=True, err=True)
    for run in found:
        store.delete(run)
        output.line(f"deleted {run.id}")
    output.document({"deleted": [run.id for run in found]})


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
