"""``proxprop export``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output, printable


def export(
    runs: opt.RunsArgument,
    output_path: Annotated[
        str, typer.Option("--output", "-o", metavar="PATH", help="File to write; - prints it.")
    ] = "-",
    format_: Annotated[str, typer.Option("--format", metavar="csv", help="Kind of file.")] = "csv",
    wide: Annotated[
        bool, typer.Option("--wide", help="One row per step instead of one per step and key.")
    ] = False,
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
) -> None:
    """Write every metric that was logged, the solvers' figures among them."""
    from engine.export import ExportSource, export_csv
    from engine.store_reader import StoreReader

    if format_ != "csv":
        raise ConfigError(f"--format: expected 'csv', found {format_!r}")
    if as_json and output_path == "-":
        raise ConfigError("--json prints a document of its own; give a file with --output")
    store = opt.open_runs(runs_dir)
    found = [store.find(run) for run in runs]
    output = Output(as_json=as_json)

    def label(name: str | None) -> str | None:
        # a file gets the name as it is, a terminal must not
        shown = output_path == "-" and sys.stdout.isatty()
        return printable(name) if shown and name is not None else name

    with ExitStack() as stack:
        sources = [
            ExportSource(run.id, stack.enter_context(StoreReader(run.database)), label(run.name))
            for run in found
        ]
        target = sys.stdout if output_path == "-" else Path(output_path)
        rows = export_csv(sources, target, wide=wide)
    if output_path != "-":
        output.line(f"wrote {rows:,} rows to {output_path}")
    output.document({"path": output_path, "rows": rows, "runs": [run.id for run in found]})
