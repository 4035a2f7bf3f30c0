"""Settings that a person gave and that do nothing, and step sizes that were chosen for another
method: no errors, since presets and sweeps set them for many methods in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from engine.config import RunConfig
from engine.config_methods import MethodConfig

_OF_OPTIMIZER: Mapping[str, Collection[str]] = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("beta1", "beta2", "eps"),
    "adamw": ("beta1", "beta2", "eps"),
    "muon": ("momentum", "nesterov", "beta1", "beta2", "eps"),
    "soap": ("beta1", "beta2", "eps"),
}
_OF_SCHEDULE: Mapping[str, Collection[str]] = {
    "constant": (),
    "inverse-time": ("decay",),
    "cosine": ("floor",),
    "step": ("step_epochs", "gamma"),
}
_OF_ALL = ("name", "weight_decay", "warmup_epochs")
_OF_METHOD = ("penalty", "mac", "admm", "back_matching", "kfac")
"""Sections of the method of that name."""


def idle_because(config: RunConfig, key: str) -> str | None:
    """With what a setting has no effect, such as ``method 'exact'``; None where it may have one.

    :param key: dotted.
    """
    section, _, rest = key.partition(".")
    method = config.method
    by_method = f"method {method.name!r}"
    if section == "batch_size":
        return by_method if method.is_full_batch else None
    if section == "method":
        return by_method if _idle_in_method(method, rest) else None
    if section == "optimizer":
        if method.name in ("muon", "soap") or method.gives_solutions:
            asks_for_it = (rest, config.optimizer.name) == ("name", method.name)
            return None if asks_for_it or rest == "weight_decay" else by_method
        used = (*_OF_OPTIMIZER[config.optimizer.name], *_OF_ALL)
        return None if rest in used else f"optimizer {config.optimizer.name!r}"
    if section == "schedule":
        used = (*_OF_SCHEDULE[config.schedule.name], *_OF_ALL)
        return None if rest in used else f"schedule {config.schedule.name!r}"
    return None


def _idle_in_method(method: MethodConfig, key: str) -> bool:
    head = key.partition(".")[0]
    fits_outputs = method.last_layer == "prox"  # also behind BackProp
    match head:
        case "tau_theta" | "damping":
            return not (method.uses_tau_theta or fits_outputs)
        case "tol" | "eps" | "per_filter":
            return method.cg_iterations is None
        case "tau_output":
            return not fits_outputs and method.envelope == "none"
        case _:
            return head in _OF_METHOD and head != method.name.replace("-", "_")


def step_size_is_of(document: Mapping[str, Any], method: MethodConfig) -> str | None:
    """The method that a preset's step size was chosen for, where it is another than the run's:
    its name, or ``""`` where the preset has no step size at all. None: it is the run's own.

    ``exact`` and every ``cgN`` count as one: in the paper they have step sizes in common.

    :param document: that of the preset, as for :func:`engine.config.resolve`.
    """
    settings = document.get("methods") or {}
    family = "cg" if method.cg_iterations is not None else method.name
    if any("tau" in (settings.get(name) or {}) for name in (family, method.name)):
        return None
    own = document.get("method") or {}
    chosen_for = MethodConfig.model_construct(name=own.get("name", "exact"))
    if chosen_for.name == method.name or (chosen_for.is_proximal and method.is_proximal):
        return None
    return chosen_for.name if "tau" in own else ""
