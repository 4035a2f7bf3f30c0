"""Networks to be diagnosed: variants of a preset at initialisation, or a run at a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine import checkpoint
from engine.config import MethodConfig, ModelConfig, RunConfig
from engine.data import Dataset
from engine.diagnosis.blocks import Block, block_inputs, detach_statistics, linear_map, split
from engine.diagnosis.descent import descent_angles
from engine.diagnosis.local_hessians import Measured, input_hessian, weight_hessian
from engine.diagnosis.results import HESSIANS, Angle, BlockSpectrum, Diagnosis
from engine.diagnosis.spectra import SpectrumError
from engine.errors import CheckpointError, ConfigError
from engine.losses import targets
from engine.methods import Batch
from engine.models import build_model
from engine.networks import Residual
from engine.prox import Prox
from engine.run import Run
from engine.store_reader import StoreReader

_PLAIN: Mapping[str, Any] = {"batch_norm": False, "skip": False, "init": "uniform"}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "batch-norm": {"batch_norm": True},
    "skip": {"skip": True},
    "orthogonal": {"init": "orthogonal"},
}
"""What is different from the plain network of the same widths."""
INITIAL = "initial"
Weights = Mapping[str, Tensor]
_Measure = Callable[[Block, Tensor], Measured]


@dataclass(frozen=True, slots=True)
class Subject:
    """One network.

    :ivar variant: what it is called.
    :ivar weights: its state; None: as its configuration's seed draws it.
    """

    variant: str
    config: RunConfig
    weights: Weights | None = None


def vary(config: RunConfig, variant: str) -> RunConfig:
    """The configuration with the network of a variant.

    :raises ConfigError: there is no such variant, or not of this kind of network.
    """
    if variant not in VARIANTS:
        expected = ", ".join(VARIANTS)
        raise ConfigError(f"--variants: expected any of {expected}, found {variant!r}")
    known = type(config.model).model_fields
    for key in VARIANTS[variant]:
        if key not in known:
            raise ConfigError(f"variant {variant!r}: model.kind {config.model.kind!r} has no {key}")
    settings = {key: value for key, value in _PLAIN.items() if key in known}
    model = config.model.model_copy(update={**settings, **VARIANTS[variant]})
    return config.model_copy(update={"model": model})


def variant_of(model: ModelConfig) -> str:
    """What a network is, in the words of :data:`VARIANTS`; joined by ``+`` where it is several."""
    found = [
        name
        for name, settings in VARIANTS.items()
        if settings and all(getattr(model, key, None) == on for key, on in settings.items())
    ]
    return "+".join(found) or "plain"


def check_variant(config: RunConfig, variant: str, dataset: Dataset) -> None:
    """Whether the network can be made and taken apart, and is what it is called.

    :raises ConfigError: it can not, or it has no skip connection and should.
    """
    with torch.device("meta"):
        model = build_model(
            config.model, MethodConfig(name="backprop"), dataset.shape, dataset.num_classes
        )
    split(model)
    if variant == "skip" and not any(isinstance(part, Residual) for part in model.modules()):
        raise ConfigError(
            "variant 'skip': no layer is as wide as its input; set widths, such as "
            "model.hidden=[64,64]"
        )


def stored_weights(run: Run, which: str) -> tuple[int, Weights]:
    """Step and weights of a checkpoint.

    :param which: ``latest``, ``best``, or the number of its step.
    :raises CheckpointError: the run has no such checkpoint, or it is damaged.
    :raises ConfigError: ``which`` is none of these.
    """
    with StoreReader(run.database) as reader:
        rows = reader.checkpoints()
    if not rows:
        raise CheckpointError(
            f"run {run.id} has no checkpoint; --checkpoint {INITIAL} takes its start"
        )
    if which == "latest":
        meant = rows[:1]
    elif which == "best":
        meant = [row for row in rows if row.best][:1]
    elif which.isascii() and which.isdigit():
        meant = [row for row in rows if row.step == int(which)]
    else:
        raise ConfigError(
            f"--checkpoint: expected latest, best, {INITIAL} or a step, found {which!r}"
        )
    if not meant:
        there = ", ".join(str(row.step) for row in rows)
        raise CheckpointError(f"run {run.id} has no checkpoint {which!r}; there are steps {there}")
    row = meant[0]
    hashes = checkpoint.Hashes(row.tensors_sha256, row.json_sha256)
    tensors = checkpoint.read(run.checkpoints, row.step, hashes).tensors
    prefix = "model/"
    return row.step, {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def diagnose(
    subjects: Iterable[Subject],
    dataset: Dataset,
    *,
    samples: int,
    device: torch.device,
    about: Mapping[str, Any],
    progress: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Local Hessians and descent angles of some networks on the first training samples.

    :param dataset: on ``device``, which must have float64.
    :param samples: size of the mini-batch; fewer where there are not so many.
    :param progress: told what is measured next.
    :raises ConfigError: a network does not fit the samples, or is none that can be taken apart.
    :raises CheckpointError: the weights are of another network.
    """
    spectra: list[BlockSpectrum] = []
    angles: list[Angle] = []
    notes: list[str] = []
    count = min(samples, len(dataset.train))
    indices = torch.arange(count, device=device)
    for subject in subjects:

        def told(what: str, network: str = _name(subject)) -> None:
            if progress is not None:
                progress(f"{network}: {what}")

        inputs, labels = dataset.batch(dataset.train, indices)
        batch = Batch(indices, inputs, targets(subject.config.loss, inputs, labels))
        spectra += _spectra(subject, dataset, batch, device, told, notes)
        told("directions")
        angles += _angles(subject, dataset, batch, device, notes)
    notes = list(dict.fromkeys(notes))
    return Diagnosis({**about, "samples": count}, tuple(spectra), tuple(angles), (), tuple(notes))


def _spectra(
    subject: Subject,
    dataset: Dataset,
    batch: Batch,
    device: torch.device,
    told: Callable[[str], None],
    notes: list[str],
) -> list[BlockSpectrum]:
    config = subject.config
    model = detach_statistics(_network(subject, dataset, device, MethodConfig(name="backprop")))
    stem, blocks = split(model.double().requires_grad_(False))
    method = config.method
    inputs = block_inputs(stem, blocks, batch.inputs.double())
    found = []
    for number, (block, given) in enumerate(zip(blocks, inputs, strict=True), 1):
        measures: Sequence[tuple[Literal["W", "z"], _Measure, float]] = (
            ("W", weight_hessian, _beta(method, block, given)),
            ("z", input_hessian, 1 / method.back_matching.target_tau),
        )
        for hessian, measure, beta in measures:
            told(f"{HESSIANS[hessian]} of block {number} of {len(blocks)}")
            where = f"{_name(subject)}: {HESSIANS[hessian]} of block {block.name}"
            try:
                one = measure(block, given)
            except SpectrumError as error:
                notes.append(f"{where}: {error}")
                continue
            if one.spectrum.fallbacks:
                notes.append(f"{where}: eigenvalues found at the second attempt, scaled")
            figures = one.spectrum.figures(beta, one.samples)
            found.append(
                BlockSpectrum(
                    subject.variant, config.seed, block.name, block.label, hessian, figures
                )
            )
    return found


def _beta(method: MethodConfig, block: Block, inputs: Tensor) -> float:
    """The damping of a block's weights under the method's settings."""
    if method.damping == "sum":
        return 1 / method.tau_theta
    if len(block.linears) > 1:
        raise ConfigError(
            f"method.damping: diagnose knows {method.damping!r} for one layer at a time, and this "
            "network has residual blocks of several; use 'sum'"
        )
    ((_, layer),) = block.linears
    beta = Prox(method.tau_theta, damping=method.damping).beta(linear_map(layer, inputs))
    return float(torch.as_tensor(beta).max())


def _angles(
    subject: Subject, dataset: Dataset, batch: Batch, device: torch.device, notes: list[str]
) -> list[Angle]:
    config = subject.config
    if config.method.is_full_batch:
        notes.append(f"no angles: method {config.method.name!r} steps on all samples at once")
        return []
    if config.method.name in ("muon", "soap"):
        notes.append(f"no angles: {config.method.name} turns gradients in the optimiser")
        return []
    model = _network(subject, dataset, device, config.method)
    plain = _network(subject, dataset, device, MethodConfig(name="backprop"))
    try:
        found, fallbacks = descent_angles(config, model, plain, batch, len(dataset.train))
    except ConfigError as error:
        notes.append(f"no angles: {error}")
        return []
    notes += [f"{_name(subject)}, {text}" for text in fallbacks]
    return [
        Angle(subject.variant, config.seed, name, cosine, bound, beta)
        for name, cosine, bound, beta in found
    ]


def _name(subject: Subject) -> str:
    return f"{subject.variant}, seed {subject.config.seed}"


def _network(
    subject: Subject, dataset: Dataset, device: torch.device, method: MethodConfig
) -> nn.Module:
    """The network as a run of this configuration would have it."""
    config = subject.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config.model, method, dataset.shape, dataset.num_classes)
    if subject.weights is not None:
        try:
            model.load_state_dict(dict(subject.weights))
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"the checkpoint is of another network: {detail}") from None
    return model.to(device).train()
