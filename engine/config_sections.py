"""The parts of a run's configuration: frozen, checked when made, each field documented below it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Sizes = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...],
    Field(strict=False, max_length=1000),
]

Precision = Literal["float32", "tf32", "bf16"]

MAX_STEP_SIZE = 1e30
"""Leaves room in float32 for what optimisers make of a step size: Adam divides it by 1 - beta1."""


def _bounded(value: float) -> float:
    if value > MAX_STEP_SIZE:
        raise ValueError(f"should be at most {MAX_STEP_SIZE}, found {value}")
    return value


StepSize = Annotated[Positive, AfterValidator(_bounded)]

METHOD = re.compile(r"backprop|exact|cg[1-9]\d{0,3}")


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class DataConfig(Section):
    """Where the samples come from and how they are prepared."""

    name: Literal[
        "digits", "cifar10", "cifar100", "mnist", "fashion-mnist", "usps", "imagefolder"
    ] = "digits"
    """Data source."""
    root: str | None = None
    """Folder of an ``imagefolder``, or where a torchvision data set lies already."""
    label: str | None = Field(default=None, max_length=200)
    """What to call the data in results; default: the source's own name."""
    normalize: Literal["unit", "standardize"] = "unit"
    """``unit``: pixels in [0, 1] as in the paper; ``standardize``: per pixel, mean off, divided by
    the standard deviation over the training samples."""
    validation: int = Field(default=0, ge=0, le=100_000_000)
    """Samples taken from the training part for validation, by a seeded permutation."""
    split_seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of that permutation; the same for all runs that are to be compared."""
    train_samples: int | None = Field(default=None, ge=1)
    """Use only so many training samples (after the validation samples were taken)."""
    image_size: int | None = Field(default=None, ge=1, le=1024)
    """``imagefolder``: resize every image to this height and width."""


class MLPConfig(Section):
    """Fully connected network."""

    kind: Literal["mlp"] = "mlp"
    hidden: Sizes = (4000, 1000, 4000)
    """Width of every hidden layer."""
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    """Nonlinearity after every hidden layer."""
    batch_norm: bool = False
    """Batch normalisation before every nonlinearity."""


class ConvNetConfig(Section):
    """Convolutions with 'same' padding and 2x2 max-pooling, then one linear layer."""

    kind: Literal["convnet"] = "convnet"
    channels: Sizes = (16, 20, 20)
    """Filters of every convolution."""
    kernel: int = Field(default=5, ge=1, le=31)
    """Height and width of the kernels; odd."""
    pools: int = Field(default=2, ge=0)
    """How many convolutions, from the first on, are followed by pooling: the paper's text draws 3,
    the authors' published code has 2."""
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    """Nonlinearity after every convolution."""
    batch_norm: bool = False
    """Batch normalisation before every nonlinearity."""

    @model_validator(mode="after")
    def _check(self) -> ConvNetConfig:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd, so that 'same' padding is symmetric")
        if self.pools > len(self.channels):
            raise ValueError(
                f"pools must be at most the number of convolutions, {len(self.channels)}"
            )
        return self


class MethodConfig(Section):
    """How the weights of the linear layers move."""

    name: str = Field(default="exact", pattern=f"^(?:{METHOD.pattern})$")
    """``backprop``, ``exact`` or ``cgN`` with N conjugate gradient iterations."""
    tau: StepSize = 1.0
    """Step size: the optimiser's learning rate."""
    tau_theta: StepSize = 1.0
    """Proximal step size; unused by BackProp."""
    damping: Literal["sum", "mean", "trace"] = "sum"
    """Diagonal beta added to A^T A (n x n, from N rows): 1/tau_theta (paper), N/tau_theta, or
    trace(A^T A)/(n tau_theta)."""
    tol: float = Field(default=1e-2, ge=0, lt=1)
    """CG stops when every squared residual is below tol^2 times the mean initial one."""
    eps: float | None = Field(default=None, gt=0, le=1)
    """Constant added to CG's denominators; 1e-6 is the published code's arithmetic, none is CG."""
    per_filter: bool = False
    """Convolutions: one CG a filter instead of one for the flattened layer."""

    @property
    def cg_iterations(self) -> int | None:
        """Iterations of a ``cgN`` method, else none."""
        return int(self.name[2:]) if self.name.startswith("cg") else None


class OptimizerConfig(Section):
    """What turns the directions into updates."""

    name: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    """``torch.optim`` class; ``muon`` moves the weights of linear layers, AdamW then the rest."""
    momentum: Fraction = 0.0
    """Momentum of SGD and Muon."""
    nesterov: bool = False
    """Nesterov's form of the momentum."""
    beta1: Fraction = 0.9
    """Adam: decay of the first moment."""
    beta2: Fraction = 0.999
    """Adam: decay of the second moment."""
    eps: Positive = 1e-8
    """Adam: constant in the denominator."""
    weight_decay: Annotated[float, Field(ge=0), AfterValidator(_bounded)] = 0.0
    """L2 penalty (``adamw``: decoupled)."""

    @model_validator(mode="after")
    def _check(self) -> OptimizerConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0")
        return self


class ScheduleConfig(Section):
    """How tau changes with the (fractional) epoch t."""

    name: Literal["constant", "inverse-time", "cosine", "step"] = "constant"
    """tau, tau/(1 + decay t), a half cosine down to ``floor`` tau, or times gamma every
    ``step_epochs``."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """tau grows linearly over the first so many epochs."""
    decay: Positive = 1.0
    """``inverse-time``: rate per epoch."""
    floor: Fraction = 0.0
    """``cosine``: final fraction of tau."""
    step_epochs: Positive = 10.0
    """``step``: epochs between two drops."""
    gamma: float = Field(default=0.1, gt=0, le=1)
    """``step``: factor of a drop."""


class LogConfig(Section):
    """What is kept while training."""

    trace_every: int = Field(default=50, ge=0)
    """Solver statistics of every layer at the first step and each so many steps; 0: never."""
    full_steps: int = Field(default=100_000, ge=1)
    """Metrics of every step are kept up to this one, then of every 10th up to ten times as many
    steps, then of every 100th, and so on."""
    checkpoint_minutes: Positive = 5.0
    """A checkpoint within an epoch after so many minutes of training."""
    checkpoint_epochs: int = Field(default=1, ge=1)
    """A checkpoint at the end of every so many epochs."""
    keep: int = Field(default=3, ge=1)
    """Checkpoints kept, beside the best one. Runs of sweeps keep one."""
    keep_best: bool = True
    """Keep the checkpoint with the best validation accuracy. Runs of sweeps do not."""
