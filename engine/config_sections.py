"""The parts of a run's configuration: frozen, checked when made, each field documented below it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.config_base import Fraction, Positive, Section, bounded

Precision = Literal["float32", "tf32", "bf16"]


class DataConfig(Section):
    """Where the samples come from and how they are prepared."""

    name: Literal[
        "digits", "cifar10", "cifar100", "mnist", "fashion-mnist", "usps", "imagefolder"
    ] = "digits"
    """Data source."""
    root: str | None = Field(default=None, min_length=1)
    """Folder of an ``imagefolder``, or where a torchvision data set lies already."""
    label: str | None = Field(default=None, max_length=200)
    """What to call the data in results; default: the source's own name."""
    normalize: Literal["unit", "standardize"] = "unit"
    """``unit``: pixels in [0, 1] as in the paper; ``standardize``: per pixel, mean off, divided by
    the standard deviation over the training samples."""
    validation: int = Field(default=0, ge=0, le=100_000_000)
    """Samples taken from the training part for validation, by a seeded permutation, of an image
    folder class by class; not used where the folder has a validation part."""
    split_seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of that permutation; the same for all runs that are to be compared."""
    train_samples: int | None = Field(default=None, ge=1)
    """Use only so many training samples (after the validation samples were taken)."""
    test_samples: int | None = Field(default=None, ge=1)
    """Test on only so many samples, drawn with ``split_seed``."""
    image_size: int | None = Field(default=None, ge=1, le=1024)
    """``imagefolder``: resize every image to this height and width."""


class OptimizerConfig(Section):
    """What turns the directions into updates."""

    name: Literal["sgd", "adam", "adamw", "muon", "soap"] = "sgd"
    """``torch.optim`` class, or SOAP of the package pytorch-optimizer; ``muon`` moves the weights
    of linear layers, AdamW then the rest. Methods ``muon``, ``soap``, ``mac`` and ``admm`` bring
    their own."""
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
    weight_decay: Annotated[float, Field(ge=0), AfterValidator(bounded)] = 0.0
    """L2 penalty (``adamw``, ``muon``, ``soap``: decoupled)."""

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
    steps, then of every 100th, and so on; solver statistics likewise of the steps that have any."""
    checkpoint_minutes: Positive = 5.0
    """A checkpoint within an epoch after so many minutes of training."""
    checkpoint_epochs: int = Field(default=1, ge=1)
    """A checkpoint at the end of every so many epochs."""
    keep: int = Field(default=3, ge=1)
    """Checkpoints kept, beside the best one. Runs of sweeps keep one."""
    keep_best: bool = True
    """Keep the checkpoint with the best validation accuracy, or of an autoencoder the least
    validation loss. Runs of sweeps do not."""
