"""``proxprop compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.sweep_plan import Row
    from proxprop_cli.advice import Given

_SHORT = {"tau": "method.tau", "tau_theta": "method.tau_theta", "method": "method.name"}


def compare(
    preset: Annotated[
        list[str] | None,
        typer.Option(
            "--preset",
            "-p",
            metavar="NAME|FILE.yaml",
            help="What to train; repeatable, each with every method.  [default: digits-mlp]",
            autocompletion=opt.complete_presets,
        ),
    ] = None,
    set_: opt.SetOption = None,
    methods: opt.MethodsOption = "backprop,exact,cg3",
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'LABEL: KEY=VALUE …'",
            help="A further contender with settings of its own, such as "
            "'adam: method=backprop optimizer.name=adam tau=1e-3'; repeatable.",
        ),
    ] = None,
    tau_theta: opt.TauThetaOption = None,
    seeds: opt.SeedsOption = 3,
    seed: opt.FirstSeedOption = None,
    epochs: opt.EpochsOption = None,
    max_seconds: opt.MaxSecondsOption = None,
    batch_size: opt.BatchSizeOption = None,
    device: opt.DeviceOption = None,
    at_loss: Annotated[
        float | None,
        typer.Option(
            help="Training loss at which to compare times and accuracies; default: the least that "
            "all have reached.",
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
    """Train methods or variants on one problem, with seeds, and show what they come to.

    Each has the step size of the preset for its method. The tables give means with 95 % intervals:
    at the end, and at a training loss that all have reached. Runs are trained one at a time, so
    that their times can be compared; --max-seconds gives all the same time.
    """
    from proxprop_cli.advice import advise
    from proxprop_cli.engines import chosen
    from proxprop_cli.sweeping import How, plan_and_start

    settings = {
        "method.tau_theta": tau_theta,
        "epochs": epochs,
        "max_seconds": max_seconds,
        "batch_size": batch_size,
        "device": device,
        "seed": seed,
    }
    opt.check_above_zero(at_loss, "--at-loss", "a training loss")
    presets = preset or ["digits-mlp"]
    rows, given = _rows(presets, set_, methods, variant or [], settings)
    output = Output(as_json=as_json)
    advise(given, output)
    how = How(
        store=opt.open_runs(runs_dir),
        output=output,
        data_dir=data_dir,
        jobs=jobs,
        plain=plain,
        detach=detach,
        engine=chosen(engine, address, gpus),
    )
    title = ", ".join(presets)
    code = plan_and_start(
        title, rows, seeds, how, kind="comparison", level=at_loss, max_runs=max_runs
    )
    raise typer.Exit(code)


def _rows(
    presets: list[str],
    assignments: list[str] | None,
    methods: str,
    variants: list[str],
    settings: dict[str, Any],
) -> tuple[list[Row], list[Given]]:
    from engine.sweep_plan import Row
    from proxprop_cli.advice import Given
    from proxprop_cli.lists import parse_names

    names = parse_names(methods, "--methods") if methods.strip() else ()
    contenders: list[tuple[str, str | None, dict[str, Any]]] = []
    contenders += [(name, name, settings) for name in names]
    contenders += [_variant(text, settings) for text in variants]
    rows: list[Row] = []
    given: list[Given] = []
    for preset in presets:
        for label, method, values in contenders:
            config: RunConfig = opt.build_config(preset, assignments, method, values)
            shown = label if len(presets) == 1 else f"{preset} {label}"
            rows.append(Row(shown, config, (config.method.tau,)))
            given.append(Given(preset, config, opt.keys_of(assignments, values)))
    if not rows:
        raise ConfigError("--methods: expected at least one method or --variant")
    return rows, given


def _variant(text: str, settings: dict[str, Any]) -> tuple[str, str | None, dict[str, Any]]:
    """``label: key=value key=value`` as label, method and settings."""
    from proxprop_cli.lists import split_assignments

    label, colon, rest = text.partition(":")
    label = label.strip()
    if not colon or not label or not rest.split():
        raise ConfigError(
            f"--variant {text!r}: expected 'LABEL: KEY=VALUE …', such as 'slow: tau=0.01'"
        )
    option = f"--variant {label}:"
    given: dict[str, Any] = {}
    for assignment in split_assignments(rest):
        for key, value in opt.parse_assignments([assignment], option).items():
            long = _SHORT.get(key, key)
            if long == "seed":
                raise ConfigError(f"{option} seed: this is what --seed and --seeds are for")
            if long in given:
                raise ConfigError(f"{option} {key}: expected once, found it again; leave one out")
            given[long] = value
    method = given.pop("method.name", None)
    if method is not None and not isinstance(method, str):
        raise ConfigError(f"{option} method: expected a name, found {method!r}")
    return label, method, {**settings, **given}
