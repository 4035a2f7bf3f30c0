"""Puts the command line together."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from engine.errors import ConfigError
from engine.parallel.launch import launched
from proxprop_cli import __version__
from proxprop_cli.command_class import Command, add_help
from proxprop_cli.commands import (
    bench,
    compare,
    control,
    diagnose,
    doctor,
    export,
    plot,
    presets,
    reproduce,
    resume,
    runs,
    sweep_tau,
    train,
    watch,
)

app = typer.Typer(
    name="proxprop",
    help="Train neural networks by Proximal Backpropagation, and see what implicit steps do.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("train", cls=Command)(train.train)
app.command("sweep-tau", cls=Command)(sweep_tau.sweep_tau)
app.command("compare", cls=Command)(compare.compare)
app.command("reproduce", cls=Command)(reproduce.reproduce)
app.command("watch", cls=Command)(watch.watch)
app.command("resume", cls=Command)(resume.resume)
app.command("pause", cls=Command)(control.pause)
app.command("stop", cls=Command)(control.stop)
app.add_typer(runs.app, name="runs")
app.add_typer(presets.app, name="presets")
app.command("export", cls=Command)(export.export)
app.command("plot", cls=Command)(plot.plot)
app.command("diagnose", cls=Command)(diagnose.diagnose)
app.command("doctor", cls=Command)(doctor.doctor)
app.command("bench", cls=Command)(bench.bench)
if sys.flags.optimize > 1:
    add_help(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"proxprop {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")
    ] = False,
) -> None:
    """Train neural networks by Proximal Backpropagation, and see what implicit steps do.

    Begin with 'proxprop train', which trains on a data set that needs no download.
    """
    if launched().size > 1 and context.invoked_subcommand not in ("train", "resume"):
        raise ConfigError(
            f"'{context.invoked_subcommand}' is for one process: leave torchrun out; "
            "'train' and 'resume' can be started by it"
        )
