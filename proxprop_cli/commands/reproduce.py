"""``proxprop reproduce``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError
from proxprop_cli import sitting
from proxprop_cli.commands import options as opt
from proxprop_cli.exit_codes import Exit
from proxprop_cli.output import Output, duration

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.experiments import Experiment
    from engine.sweep_plan import Row
    from engine.sweeps import Sweep
    from proxprop_cli.sweeping import How


def reproduce(
    experiment: Annotated[
        str, typer.Argument(metavar="fig2|table1|fig3|usps", help="What to reproduce of the paper.")
    ],
    set_: opt.SetOption = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Only these rows; default: all."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Shorten it: this part of the experiment's 50 epochs; the title says so.",
        ),
    ] = None,
    epochs: opt.EpochsOption = None,
    train_samples: Annotated[
        int | None, typer.Option(min=1, help="Only so many training samples; the title says so.")
    ] = None,
    standardize: Annotated[
        bool, typer.Option("--standardize", help="Standardised inputs instead of raw ones.")
    ] = False,
    seeds: opt.SeedsOption = 1,
    seed: opt.FirstSeedOption = None,
    device: opt.DeviceOption = None,
    jobs: opt.JobsOption = None,
    report_dir: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=opt.parse_path,
            metavar="FOLDER",
            help="Where to write; default: proxprop-EXPERIMENT.",
        ),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train nothing: report what there is.")
    ] = False,
    force: opt.ForceOption = False,
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
    data_dir: opt.DataDirOption = None,
) -> None:
    """Run an experiment of the paper, and show ours beside the published figures.

    Trains what is missing, one line a run, and writes a Markdown report, CSV and figures. All of
    it takes hours to days on a CPU, usps minutes; the estimate is shown first, and the same command
    goes on where it was stopped. Other data: --set data.name=imagefolder --set data.root=FOLDER.
    """
    from engine.experiments import EXPERIMENTS
    from engine.sweep_plan import plan_sweep
    from proxprop_cli.advice import Given, advise
    from proxprop_cli.sweeping import How

    found = EXPERIMENTS.get(experiment)
    if found is None:
        raise ConfigError(f"expected {', '.join(EXPERIMENTS)}, found {experiment!r}")
    opt.check_above_zero(scale, "--scale", "a number")
    if scale is not None:
        if epochs is not None:
            raise ConfigError("--scale and --epochs both say how long; give one of them")
        epochs = max(1, round(scale * found.epochs))
    settings = {
        "epochs": epochs,
        "data.train_samples": train_samples,
        "data.normalize": "standardize" if standardize else None,
        "seed": seed,
        "device": device,
    }
    rows = _rows(found, set_, settings, methods)
    first = rows[0].config.seed
    sweep = plan_sweep(found.preset, rows, range(first, first + seeds), kind=found.kind)
    output = Output(as_json=as_json)
    keys = opt.keys_of(set_, {})
    advise([Given(found.preset, row.config, keys) for row in rows], output, step_sizes=False)
    store = opt.open_runs(runs_dir)
    how = How(store, output, data_dir, jobs=jobs, plain=True, detach=False, tell=False)
    folder = report_dir or Path(f"proxprop-{found.name}")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder to write to, found a file")
    from proxprop_cli.reports import check_targets, write
    from proxprop_cli.targets import refuse_run_folder

    refuse_run_folder(folder)
    check_targets(folder, force=force)
    code = Exit.OK
    if not report_only:
        code = _train(found, sweep, [row.config for row in rows], how)
    write(found, sweep, how, folder, command="proxprop " + shlex.join(sys.argv[1:]))
    raise typer.Exit(code)


def _rows(
    experiment: Experiment,
    assignments: list[str] | None,
    settings: dict[str, Any],
    only: str | None,
) -> list[Row]:
    from engine.sweep_plan import Row
    from proxprop_cli.lists import parse_names

    contenders: dict[str, tuple[str | None, dict[str, Any]]] = {
        method: (method, settings) for method in experiment.methods
    }
    for label, own in experiment.extra.items():
        contenders[label] = (str(own["method.name"]), {**settings, **own})
    if only is not None:
        names = parse_names(only, "--methods")
        unknown = [name for name in names if name not in contenders]
        if unknown:
            raise ConfigError(f"--methods: expected {', '.join(contenders)}, found {unknown[0]!r}")
        contenders = {name: contenders[name] for name in names}
    rows = []
    for label, (method, values) in contenders.items():
        values = {key: value for key, value in values.items() if key != "method.name"}
        config = opt.build_config(experiment.preset, assignments, method, values)
        rows.append(Row(label, config, experiment.taus or (config.method.tau,)))
    return rows


def _train(experiment: Experiment, sweep: Sweep, configs: list[RunConfig], how: How) -> Exit:
    """Show what there is to do, then do it."""
    from engine.cells import read_cells
    from engine.reproduction import title
    from proxprop_cli.engines import share_out
    from proxprop_cli.reports import changed_settings
    from proxprop_cli.sweeping import start

    how.output.note(title(experiment, sweep, changed_settings(experiment, sweep)))
    states = read_cells(how.store.root, sweep)
    missing = {
        cell.label: sum(
            other.label == cell.label and not state.ended
            for other, state in zip(sweep.cells, states, strict=True)
        )
        for cell in sweep.cells
    }
    if any(missing.values()):
        jobs, threads = share_out(sweep, how.jobs)
        side_by_side = min(jobs, sum(missing.values()))
        seconds = _estimate(sweep, configs, missing, threads, how) / side_by_side
        how.output.note(
            f"{sum(missing.values())} of {len(sweep.cells)} runs to be trained, about "
            f"{duration(seconds)} if none diverges and nothing else uses this machine; "
            "Ctrl-C stops, the same command goes on"
        )
    return Exit(start(sweep, configs, how))


def _estimate(
    sweep: Sweep, configs: list[RunConfig], missing: dict[str, int], threads: int, how: How
) -> float:
    """Seconds for all runs that are missing, as if trained one by one."""
    from engine.data.dataset import KeptDataset
    from engine.devices import choose_device
    from engine.estimate import estimate_seconds
    from proxprop_cli.sweep_data import prepare_data

    prepare_data(configs, how)
    kept, total = KeptDataset(), 0.0
    for label, config in zip(sweep.configs, configs, strict=True):
        if missing[label]:
            device = choose_device(config.device)
            data_dir = how.data_dir or sitting.default_data_dir()
            dataset = kept.load(config.data, device=device, cache_dir=data_dir)
            config = config.model_copy(update={"threads": config.threads or threads})
            total += missing[label] * estimate_seconds(config, dataset, device)
    return total
