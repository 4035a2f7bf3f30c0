"""Options that several commands share, defined once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError
from engine.method_names import METHODS_IN_WORDS

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.run import Run
    from engine.runs import Runs
    from engine.sweeps import Sweep


_SHOWN = 8
_LABEL_LENGTH = 200


def complete_presets(incomplete: str) -> list[str]:
    """Names of presets that begin so."""
    from proxprop_cli.presets import names

    return [name for name in names() if name.startswith(incomplete)]


def _complete_keys(incomplete: str) -> list[str]:
    from engine.config import known_keys

    return [f"{key}=" for key in known_keys() if key.startswith(incomplete)]


def complete_runs(incomplete: str) -> list[str]:
    """Ids of runs and sweeps that begin so."""
    from engine.runs import Runs, default_root
    from engine.sweeps import sweep_ids

    root = default_root()
    ids = [*(run.id for run in Runs(root).all()), *sweep_ids(root)]
    return [id for id in ["latest", *ids] if id.startswith(incomplete)]


def parse_path(text: str) -> Path:
    """A path of the command line or of a variable: a shell leaves ``--dir=~/runs`` as it is.

    :raises typer.BadParameter: it is empty, which would be the working folder.
    """
    from engine.filesystems import home_expanded

    if not text:
        raise typer.BadParameter("expected a path, found nothing; the working folder is '.'")
    return home_expanded(text)


PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        "-p",
        metavar="NAME|FILE.yaml",
        help="Experiment to run; see 'proxprop presets list'.",
        autocompletion=complete_presets,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key of the configuration, such as model.hidden=[64,64]; repeatable.",
        autocompletion=_complete_keys,
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=METHODS_IN_WORDS.replace("'", "") + ".",
    ),
]
TauOption = Annotated[float | None, typer.Option(help="Step size, the optimiser's learning rate.")]
TauThetaOption = Annotated[float | None, typer.Option(help="Proximal step size.")]
EpochsOption = Annotated[int | None, typer.Option(help="Passes over the training samples.")]
MaxSecondsOption = Annotated[
    float | None, typer.Option(help="End after so many seconds of training, without evaluation.")
]
BatchSizeOption = Annotated[int | None, typer.Option(help="Samples a step.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of weights and sample order.")]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to train.")
]
NameOption = Annotated[str | None, typer.Option(help="Label of the run.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="Print one line an epoch.")]
PlainTableOption = Annotated[
    bool, typer.Option("--plain", help="Print a table that fills, or one line a run.")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Train in the background and give the terminal back.")
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON document on standard output, all else on standard error."
    ),
]
FailOption = Annotated[
    bool, typer.Option("--fail-on-divergence", help="Exit with 7 when training diverges.")
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        parser=parse_path,
        envvar="PROXPROP_DIR",
        metavar="PATH",
        help="Folder of the runs; default: your data folder.",
        show_default=False,
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        parser=parse_path,
        envvar="PROXPROP_DATA_DIR",
        metavar="PATH",
        help="Folder of data sets; default: your cache folder.",
        show_default=False,
    ),
]
MethodsOption = Annotated[
    str, typer.Option("--methods", metavar="LIST", help="Names as of train --method, with commas.")
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, max=100_000, help="Runs of each, by seed.")
]
FirstSeedOption = Annotated[int | None, typer.Option("--seed", help="The first of the seeds.")]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        max=1024,
        help="Runs side by side, which share the CPU's threads; default: as many as there is room "
        "for, where the preset says how many threads a run has, else one.",
    ),
]
MaxRunsOption = Annotated[
    int | None,
    typer.Option("--max-runs", min=1, help="Refuse to plan more runs; default: 1000."),
]
EngineOption = Annotated[
    str,
    typer.Option(
        metavar="local|ray",
        help="Train in processes of this machine, or on the machines of a Ray cluster.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="With --engine ray: the cluster's head; default: a cluster of its own, on this "
        "machine, for as long as it takes.",
        show_default=False,
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="With --engine ray: GPUs of a run, 0.25 for four on one; default: one for --device "
        "cuda, else none.",
        show_default=False,
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace what is there already.", show_default=False)
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Id, unique beginning of one, name, or 'latest'.",
        autocompletion=complete_runs,
    ),
]
RunsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Ids, unique beginnings of them, names, or 'latest'.",
        autocompletion=complete_runs,
    ),
]


def open_runs(folder: Path | None) -> Runs:
    """The runs in a folder, or in the default one."""
    from engine.filesystems import in_home
    from engine.runs import Runs, default_root

    return Runs(folder or in_home(default_root, "--dir or PROXPROP_DIR"))


def find(store: Runs, ref: str) -> Run | Sweep:
    """What a person means: the run or sweep of this id, ``latest``, the run of this name, or the
    only run or sweep whose id begins so.

    :raises ConfigError: nothing is meant, or more than one.
    :raises StorageError: a sweep is meant that can not be read.
    """
    from engine.runs import is_valid_id
    from engine.sweeps import is_sweep, load_sweep, sweep_ids

    path = store.root / ref
    if is_valid_id(ref):
        if not path.is_symlink() and is_sweep(store.root, ref):
            return load_sweep(store.root, ref)
        if path.exists() or path.is_symlink():
            return store.find(ref)
    if not ref or ref == "latest":
        return store.find(ref)
    runs = store.all()
    meant = [run.id for run in runs if run.name == ref]
    sweeps: list[str] = []
    if not meant:
        sweeps = [id for id in sweep_ids(store.root) if id.startswith(ref)]
        meant = [*sweeps, *(run.id for run in runs if run.id.startswith(ref))]
    if len(meant) > 1:
        more = f" and {len(meant) - _SHOWN} more" if len(meant) > _SHOWN else ""
        shown = ", ".join(meant[:_SHOWN])
        raise ConfigError(f"{ref!r} could be any of {shown}{more}; give more of the id")
    if sweeps:
        return load_sweep(store.root, sweeps[0])
    return store.find(meant[0] if meant else ref)


def find_run(store: Runs, ref: str, command: str) -> Run:
    """The run that a person means, for a command that takes one; a sweep is refused."""
    from engine.run import Run

    found = find(store, ref)
    if isinstance(found, Run):
        return found
    raise ConfigError(f"{found.id} is a {found.kind}; {command} takes one run")


def find_all(store: Runs, refs: Sequence[str]) -> list[Run | Sweep]:
    """What a person means by each of these, each once."""
    found: dict[str, Run | Sweep] = {}
    for ref in refs:
        one = find(store, ref)
        found.setdefault(one.id, one)
    return list(found.values())


def build_config(
    preset: str, assignments: list[str] | None, method: str | None, values: dict[str, Any]
) -> RunConfig:
    """The configuration of one run: preset, then its settings for the method, then options.

    :param assignments: ``key=value`` texts of ``--set``.
    :param values: dotted keys from options of their own; those that are ``None`` were not given.
    :raises ConfigError: one line on what is wrong.
    """
    from engine.config import resolve
    from engine.filesystems import home_expanded
    from proxprop_cli.presets import load

    document, source = load(preset)
    overrides = parse_assignments(assignments or [])
    overrides |= {key: value for key, value in values.items() if value is not None}
    overrides.setdefault("preset", preset[-_LABEL_LENGTH:])
    config = resolve(document, method=method, overrides=overrides, source=source)
    if config.data.root is None:
        return config
    # a run may be resumed from another folder
    root = str(home_expanded(config.data.root).absolute())
    return config.model_copy(update={"data": config.data.model_copy(update={"root": root})})


def check_above_zero(value: float | None, option: str, what: str) -> None:
    """:raises ConfigError: it is given, and no number greater than 0."""
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"{option}: expected {what} greater than 0, found {value:g}")


def keys_of(assignments: Sequence[str] | None, values: Mapping[str, Any]) -> list[str]:
    """The dotted keys that a person gave, by ``--set`` and by options of their own."""
    options = [key for key, value in values.items() if value is not None]
    return [*parse_assignments(assignments or []), *options]


def parse_assignments(assignments: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """``["a.b=1"]`` as ``{"a.b": 1}``; values are YAML scalars or flow lists.

    :param option: where they were given, for errors.
    :raises ConfigError: there is no ``=``, or the value is no YAML.
    """
    from engine.strict_yaml import parse_scalar

    found: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {assignment!r}: expected KEY=VALUE, such as epochs=5")
        try:
            found[key.strip()] = parse_scalar(text)
        except ConfigError as error:
            raise ConfigError(f"{option} {key.strip()}: {error}") from None
    return found
