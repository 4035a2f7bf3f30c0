"""``proxprop runs list``, ``show`` and ``delete``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import clock
from engine.errors import ConfigError, ProxPropError, StorageError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output, duration, moment, number, score

if TYPE_CHECKING:
    from engine.run import Run
    from engine.runs import Runs
    from engine.sweeps import Sweep

_LEAST = ("sweep", "time", "test", "name", "preset", "epoch", "age", "val", "tau")
"""Columns of the list that go first in a narrow terminal; ``--json`` has all."""
_NAMED = 8
"""Most runs or problems that are listed in words."""

app = typer.Typer(help="What was trained.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_runs(as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None) -> None:
    """List all runs, newest first."""
    from engine.summary import summarize_or_explain
    from engine.sweeps import all_sweeps

    runs = opt.open_runs(runs_dir)
    sweeps = reversed(all_sweeps(runs.root))  # of several the newest is told, as in the dashboard
    of_sweep = {cell.run: sweep.id for sweep in sweeps for cell in sweep.cells}
    summaries = [{**summarize_or_explain(run), "sweep": of_sweep.get(run.id)} for run in runs.all()]
    output = Output(as_json=as_json)
    output.document({"runs": summaries})
    if not summaries:
        output.line(f"no runs in {runs.root} yet; start one with 'proxprop train'")
        return
    columns = ["id", "name", "status", "preset", "method", "tau", "epoch", "loss", "val", "test"]
    columns += ["time", "age"]
    rows = [_row(summary) for summary in summaries]
    if any(summary["sweep"] for summary in summaries):
        columns.append("sweep")
        rows = [[*row, one["sweep"] or ""] for row, one in zip(rows, summaries, strict=True)]
    output.table(columns, rows, least=_LEAST)
    unreadable = [one for one in summaries if one["status"] == "unreadable"]
    for one in unreadable[:_NAMED]:
        output.note(f"{one['id']} is unreadable: {one['reason']}")
    if len(unreadable) > _NAMED:
        output.note(f"and {len(unreadable) - _NAMED} more; 'proxprop doctor' looks at all")


@app.command("sweeps")
def list_sweeps(as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None) -> None:
    """List all sweeps and comparisons, newest first."""
    from engine.cells import read_cells
    from engine.run import WAITING_FOR_ROOM, Run
    from engine.sweeps import read_sweeps
    from proxprop_cli.dashboard.sweep_status import Start, word_of

    root = opt.open_runs(runs_dir).root
    now = clock.now()
    sweeps, unreadable = read_sweeps(root)
    found: list[dict[str, Any]] = []
    for sweep in sweeps:
        states = read_cells(root, sweep)
        folder = Run(root / sweep.id)
        try:
            live, waits = folder.is_live(), folder.is_waiting()
            fresh, _ = Start(folder).look(now, live=live)
            statuses = [state.status for state in states]
            word, _ = word_of(statuses, folder.desired(), live=live, fresh=fresh)
        except StorageError as error:
            unreadable[sweep.id] = str(error)
            continue
        found.append(
            {
                "id": sweep.id,
                "kind": sweep.kind,
                "preset": sweep.preset,
                "status": word,
                "live": live,
                "waiting_for_room": waits or any(state.short_of_room for state in states),
                "runs": len(states),
                "ended": sum(state.ended for state in states),
                "created": sweep.created,
            }
        )
    nothing = dict.fromkeys(
        ("kind", "preset", "live", "waiting_for_room", "runs", "ended", "created")
    )
    for id, problem in unreadable.items():
        found.append({"id": id, **nothing, "status": "unreadable", "problem": problem})
    output = Output(as_json=as_json)
    output.document({"sweeps": found})
    if not found:
        output.line(f"no sweeps in {root} yet; start one with 'proxprop sweep-tau'")
        return
    rows = [
        [item["id"], "", item["status"], "", ""]
        if item["status"] == "unreadable"
        else [
            item["id"],
            item["preset"],
            WAITING_FOR_ROOM if item["waiting_for_room"] else item["status"],
            f"{item['ended']}/{item['runs']}",
            duration(clock.age(item["created"])),
        ]
        for item in found
    ]
    output.table(["id", "preset", "status", "runs", "age"], rows)
    for problem in unreadable.values():
        output.note(f"unreadable: {problem}")


@app.command("show")
def show_run(
    run: opt.RunArgument, as_json: opt.JsonOption = False, runs_dir: opt.DirOption = None
) -> None:
    """Show one run, where it stands and its whole configuration; or the table of a sweep."""
    from engine.config import dump
    from engine.run import Run
    from engine.store_reader import StoreReader
    from engine.summary import disagreement, summarize

    store = opt.open_runs(runs_dir)
    found = opt.find(store, run)
    if not isinstance(found, Run):
        from proxprop_cli.sweeping import report

        report(found, store.root, Output(as_json=as_json))
        return
    summary = summarize(found)
    config = found.config()
    with StoreReader(found.database) as reader:
        rows, checkpoints = reader.row_count(), [row.step for row in reader.checkpoints()]
        state = reader.state()
    environment = state.get("environment", {})
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
    if problem := disagreement(config, state):
        output.note(f"{found.id}: {problem}")
    if as_json:
        return
    facts = {**summary, "path": found.path, "rows": rows, "checkpoints": checkpoints}
    if config.loss == "reconstruction":  # which knows no classes
        facts = {key: value for key, value in facts.items() if not key.endswith("_accuracy")}
    facts |= {key: moment(summary[key]) for key in ("created", "updated") if key in summary}
    facts |= {f"environment.{key}": value for key, value in environment.items()}
    output.table(["key", "value"], [[key, _fact(value)] for key, value in facts.items()])
    output.line()
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

    A sweep is deleted by its full id only; of one that can not be read the runs are kept. A run or
    a sweep that is being trained is not deleted.
    """
    from engine.run import Run
    from engine.sweep_deletion import own_runs
    from engine.sweeps import unreadable_sweeps

    store = opt.open_runs(runs_dir)
    unreadable = [id for id in unreadable_sweeps(store.root) if id in runs]
    found = opt.find_all(store, [ref for ref in runs if ref not in unreadable])
    single = [one for one in found if isinstance(one, Run)]
    sweeps = [one for one in found if not isinstance(one, Run)]
    for sweep in sweeps:
        if sweep.id not in runs:
            raise ConfigError(f"to delete a sweep takes its full id, {sweep.id}")
    # before anything is gone: whose runs are whose can be known of all sweeps or of none
    named = [f"{sweep.id} with {_listed(own_runs(store, sweep))}" for sweep in sweeps]
    named += [f"{id} without its runs" for id in unreadable] + [run.id for run in single]
    output = Output(as_json=as_json)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise ConfigError("deleting asks first, and there is nobody to answer; add --yes")
        if not typer.confirm(f"Delete {', '.join(named)}?", err=True):
            output.note("nothing was deleted")
            return
    steps: list[tuple[str, Callable[[], str]]] = [
        *((sweep.id, partial(_delete_sweep, store, sweep)) for sweep in sweeps),
        *((id, partial(_delete_unreadable, store, id)) for id in unreadable),
        *((run.id, partial(_delete_run, store, run)) for run in single),
    ]
    deleted, problems = [], []
    for id, delete in steps:
        try:
            text = delete()
        except ProxPropError as error:  # the others can be deleted all the same
            problems.append(error)
        else:
            deleted.append(id)
            if text:
                output.line(text)
    output.document({"deleted": deleted})
    for problem in problems[1:]:
        output.note(str(problem))
    if problems:
        raise problems[0]


def _delete_sweep(store: Runs, sweep: Sweep) -> str:
    from engine.sweep_deletion import delete_sweep

    return f"deleted {sweep.id} and {delete_sweep(store, sweep)} runs"


def _delete_unreadable(store: Runs, id: str) -> str:
    from engine.sweep_deletion import delete_unreadable_sweep

    delete_unreadable_sweep(store, id)
    return f"deleted {id}, which could not be read; its runs are kept"


def _delete_run(store: Runs, run: Run) -> str:
    if not run.exists():
        return ""  # it has gone with its sweep
    store.delete(run)
    return f"deleted {run.id}"


def _listed(runs: Sequence[Run]) -> str:
    named = ", ".join(run.id for run in runs[:_NAMED])
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"{len(runs)} runs ({named}{more})" if runs else "0 runs"


def _row(summary: dict[str, Any]) -> list[str]:
    from engine.run import WAITING_FOR_ROOM

    if summary["status"] == "unreadable":
        return [summary["id"], "", "unreadable", *([""] * 9)]
    return [
        summary["id"],
        summary["name"] or "",
        WAITING_FOR_ROOM if summary["waiting_for_room"] else summary["status"],
        summary["preset"] or "",
        summary["method"] or "",
        number(summary["tau"]),
        f"{summary['epoch']:g}/{summary['epochs_limit']}",
        number(summary["train_loss"]),
        score(summary, "val"),
        score(summary, "test"),
        duration(summary["seconds"]),
        duration(clock.age(summary["created"] or 0.0)),
    ]


def _fact(value: object) -> str:
    return "-" if value is None else str(value)
