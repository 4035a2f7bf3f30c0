"""``proxprop watch``."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import UTF8_REMEDY, Output, encoding


def watch(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Ids, unique beginnings of them, or names; default: the latest.",
            autocompletion=opt.complete_runs,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Begin with the list of runs.")] = False,
    runs_dir: opt.DirOption = None,
    data_dir: opt.DataDirOption = None,
) -> None:
    """Open the dashboard on runs, live or finished; several are drawn over one another.

    The id of a sweep opens its stability grid, that of a comparison the curves of its runs.
    """
    store = opt.open_runs(runs_dir)
    output = Output()
    if not output.terminal():
        raise ConfigError("watch: expected a terminal; 'proxprop runs show' prints a run")
    if not output.has_keyboard():
        raise ConfigError(
            "watch: expected a terminal as standard input, and its keys, found something else; "
            "start it by itself, in the foreground"
        )
    if not output.draws():
        raise ConfigError(f"watch: expected a UTF-8 terminal, found {encoding()}; {UTF8_REMEDY}")
    from engine.run import Run
    from proxprop_cli.watching import open_dashboard

    found = [] if list_ else opt.find_all(store, runs or ["latest"])
    for one in found:
        if not isinstance(one, Run):
            if len(found) > 1:
                raise ConfigError(f"watch: expected runs or one sweep, found more with {one.id}")
            raise typer.Exit(open_dashboard(store, [], data_dir, sweep=one.id))
    raise typer.Exit(open_dashboard(store, [run.id for run in found], data_dir))
