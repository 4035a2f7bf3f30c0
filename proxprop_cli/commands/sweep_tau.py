"""``proxprop sweep-tau``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError
from engine.experiments import TABLE1_TAUS
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output

if TYPE_CHECKING:
    from engine.sweep_plan import Row

PAPER_TAUS = ",".join(f"{tau:g}" for tau in TABLE1_TAUS)


def sweep_tau(
    preset: opt.PresetOption = "digits-mlp",
    set_: opt.SetOption = None,
    tau: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Step sizes: 1,0.1,0.01 or 'logspace(1e-4,50,9)', or both."
        ),
    ] = PAPER_TAUS,
    methods: opt.MethodsOption = "backprop,cg1,cg3,cg5,exact",
    tau_theta: opt.TauThetaOption = None,
    over: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=LIST",
            help="A second axis: every method at each of these, such as method.tau_theta=0.1,1.",
        ),
    ] = None,
    seeds: opt.SeedsOption = 3,
    seed: opt.FirstSeedOption = None,
    epochs: opt.EpochsOption = None,
    max_seconds: opt.MaxSecondsOption = None,
    batch_size: opt.BatchSizeOption = None,
    device: opt.DeviceOption = None,
    level: Annotated[
        float | None,
        typer.Option(
            help="Training loss at or below which a step size is stable; default: halfway from the "
            "initial loss to the best cell's. At most the initial loss.",
        ),
    ] = None,
    jobs: opt.JobsOption = None,
    max_runs: opt.MaxRunsOption = None,
    engine: opt.EngineOption = "local",
    address: opt.AddressOption = None,
    gpus: opt.GpusOption = None,
    plain: opt.PlainTableOption = False,
    detach: opt.DetachOption = False,
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
    data_dir: opt.DataDirOption = None,
) -> None:
    """Train every method at every step size, and show which ones learn and which diverge.

    The paper's Table 1 is 'proxprop sweep-tau --preset cifar-mlp-table1'. The same command again
    goes on where the sweep was left: no run is trained twice. In a terminal this opens the
    dashboard; 'proxprop export SWEEP' writes the table as CSV.
    """
    from proxprop_cli.advice import Given, advise
    from proxprop_cli.engines import chosen
    from proxprop_cli.lists import parse_names, parse_numbers
    from proxprop_cli.sweeping import How, plan_and_start

    settings = {
        "method.tau_theta": tau_theta,
        "epochs": epochs,
        "max_seconds": max_seconds,
        "batch_size": batch_size,
        "device": device,
        "seed": seed,
    }
    opt.check_above_zero(level, "--level", "a training loss")
    taus = parse_numbers(tau, "--tau")
    rows = [
        row
        for method in parse_names(methods, "--methods")
        for row in _rows(preset, set_, method, settings, over, taus)
    ]
    output = Output(as_json=as_json)
    keys = opt.keys_of(set_, settings)
    advise([Given(preset, row.config, keys) for row in rows], output, step_sizes=False)
    how = How(
        store=opt.open_runs(runs_dir),
        output=output,
        data_dir=data_dir,
        jobs=jobs,
        plain=plain,
        detach=detach,
        engine=chosen(engine, address, gpus),
    )
    raise typer.Exit(plan_and_start(preset, rows, seeds, how, level=level, max_runs=max_runs))


def _rows(
    preset: str,
    assignments: list[str] | None,
    method: str,
    settings: dict[str, Any],
    over: str | None,
    taus: tuple[float, ...],
) -> list[Row]:
    from engine.advice import idle_because
    from engine.sweep_plan import Row

    if over is None:
        config = opt.build_config(preset, assignments, method, settings)
        return [Row(method, config, taus)]
    key, values = _second_axis(over)
    rows = []
    for value in values:
        config = opt.build_config(preset, assignments, method, {**settings, key: value})
        rows.append(Row(f"{method} {key.rpartition('.')[2]}={value}", config, taus))
    if all(idle_because(row.config, key) for row in rows):
        # the second axis makes no difference to this method
        return [Row(method, rows[0].config, taus)]
    return rows


def _second_axis(over: str) -> tuple[str, list[Any]]:
    from proxprop_cli.lists import split_values

    key, equals, text = over.partition("=")
    key = key.strip()
    if not equals or not key or not text.strip():
        raise ConfigError(f"--over {over!r}: expected KEY=LIST, such as method.tau_theta=0.1,1")
    if key in ("method.tau", "seed", "method.name"):
        option = {"method.tau": "--tau", "seed": "--seeds", "method.name": "--methods"}[key]
        raise ConfigError(f"--over {key}: this is what {option} is for")
    texts = split_values(text, f"--over {key}")
    return key, [opt.parse_assignments([f"{key}={value}"], "--over")[key] for value in texts]
