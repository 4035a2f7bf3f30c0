"""``proxprop diagnose``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError, StorageError
from proxprop_cli.commands import options as opt
from proxprop_cli.output import Output
from proxprop_cli.progress import DataProgress, Doing
from proxprop_cli.targets import check_target

if TYPE_CHECKING:
    import torch

    from engine.config import RunConfig
    from engine.data import Dataset
    from engine.diagnosis.networks import Subject
    from engine.diagnosis.results import Diagnosis
    from engine.run import Run

_SAMPLES = 32
_OF_PRESET = ("preset", "set_", "variants", "seeds", "method", "tau_theta")
_OF_RUN = ("checkpoint",)
_OF_DAMPING = ("method.tau_theta", "method.damping", "method.back_matching.target_tau")
"""What condition numbers are damped with, whatever the method."""
_OF_NETWORKS = ("variants", "seeds", "samples", "checkpoint", "method")


def diagnose(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="Id, unique beginning of one, name, or 'latest'; without: a preset's network at "
            "initialisation.",
            autocompletion=opt.complete_runs,
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(metavar="latest|best|initial|STEP", help="Which weights of the run.")
    ] = "latest",
    preset: opt.PresetOption = "digits-mlp",
    set_: opt.SetOption = None,
    method: opt.MethodOption = None,
    tau_theta: opt.TauThetaOption = None,
    variants: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Any of plain, batch-norm, skip, orthogonal, with commas; default: the network "
            "of the preset.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Networks of each, by seed.")] = 3,
    samples: Annotated[
        int, typer.Option(min=2, max=100_000, help="Training samples in the mini-batch.")
    ] = _SAMPLES,
    data: Annotated[
        bool, typer.Option("--data", help="Eigenvalues of X X^T of the data instead.")
    ] = False,
    device: opt.DeviceOption = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", parser=opt.parse_path, metavar="FILE", help="Write every spectrum as CSV."
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=opt.parse_path,
            metavar="FILE",
            help="Draw it: .png, .svg or .pdf.",
        ),
    ] = None,
    force: opt.ForceOption = False,
    as_json: opt.JsonOption = False,
    runs_dir: opt.DirOption = None,
    data_dir: opt.DataDirOption = None,
) -> None:
    """Measure how well conditioned a network is, block by block.

    The spectra of the local Hessians H_W = J_W^T J_W and H_z = J_z^T J_z of every block, with
    respect to its weights and its input (Zhang, Chen & Liu, 2018), their condition numbers on the
    eigenvalues that are not zero and damped, (largest + beta)/(smallest + beta), and the angle
    between each layer's direction and the gradient. All on one mini-batch of training samples, in
    float64; over seeds with 95 % intervals. The latest diagnosis of a run is kept in its folder.
    """
    _refuse_strangers(context, run is not None, data)
    output = Output(as_json=as_json)
    if figure is not None:
        from engine.figures.style import file_format

        file_format(figure)
        check_target(figure, force=force)
    if csv is not None:
        check_target(csv, force=force, option="--csv", streams=True)
    values = {"method.tau_theta": tau_theta, "device": device}
    if run is not None:
        diagnosis = _of_run(run, checkpoint, samples, data, device, runs_dir, data_dir, output)
    else:
        from proxprop_cli.advice import Given, advise

        config = opt.build_config(preset, set_, method, values)
        keys = [key for key in opt.keys_of(set_, values) if key not in _OF_DAMPING]
        advise([Given(preset, config, keys)], output, step_sizes=False)
        if data:
            diagnosis = _of_data(config, {}, data_dir, output)
        else:
            diagnosis = _of_preset(config, variants, seeds, samples, data_dir, output)
    from proxprop_cli.diagnosis_report import tell, write

    tell(diagnosis, output)
    # first: what was measured is not to be lost with a file that can not be written
    output.document(diagnosis.document())
    write(diagnosis, csv, figure, output)


def _refuse_strangers(context: typer.Context, has_run: bool, data: bool) -> None:
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if given is None or given.name != "COMMANDLINE":
            continue
        if has_run and parameter.name in _OF_PRESET:
            raise ConfigError(f"{parameter.opts[0]} is for a diagnosis without RUN")
        if not has_run and parameter.name in _OF_RUN:
            raise ConfigError(f"{parameter.opts[0]} is for a diagnosis of a RUN")
        if data and parameter.name in _OF_NETWORKS:
            raise ConfigError(f"{parameter.opts[0]} is for a diagnosis without --data")


def _of_preset(
    config: RunConfig,
    variants: str | None,
    seeds: int,
    samples: int,
    data_dir: Path | None,
    output: Output,
) -> Diagnosis:
    from engine.diagnosis.networks import Subject, check_variant, variant_of, vary
    from proxprop_cli.lists import parse_names

    if variants is None:
        configs = {variant_of(config.model): config}
    else:
        names = dict.fromkeys(parse_names(variants, "--variants"))
        configs = {}
        left_out: list[ConfigError] = []
        for name in names:
            try:
                configs[name] = vary(config, name)
            except ConfigError as error:
                if str(error).startswith("--variants") or len(names) == 1:
                    raise
                left_out.append(error)
        for missing in left_out:
            output.note(f"left out: {missing}")
    dataset, device = _load(config, data_dir, output)
    for name, varied in list(configs.items()):
        try:
            check_variant(varied, name, dataset)
        except ConfigError as error:
            if len(configs) == 1:
                raise
            output.note(f"left out: {error}")
            del configs[name]
    first = config.seed

    def subjects() -> Iterator[Subject]:
        for name, varied in configs.items():
            for seed in range(first, first + seeds):
                yield Subject(name, varied.model_copy(update={"seed": seed}))

    return _measure(subjects(), config, dataset, samples, device, {"at": "initial"}, output)


def _of_run(
    ref: str,
    checkpoint: str,
    samples: int,
    data: bool,
    device: str | None,
    runs_dir: Path | None,
    data_dir: Path | None,
    output: Output,
) -> Diagnosis:
    from engine.diagnosis.networks import INITIAL, Subject, stored_weights, variant_of

    run = opt.find_run(opt.open_runs(runs_dir), ref, "diagnose")
    config = run.config()
    if device is not None:
        from engine.config import validate

        config = validate({**config.model_dump(mode="json"), "device": device}, source="--device")
    if data:
        return _of_data(config, {"run": run.id}, data_dir, output)
    step, weights = (0, None) if checkpoint == INITIAL else stored_weights(run, checkpoint)
    dataset, chosen = _load(config, data_dir, output)
    _warn_of_other_data(run, dataset, output)
    subject = Subject(variant_of(config.model), config, weights)
    about = {"run": run.id, "at": checkpoint, "step": step}
    diagnosis = _measure(iter([subject]), config, dataset, samples, chosen, about, output)
    from engine.diagnosis.kept import keep

    try:
        keep(run, diagnosis)
    except StorageError as error:
        output.note(f"not kept: {error}")
    return diagnosis


def _warn_of_other_data(run: Run, dataset: Dataset, output: Output) -> None:
    from engine.store_reader import StoreReader

    with StoreReader(run.database) as reader:
        trained = (reader.state().get("environment") or {}).get("data_sha256")
    if trained not in (None, dataset.digest):
        output.note(f"warning: run {run.id} was trained on other data than there are now")


def _measure(
    subjects: Iterator[Subject],
    config: RunConfig,
    dataset: Dataset,
    samples: int,
    device: torch.device,
    about: dict[str, Any],
    output: Output,
) -> Diagnosis:
    from engine.diagnosis.networks import diagnose

    settings = {
        "preset": config.preset,
        "data": dataset.label,
        "method": config.method.name,
        "tau_theta": config.method.tau_theta,
        "device": str(device),
    }

    with Doing(output) as progress:
        return diagnose(
            subjects,
            dataset,
            samples=samples,
            device=device,
            about={**about, **settings},
            progress=progress,
        )


def _of_data(
    config: RunConfig, about: dict[str, Any], data_dir: Path | None, output: Output
) -> Diagnosis:
    from engine.diagnosis.data_spectrum import data_spectra, moments
    from engine.diagnosis.results import Diagnosis

    dataset, _ = _load(config, data_dir, output)
    with DataProgress(output) as progress:
        found = moments(dataset.train, lambda done, all: progress("products", done, all))
    return Diagnosis(
        {
            **about,
            "preset": config.preset,
            "data": dataset.label,
            "samples": found.samples,
            "tau_theta": config.method.tau_theta,
        },
        data=tuple(data_spectra(found, dataset.scale, 1 / config.method.tau_theta)),
    )


def _load(config: RunConfig, data_dir: Path | None, output: Output) -> tuple[Dataset, torch.device]:
    import torch

    from engine.data import load_dataset
    from engine.devices import choose_device
    from proxprop_cli.sitting import default_data_dir

    device = choose_device(config.device)
    if device.type == "mps":
        device = torch.device("cpu")  # there is no float64 on MPS
    with DataProgress(output) as progress:
        dataset = load_dataset(
            config.data, device=device, cache_dir=data_dir or default_data_dir(), progress=progress
        )
    return dataset, device
