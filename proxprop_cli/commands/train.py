"""``proxprop train``."""

from __future__ import annotations

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output


def train(
    preset: opt.PresetOption = "digits-mlp",
    set_: opt.SetOption = None,
    method: opt.MethodOption = None,
    tau: opt.TauOption = None,
    tau_theta: opt.TauThetaOption = None,
    epochs: opt.EpochsOption = None,
    max_seconds: opt.MaxSecondsOption = None,
    batch_size: opt.BatchSizeOption = None,
    seed: opt.SeedOption = None,
    device: opt.DeviceOption = None,
    name: opt.NameOption = None,
    plain: opt.PlainOption = False,
    detach: opt.DetachOption = False,
    as_json: opt.JsonOption = False,
    fail_on_divergence: opt.FailOption = False,
    runs_dir: opt.DirOption = None,
    data_dir: opt.DataDirOption = None,
) -> None:
    """Train a network and keep the run.

    In a terminal this opens the dashboard; leaving it may let the training go on. With --plain,
    and where there is no terminal, Ctrl-C keeps the state and stops; 'proxprop resume' goes on.

    By 'torchrun --nproc-per-node 4 -m proxprop_cli train …' four processes share every mini-batch.

    Metrics of every step are kept up to step 100,000 (log.full_steps), from there on of every 10th,
    beyond a million steps of every 100th, and so on.
    """
    values = {
        "method.tau": tau,
        "method.tau_theta": tau_theta,
        "epochs": epochs,
        "max_seconds": max_seconds,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "name": name,
    }
    config = opt.build_config(preset, set_, method, values)
    if config.name == "latest":
        raise ConfigError("name: 'latest' stands for the newest run; expected another name")
    from proxprop_cli import sitting
    from proxprop_cli.advice import Given, advise
    from proxprop_cli.job import job

    output = Output(as_json=as_json)
    with job() as team:
        sitting.check_started(team, detach=detach)
        if team.rank == 0:
            advise([Given(preset, config, opt.keys_of(set_, values))], output)
        sitting.prepare(config, data_dir, output, team)
        if team.rank:
            sitting.follow(team, data_dir)
            return
        run = opt.open_runs(runs_dir).create(config)
        if team.size > 1:
            raise typer.Exit(
                sitting.train(
                    run, data_dir, output, fail_on_divergence=fail_on_divergence, team=team
                )
            )
    if detach:
        sitting.detach(run, data_dir, output)
        return
    if not plain and output.draws():
        from proxprop_cli.watching import train_and_watch

        code = train_and_watch(run, data_dir, output, fail_on_divergence=fail_on_divergence)
        raise typer.Exit(code)
    code = sitting.train(run, data_dir, output, fail_on_divergence=fail_on_divergence)
    raise typer.Exit(code)
