"""``proxprop bench``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output, duration, number
from proxprop_cli.progress import DataProgress

_OF_STEPS = ("model", "batch_size", "rounds", "memory", "precision", "cuda_graph")
_OF_RACE = ("preset", "set_", "max_epochs", "patience", "inputs", "data_dir")


def bench(
    context: typer.Context,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="mlp|convnet", help="Repeatable.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help="Beside backprop; repeatable."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Turns; each makes a step of all.")] = 15,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too.")] = True,
    precision: Annotated[
        str, typer.Option(metavar="float32|tf32|bf16", help="Of the products; tf32: CUDA only.")
    ] = "float32",
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="Record the steps and replay them; CUDA only.")
    ] = False,
    time_to_loss: Annotated[
        float | None,
        typer.Option(metavar="LOSS", help="Race to this training loss instead; takes hours."),
    ] = None,
    preset: opt.PresetOption = "cifar-mlp",
    set_: opt.SetOption = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(metavar="unit|standardize", help="Race: on these inputs; default: both."),
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Race: epochs at most; default: the preset's.")
    ] = None,
    patience: Annotated[
        float,
        typer.Option(min=1.0, help="Race: out after so many times the winner's seconds."),
    ] = 6.0,
    data_dir: opt.DataDirOption = None,
    device: opt.DeviceOption = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Measure what a step of every method costs, as a ratio to BackProp.

    Without options: the paper's two networks at batch 500 with backprop, exact, cg3 and cg10. All
    methods take turns in one process; the ratio is the median over the turns.

    With --time-to-loss: seconds of training until a preset's network reaches a full-batch training
    loss, evaluation left out. BackProp under Nesterov, Adam and Muon and ProxProp, exact and cg3,
    each with three step sizes, take turns by seconds trained, on inputs in [0, 1] and on
    standardised ones.
    """
    _refuse_strangers(context, _OF_STEPS if time_to_loss is not None else _OF_RACE)
    opt.check_above_zero(time_to_loss, "--time-to-loss", "a training loss")
    output = Output(as_json=as_json)
    if time_to_loss is None:
        mode = {"precision": precision, "cuda_graph": cuda_graph}
        _steps(output, model, method, batch_size, rounds, memory, device, mode)
    else:
        from engine.config import RunConfig

        def build(name: str, settings: Mapping[str, Any]) -> RunConfig:
            values = {"device": device, **settings}
            return opt.build_config(preset, set_, name, values)

        _race(output, build, time_to_loss, method, inputs, max_epochs, patience, data_dir)


def _refuse_strangers(context: typer.Context, names: tuple[str, ...]) -> None:
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if parameter.name in names and given is not None and given.name == "COMMANDLINE":
            other = "without" if names is _OF_STEPS else "only with"
            raise ConfigError(f"{parameter.opts[0]} is for a bench {other} --time-to-loss")


def _steps(
    output: Output,
    model: list[str] | None,
    method: list[str] | None,
    batch_size: int,
    rounds: int,
    memory: bool,
    device: str | None,
    mode: Mapping[str, Any],
) -> None:
    from engine.config import MethodConfig, validate

    for name in method or ():
        validate(
            {"method": MethodConfig.model_construct(name=name).model_dump()}, source="--method"
        )
    config = validate(mode, source="proxprop bench")
    from engine.benchmark import METHODS, MODELS, Mode, as_rows, step_costs
    from engine.devices import check_settings, choose_device, describe

    chosen = choose_device(device or "auto")
    check_settings(config, chosen)
    with DataProgress(output) as progress:
        costs = list(
            step_costs(
                model or tuple(MODELS),
                method or METHODS,
                device=chosen,
                batch_size=batch_size,
                rounds=rounds,
                memory=memory,
                progress=progress,
                mode=Mode(config.precision, config.cuda_graph),
            )
        )
    environment = describe(config, chosen)
    output.document({"results": as_rows(costs), "environment": {**environment, **mode}})
    output.table(
        [
            *("model", "method", "step", "ratio", "quartiles", "predicted"),
            *("memory", "memory ratio"),
        ],
        [
            [
                cost.model,
                cost.method,
                duration(cost.seconds_per_step),
                f"{cost.ratio_to_backprop:.2f}",
                f"{cost.ratio_low:.2f}-{cost.ratio_high:.2f}",
                f"{cost.predicted_ratio:.2f}",
                "-" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:,.0f} MiB",
                number(cost.peak_ratio, 3),
            ]
            for cost in costs
        ],
    )
    output.line(
        f"batch {batch_size}, {rounds} turns, {environment['device']}, "
        f"{environment['threads']} threads, torch {environment['torch']}"
        f"{'' if config.precision == 'float32' else f', {config.precision}'}"
        f"{', CUDA graph' if config.cuda_graph else ''}"
    )


def _race(
    output: Output,
    build: Any,
    target: float,
    methods: list[str] | None,
    inputs: list[str] | None,
    max_epochs: int | None,
    patience: float,
    data_dir: Path | None,
) -> None:
    from engine.time_to_loss import FAMILIES, INPUTS

    config = build("exact", {})
    known = list(dict.fromkeys(family.method for family in FAMILIES))
    for option, given, allowed in (("method", methods, known), ("inputs", inputs, INPUTS)):
        for value in given or ():
            if value not in allowed:
                expected = ", ".join(allowed)
                raise ConfigError(f"--{option}: expected one of {expected}, found {value!r}")
    from dataclasses import asdict

    import torch

    from engine.devices import choose_device, describe
    from engine.time_to_loss import race
    from proxprop_cli.sitting import default_data_dir

    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with DataProgress(output) as progress:
        standings = race(
            build,
            target=target,
            inputs=inputs or INPUTS,
            families=[family for family in FAMILIES if family.method in (methods or known)],
            max_epochs=max_epochs or config.epochs,
            patience=patience,
            data_dir=data_dir or default_data_dir(),
            device=device,
            progress=progress,
        )
    environment = describe(config, device)
    output.document(
        {
            "preset": config.preset,
            "target": target,
            "results": [asdict(standing) for standing in standings],
            "environment": environment,
        }
    )
    best = {
        kind: min((s.seconds for s in standings if s.inputs == kind and s.reached), default=None)
        for kind in {standing.inputs for standing in standings}
    }
    output.table(
        ["inputs", "method", "tau", "epochs", "time", "times the best", "loss", "grid"],
        [
            [
                standing.inputs,
                standing.family,
                number(standing.tau),
                number(standing.epochs),
                f"{'' if standing.reached else '> '}{duration(standing.seconds)}",
                _times(standing.seconds, best[standing.inputs], standing.reached),
                number(standing.loss),
                " ".join(standing.outcomes),
            ]
            for standing in standings
        ],
    )
    output.line(
        f"training loss {target:g}, {config.preset}, batch {config.batch_size}, "
        f"seed {environment['seed']}, {environment['device']}, "
        f"{environment['threads']} threads, torch {environment['torch']}"
    )


def _times(seconds: float, best: float | None, reached: bool) -> str:
    if not best:
        return "-"
    return f"{'' if reached else '> '}{seconds / best:.2f}"
