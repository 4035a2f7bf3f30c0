"""``proxprop resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.run import Run
    from engine.runs import Runs


def resume(
    run: opt.RunArgument,
    epochs: Annotated[
        int | None, typer.Option(help="New number of epochs; extends a finished run.")
    ] = None,
    max_seconds: opt.MaxSecondsOption = None,
    plain: opt.PlainOption = False,
    detach: opt.DetachOption = False,
    as_json: opt.JsonOption = False,
    fail_on_divergence: opt.FailOption = False,
    allow_inexact: Annotated[
        bool,
        typer.Option(
            "--allow-inexact",
            help="Go on although versions, device, threads, processes or data have changed: other"
            " bits.",
        ),
    ] = False,
    jobs: opt.JobsOption = None,
    engine: opt.EngineOption = "local",
    address: opt.AddressOption = None,
    gpus: opt.GpusOption = None,
    as_told: Annotated[bool, typer.Option("--as-told", hidden=True)] = False,
    runs_dir: opt.DirOption = None,
    data_dir: opt.DataDirOption = None,
) -> None:
    """Let a run or a sweep go on: a paused one, or one that was stopped or interrupted."""
    from engine.control import Desired
    from engine.run import Run
    from proxprop_cli import sitting
    from proxprop_cli.engines import chosen
    from proxprop_cli.job import job

    where = chosen(engine, address, gpus)
    output = Output(as_json=as_json)
    with job() as team:
        sitting.check_started(team, detach=detach)
        if team.rank:
            sitting.follow(team, data_dir)
            return
        store = opt.open_runs(runs_dir)
        found = opt.find(store, run)
        if not isinstance(found, Run):
            if team.size > 1:
                raise ConfigError(
                    "the runs of a sweep are trained by one process each, without torchrun"
                )
            if epochs is not None or max_seconds is not None:
                raise ConfigError(
                    "a sweep's limits are part of it; start another with other limits"
                )
            if allow_inexact or fail_on_divergence:
                option = "--allow-inexact" if allow_inexact else "--fail-on-divergence"
                raise ConfigError(f"{option} is for runs; {found.id} is a sweep: leave it out")
            from proxprop_cli.sweeping import How, resume_sweep

            how = How(store, output, data_dir, jobs=jobs, plain=plain, detach=detach, engine=where)
            raise typer.Exit(resume_sweep(found, how, as_told=as_told))
        if jobs is not None or where.on_ray:
            option = "--jobs" if jobs is not None else "--engine ray"
            raise ConfigError(f"{option} is for sweeps; {run!r} is a run")
        if epochs is not None or max_seconds is not None:
            _refuse_cell(store, found)
        if found.is_live():
            if epochs is not None or max_seconds is not None:
                raise ConfigError(f"run {found.id} is being trained; stop it to change its limits")
            was = found.status()
            found.set_desired(Desired.RUNNING)
            output.line(f"run {found.id} {'goes on' if was == 'paused' else 'is running already'}")
            _report(found, output)
            return
        status = found.status()
        if status == "diverged":
            raise ConfigError(f"run {found.id} diverged; start another with a smaller step size")
        limits = _new_limits(found, epochs=epochs, max_seconds=max_seconds)
        if status == "finished" and _has_reached(found, limits or found.config()):
            output.line(f"run {found.id} is finished; --epochs extends it")
            _report(found, output)
            return
        if not as_told:
            found.set_desired(Desired.RUNNING)
        extra = ["--allow-inexact"] if allow_inexact else []
        extra += [] if epochs is None else ["--epochs", str(epochs)]
        extra += [] if max_seconds is None else ["--max-seconds", str(max_seconds)]
        if detach:
            sitting.detach(found, data_dir, output, *extra)
            return
        if not plain and team.size == 1 and output.draws():
            from proxprop_cli.watching import train_and_watch

            code = train_and_watch(
                found, data_dir, output, *extra, fail_on_divergence=fail_on_divergence
            )
            raise typer.Exit(code)
        code = sitting.train(
            found,
            data_dir,
            output,
            fail_on_divergence=fail_on_divergence,
            allow_inexact=allow_inexact,
            limits=limits,
            team=team,
        )
        raise typer.Exit(code)


def _new_limits(run: Run, **limits: int | float | None) -> RunConfig | None:
    """The run's configuration with other limits, if any were given."""
    from engine.config import validate

    given: dict[str, Any] = {key: value for key, value in limits.items() if value is not None}
    if not given:
        return None
    config = run.config()
    extended = validate({**config.model_dump(mode="json"), **given}, source="resume")
    if extended.epochs < config.epochs:
        raise ConfigError(
            f"epochs: run {run.id} has {config.epochs} already; give more, found {extended.epochs}"
        )
    return extended


def _refuse_cell(store: Runs, run: Run) -> None:
    """A sweep says that its runs differ by step size and seed alone; this must stay true."""
    from engine.sweeps import all_sweeps

    for sweep in all_sweeps(store.root):
        if any(cell.run == run.id for cell in sweep.cells):
            raise ConfigError(
                f"run {run.id} is a cell of {sweep.id}; its limits are part of that {sweep.kind}:"
                " start another one, or a run of its own, with other limits"
            )


def _has_reached(run: Run, config: RunConfig) -> bool:
    from engine.summary import summarize

    summary = summarize(run)
    limit = config.max_seconds
    out_of_time = limit is not None and (summary["seconds"] or 0.0) >= limit
    return out_of_time or summary["epoch"] >= config.epochs


def _report(run: Run, output: Output) -> None:
    from engine.summary import summarize

    summary = summarize(run)
    output.document({"run": summary.pop("id"), "epochs": summary.pop("epoch"), **summary})
