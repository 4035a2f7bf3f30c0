"""Settings that do nothing are found, and those that do something are not."""

from __future__ import annotations

import pytest

from engine.advice import idle_because, step_size_is_of
from engine.config import MethodConfig, resolve

TAU = {"method.tau": 0.1}


@pytest.mark.parametrize(
    ("method", "key", "value", "cause"),
    [
        ("muon", "optimizer.name", "adam", "method 'muon'"),
        ("muon", "optimizer.name", "muon", None),
        ("muon", "optimizer.weight_decay", 0.1, None),
        ("soap", "optimizer.name", "sgd", "method 'soap'"),
        ("mac", "optimizer.momentum", 0.5, "method 'mac'"),
        ("exact", "optimizer.momentum", 0.5, None),
        ("exact", "optimizer.beta1", 0.5, "optimizer 'sgd'"),
        ("exact", "optimizer.weight_decay", 0.5, None),
        ("backprop", "method.tau_theta", 3.0, "method 'backprop'"),
        ("backprop", "method.damping", "mean", "method 'backprop'"),
        ("back-matching", "method.tau_theta", 3.0, None),
        ("back-matching", "method.back_matching.target_steps", 3, None),
        ("exact", "method.back_matching.target_steps", 3, "method 'exact'"),
        ("exact", "method.mac.mu", 5.0, "method 'exact'"),
        ("mac", "method.mac.mu", 5.0, None),
        ("exact", "method.tol", 0.1, "method 'exact'"),
        ("cg3", "method.tol", 0.1, None),
        ("exact", "method.tau_output", 0.1, "method 'exact'"),
        ("exact", "method.tau", 0.1, None),
        ("admm", "batch_size", 10, "method 'admm'"),
        ("exact", "batch_size", 10, None),
        ("exact", "schedule.gamma", 0.5, "schedule 'constant'"),
        ("exact", "schedule.warmup_epochs", 1.0, None),
        ("exact", "data.validation", 10, None),
    ],
)
def test_settings_without_effect(method, key, value, cause):
    config = resolve({}, method=method, overrides={key: value})
    assert idle_because(config, key) == cause


def test_a_last_layer_that_is_fitted_is_damped_behind_backprop_too():
    overrides = {"method.last_layer": "prox", "method.tau_theta": 3.0, "method.tau_output": 2.0}
    config = resolve({}, method="backprop", overrides=overrides)
    assert [idle_because(config, key) for key in overrides] == [None] * 3


@pytest.mark.parametrize(
    ("document", "method", "found"),
    [
        ({"method": {"name": "exact", "tau": 0.5}}, "kfac", "exact"),
        ({"method": {"name": "exact", "tau": 0.5}}, "cg3", None),
        ({"method": {"name": "exact", "tau": 0.5}}, "exact", None),
        ({"method": {"tau": 0.5}}, "exact", None),
        ({"method": {"name": "backprop"}}, "exact", ""),
        ({}, "kfac", ""),
        ({"methods": {"kfac": {"tau": 1.0}}}, "kfac", None),
        ({"methods": {"kfac": {"kfac": {"damping": 1.0}}}}, "kfac", ""),
        ({"methods": {"cg": {"tau": 1.0}}, "method": {"name": "backprop"}}, "cg3", None),
        ({"methods": None}, "exact", None),
    ],
)
def test_step_sizes_of_other_methods(document, method, found):
    assert step_size_is_of(document, MethodConfig(name=method)) == found
