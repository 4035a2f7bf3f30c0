"""``proxprop resume``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.exit_codes import Exit
from proxprop_cli.output import Output

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.parallel.team import Team
    from engine.run import Run
    from engine.runs import Runs
    from engine.sweeps import Sweep


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
    from engine.run import Run
    from proxprop_cli import sitting
    from proxprop_cli.engines import chosen
    from proxprop_cli.job import job

    where = chosen(engine, address, gpus)
    output = Output(as_json=as_json)
    limits = {"epochs": epochs, "max_seconds": max_seconds}
    asked = _Asked(
        limits={key: value for key, value in limits.items() if value is not None},
        plain=plain,
        detach=detach,
        fail_on_divergence=fail_on_divergence,
        allow_inexact=allow_inexact,
        as_told=as_told,
        data_dir=data_dir,
    )
    with job() as team:
        sitting.check_started(team, detach=detach)
        if team.rank:
            sitting.follow(team, data_dir)
            return
        store = opt.open_runs(runs_dir)
        found = opt.find(store, run)
        if isinstance(found, Run):
            if jobs is not None or where.on_ray:
                option = "--jobs" if jobs is not None else "--engine ray"
                raise ConfigError(f"{option} is for sweeps; {run!r} is a run")
            raise typer.Exit(_resume_run(found, store, asked, output, team))
        _check_sweep(found, asked, team)
        from proxprop_cli.sweeping import How, resume_sweep

        where = replace(where, allow_inexact=allow_inexact)
        how = How(store, output, data_dir, jobs=jobs, plain=plain, detach=detach, engine=where)
        raise typer.Exit(resume_sweep(found, how, as_told=as_told))


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of the command.

    :ivar limits: new ones, by key of the configuration.
    :ivar as_told: leave what a person wants of it as it is.
    """

    limits: Mapping[str, int | float]
    plain: bool
    detach: bool
    fail_on_divergence: bool
    allow_inexact: bool
    as_told: bool
    data_dir: Path | None


def _check_sweep(sweep: Sweep, asked: _Asked, team: Team) -> None:
    """See that nothing is asked of a sweep that only a run can do.

    :raises ConfigError: something is.
    """
    if team.size > 1:
        raise ConfigError("the runs of a sweep are trained by one process each, without torchrun")
    if asked.limits:
        raise ConfigError("a sweep's limits are part of it; start another with other limits")
    if asked.fail_on_divergence:
        raise ConfigError(f"--fail-on-divergence is for runs; {sweep.id} is a sweep: leave it out")


def _resume_run(run: Run, store: Runs, asked: _Asked, output: Output, team: Team) -> int:
    """Let a paused run go on, or train what is left of one; gives the exit code."""
    from engine.control import Desired
    from proxprop_cli import sitting

    if asked.limits:
        _refuse_cell(store, run)
    if run.is_live():
        if asked.limits:
            raise ConfigError(f"run {run.id} is being trained; stop it to change its limits")
        was = run.status()
        run.set_desired(Desired.RUNNING)
        output.line(f"run {run.id} {'goes on' if was == 'paused' else 'is running already'}")
        _report(run, output)
        return Exit.OK
    status = run.status()
    if status == "diverged":
        raise ConfigError(f"run {run.id} diverged; start another with a smaller step size")
    limits = _new_limits(run, asked.limits)
    if limits is not None:
        _tell_of_schedule(run, limits, output)
    if status == "finished" and _has_reached(run, limits or run.config()):
        output.line(f"run {run.id} is finished; --epochs extends it")
        _report(run, output)
        return Exit.OK
    if not asked.as_told:
        run.set_desired(Desired.RUNNING)
    extra = ["--allow-inexact"] if asked.allow_inexact else []
    for key, value in asked.limits.items():
        extra += [f"--{key.replace('_', '-')}", str(value)]
    if asked.detach:
        sitting.detach(run, asked.data_dir, output, *extra)
        return Exit.OK
    if not asked.plain and team.size == 1 and output.draws():
        from proxprop_cli.watching import train_and_watch

        return train_and_watch(
            run, asked.data_dir, output, *extra, fail_on_divergence=asked.fail_on_divergence
        )
    return sitting.train(
        run,
        asked.data_dir,
        output,
        fail_on_divergence=asked.fail_on_divergence,
        allow_inexact=asked.allow_inexact,
        limits=limits,
        team=team,
    )


def _new_limits(run: Run, limits: Mapping[str, int | float]) -> RunConfig | None:
    """The run's configuration with other limits, if any were given."""
    from engine.config import validate

    if not limits:
        return None
    config = run.config()
    extended = validate({**config.model_dump(mode="json"), **limits}, source="resume")
    if extended.epochs < config.epochs:
        raise ConfigError(
            f"epochs: run {run.id} has {config.epochs} already; give more, found {extended.epochs}"
        )
    return extended


def _tell_of_schedule(run: Run, extended: RunConfig, output: Output) -> None:
    """Say that the step size jumps, where it depends on how many epochs there are."""
    from engine.optimizers import step_size
    from engine.summary import summarize

    config, epoch = run.config(), float(summarize(run)["epoch"] or 0.0)
    before, after = (
        step_size(one.schedule, one.method.tau, epoch, one.epochs) for one in (config, extended)
    )
    if epoch and before != after:
        output.note(
            f"schedule {extended.schedule.name} is spread over all epochs: with {extended.epochs} "
            f"instead of {config.epochs}, tau goes on with {after:.3g} instead of {before:.3g}"
        )


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
