"""``proxprop bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output, duration, number
from proxprop_cli.progress import DataProgress


def bench(
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
    device: opt.DeviceOption = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Measure what a step of every method costs, as a ratio to BackProp.

    Without options: the paper's two networks at batch 500 with backprop, exact, cg3 and cg10. All
    methods take turns in one process; the ratio is the median over the turns.
    """
    from engine.config import MethodConfig, RunConfig, validate

    for name in method or ():
        validate(
            {"method": MethodConfig.model_construct(name=name).model_dump()}, source="--method"
        )
    from engine.benchmark import METHODS, MODELS, as_rows, step_costs
    from engine.devices import choose_device, describe

    chosen = choose_device(device or "auto")
    output = Output(as_json=as_json)
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
            )
        )
    environment = describe(RunConfig(), chosen)
    output.document({"results": as_rows(costs), "environment": environment})
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
    )
