"""``proxprop train``."""

from __future__ import annotations

import typer

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

    Ctrl-C keeps the state and stops; 'proxprop resume' goes on from it.
    """
    config = opt.build_config(
        preset,
        set_,
        method,
        {
            "method.tau": tau,
            "method.tau_theta": tau_theta,
            "epochs": epochs,
            "max_seconds": max_seconds,
            "batch_size": batch_size,
            "seed": seed,
            "device": device,
            "name": name,
        },
    )
    from proxprop_cli import sitting

    output = Output(as_json=as_json)
    sitting.prepare(config, data_dir, output)
    run = opt.open_runs(runs_dir).create(config)
    if detach:
        sitting.detach(run, data_dir, output)
        return
    code = sitting.train(
        run, data_dir, output, plain=plain or as_json, fail_on_divergence=fail_on_divergence
    )
    raise typer.Exit(code)
