"""``proxprop export``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError, StorageError
from proxprop_cli import streams
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output, printable
from proxprop_cli.targets import check_target, refuse_run_folder

if TYPE_CHECKING:
    from engine.export import TextSink
    from engine.run import Run
    from engine.runs import Runs
    from engine.sweeps import Sweep

_UNITS = {"csv": "rows", "parquet": "rows", "tensorboard": "values"}
_ENDINGS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


def _parse_target(text: str) -> str:
    """A path, or ``-`` for standard output."""
    return text if text == "-" else str(opt.parse_path(text))


def export(
    refs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...|SWEEP",
            help="Ids, unique beginnings of them, names, or 'latest'; or a sweep.",
            autocompletion=opt.complete_runs,
        ),
    ],
    output_path: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            parser=_parse_target,
            metavar="PATH",
            help="File to write, or folder for TensorBoard; - prints CSV.",
        ),
    ] = "-",
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="csv|parquet|tensorboard",
            help="What to write; default: what the name of the file ends in, else csv.",
        ),
    ] = None,
    wide: Annotated[
        bool,
        typer.Option(
            "--wide",
            help="One row per step instead of one per step and key; the grid of a sweep; "
            "the means of a comparison.",
        ),
    ] = False,
    metrics: Annotated[
        bool,
        typer.Option("--metrics", help="Of a sweep: every metric of its runs, not its table."),
    ] = False,
    force: opt.ForceOption = False,
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
) -> None:
    """Write every metric that was logged, the solvers' figures among them; or a sweep's table."""
    from engine.sweeps import Sweep

    format_ = _format_of(output_path, format_)
    _check_options(format_, output_path, wide, as_json)
    if output_path != "-" and format_ != "tensorboard":
        check_target(Path(output_path), force=force, streams=True)
    elif output_path != "-":
        refuse_run_folder(Path(output_path))
    store = opt.open_runs(runs_dir)
    chosen = opt.find_all(store, refs)
    sweep = next((found for found in chosen if isinstance(found, Sweep)), None)
    if sweep is None or metrics or format_ != "csv":
        runs = _runs(store, chosen)
        rows = _export_metrics(runs, format_, output_path, wide)
        document = {"path": output_path, "rows": rows, "runs": [run.id for run in runs]}
    elif len(chosen) == 1:
        document = _export_table(store, sweep, output_path, wide)
    else:
        raise ConfigError(
            f"{sweep.id}: the table of a sweep is exported alone; --metrics exports the metrics"
            " of all these runs"
        )
    output = Output(as_json=as_json)
    if output_path != "-":
        output.line(f"wrote {document['rows']:,} {_UNITS[format_]} to {output_path}")
    output.document(document)


def _format_of(output_path: str, wanted: str | None) -> str:
    """What to write.

    :raises ConfigError: one thing was asked for in a file that is named as another.
    """
    named = _ENDINGS.get(Path(output_path).suffix.lower())
    if wanted in _UNITS and named not in (None, wanted):
        raise ConfigError(
            f"--format {wanted}: expected another name than {output_path}, which is that of a "
            f"{named} file; leave --format out to write that"
        )
    return wanted or named or "csv"


def _check_options(format_: str, output_path: str, wide: bool, as_json: bool) -> None:
    if format_ not in _UNITS:
        raise ConfigError(f"--format: expected csv, parquet or tensorboard, found {format_!r}")
    if output_path == "-" and format_ != "csv":
        place = "folder" if format_ == "tensorboard" else "file"
        raise ConfigError(f"--format {format_} can not be printed; give a {place} with --output")
    if output_path == "-" and as_json:
        raise ConfigError("--json prints a document of its own; give a file with --output")
    if wide and format_ == "tensorboard":
        raise ConfigError("--wide: TensorBoard has one form only; leave the option out")


def _runs(store: Runs, chosen: Sequence[Run | Sweep]) -> list[Run]:
    """Runs, and those of the sweeps that were made already, each once."""
    from engine.run import Run

    found: dict[str, Run] = {}
    for one in chosen:
        runs = [one] if isinstance(one, Run) else _made(store, one)
        if not runs:
            raise ConfigError(f"{one.id}: none of its runs was made yet")
        for run in runs:
            found.setdefault(run.id, run)
    return list(found.values())


def _made(store: Runs, sweep: Sweep) -> list[Run]:
    from engine.run import Run

    runs = [Run(store.root / cell.run) for cell in sweep.cells if cell.run is not None]
    return [run for run in runs if run.exists()]


def _export_metrics(runs: Sequence[Run], format_: str, output_path: str, wide: bool) -> int:
    from engine.export import ClosedStore, ExportSource, export_csv, split_readable

    # damaged ones are better known before anything is printed
    runs, problems = split_readable(runs)
    if not runs:
        raise StorageError(problems[0])
    for problem in problems:
        Output().note(problem)
    sources = [ExportSource(run.id, ClosedStore(run.database), run.name) for run in runs]
    if format_ == "parquet":
        from engine.export_parquet import export_parquet

        return export_parquet(sources, Path(output_path), wide=wide)
    if format_ == "tensorboard":
        from engine.export_tensorboard import export_tensorboard

        return export_tensorboard(sources, Path(output_path))
    return export_csv(sources, _target(output_path), wide=wide)


def _export_table(store: Runs, sweep: Sweep, output_path: str, wide: bool) -> dict[str, Any]:
    from engine.cells import read_cells
    from engine.comparison import compare
    from engine.sweep_export import export_means, export_sweep
    from proxprop_cli.sweep_tables import left_out

    states = read_cells(store.root, sweep)
    for line in left_out(sweep, states):
        Output().note(line)
    if wide and sweep.kind == "comparison":
        found = compare(store.root, sweep, loss=sweep.level)
        rows = export_means(found, _target(output_path))
    else:
        rows = export_sweep(sweep, states, _target(output_path), grid=wide)
    runs = [cell.run for cell, state in zip(sweep.cells, states, strict=True) if state.made]
    return {"path": output_path, "rows": rows, "sweep": sweep.id, "runs": runs}


def _target(output_path: str) -> Path | TextSink:
    if output_path != "-":
        return Path(output_path)
    return _StandardOutput()


class _StandardOutput:
    """Standard output. No name of a person must come to a terminal as a command; a file gets it as
    it is."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Print a text.

        :raises BrokenPipeError: nobody takes it.
        """
        if self._is_terminal:
            text = "\n".join(map(printable, text.split("\n")))
        sys.stdout.write(text)
        if streams.output_failure() is not None:
            raise BrokenPipeError  # it would be a long time until all of it was printed in vain
