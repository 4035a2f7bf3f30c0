"""Algorithm 1 against gradient descent, and truths with the penalty function written out."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine.errors import ConfigError
from engine.methods import Position
from engine.work import backprop_products
from tests.engine import small
from tests.engine.methods import problems

NETWORKS = {
    "relu": {"model__hidden": [9, 8]},
    "tanh": {"model__hidden": [9], "model__activation": "tanh", "loss": "mse"},
    "sigmoid-bn": {"model__hidden": [6, 5], "model__activation": "sigmoid"}
    | {"model__batch_norm": True},
    "linear": {"model__hidden": []},
    "convnet": {"model__kind": "convnet", "model__channels": [3, 4], "model__kernel": 3},
    "convnet-bn": {"model__kind": "convnet", "model__channels": [3, 4], "model__kernel": 3}
    | {"model__batch_norm": True, "model__pools": 1},
    "autoencoder": {"model__kind": "autoencoder", "model__hidden": [9, 4, 9]}
    | {"loss": "reconstruction"},
}


def config(network="relu", tau=0.3, **settings):
    changed = {f"method__penalty__{key}": value for key, value in settings.items()}
    return small.config("penalty", method__tau=tau, **NETWORKS[network], **changed)


def step(settings, model, method, batch, tau):
    """One step of gradient descent along the directions."""
    model.zero_grad()
    method.directions(batch, Position(tau), record=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= tau * parameter.grad


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("tau", [1e-3, 0.3])
def test_rho_and_gamma_of_one_over_tau_are_gradient_descent(network, tau):
    settings = config(network, tau)
    model, method = problems.problem(settings)
    plain = copy.deepcopy(model)
    for seed in range(4):
        batch = problems.batch(settings, seed)
        step(settings, model, method, batch, tau)
        expected = problems.gradients(settings, plain, batch)
        plain(batch.inputs)  # running statistics
        with torch.no_grad():
            for name, parameter in plain.named_parameters():
                parameter -= tau * expected[name]
        assert problems.close(problems.directions(model), expected, 1e-10)
    assert problems.close(dict(model.named_parameters()), dict(plain.named_parameters()), 1e-12)
    buffers = dict(plain.named_buffers())
    assert not buffers or problems.close(dict(model.named_buffers()), buffers, 1e-12)


@pytest.mark.parametrize("changed", [{"rho": 5.0}, {"gamma": 2.0}, {"sweeps": 2}], ids=str)
def test_anything_else_is_not(changed):
    settings = config("relu", 0.3, **changed)
    model, method = problems.problem(settings)
    batch = problems.batch(settings)
    method.directions(batch, Position(0.3), record=False)
    gradients = problems.gradients(settings, model, batch)
    assert not problems.close(problems.directions(model), gradients, 1e-3)


def test_the_default_weights_follow_the_step_size():
    settings = config("relu", 0.3)
    model, method = problems.problem(settings)
    batch = problems.batch(settings)
    method.directions(batch, Position(0.07), record=False)
    gradients = problems.gradients(settings, model, batch)
    assert problems.close(problems.directions(model), gradients)


def algorithm_1(weights, biases, x, labels, *, tau, rho, gamma, sweeps):
    """[P] Algorithm 1 for a tanh MLP with 1/2 |output - one-hot|^2, mean over samples; variables by
    layer, rows are samples."""
    W, b = [w.copy() for w in weights], [v.copy() for v in biases]
    last, n = len(W) - 1, len(x)
    y = np.eye(problems.CLASSES)[labels]
    a, z = [x], []
    for level in range(last):
        z.append(a[-1] @ W[level].T + b[level])
        a.append(np.tanh(z[-1]))
    for _ in range(sweeps):
        error = (a[last] @ W[last].T + b[last] - y) / n
        down = error @ W[last]
        W[last] = W[last] - tau * error.T @ a[last]
        b[last] = b[last] - tau * error.sum(0)
        for level in reversed(range(last)):
            # a[level + 1] belongs to z[level]; ``down`` was taken at its old value
            a[level + 1] = a[level + 1] - tau * (down - gamma * (np.tanh(z[level]) - a[level + 1]))
            phi = a[level] @ W[level].T + b[level]
            slope = 1 - np.tanh(z[level]) ** 2
            by_gamma = gamma * slope * (np.tanh(z[level]) - a[level + 1])
            z[level] = z[level] - tau * (by_gamma - rho * (phi - z[level]))
            error = rho * (phi - z[level])
            down = error @ W[level]
            W[level] = W[level] - tau * error.T @ a[level]
            b[level] = b[level] - tau * error.sum(0)
    parts = zip(weights, W, biases, b, strict=True)
    return [((w - w1) / tau, (v - v1) / tau) for w, w1, v, v1 in parts]


@pytest.mark.parametrize(("rho", "gamma"), [(1 / 0.2, 1 / 0.2), (3.0, 7.0), (0.5, 0.1)])
@pytest.mark.parametrize("sweeps", [1, 2, 5])
def test_directions_are_those_of_algorithm_1(rho, gamma, sweeps):
    shape = {"model__hidden": [9, 8, 6], "model__activation": "tanh", "loss": "mse"}
    chosen = {"rho": rho, "gamma": gamma, "sweeps": sweeps}
    chosen = {f"method__penalty__{key}": value for key, value in chosen.items()}
    settings = small.config("penalty", **shape, **chosen)
    model, method = problems.problem(settings)
    batch = problems.batch(settings)
    before = copy.deepcopy(model.state_dict())
    method.directions(batch, Position(0.2), record=False)
    linear = [module for module in model if isinstance(module, nn.Linear)]
    truth = algorithm_1(
        [layer.weight.detach().numpy() for layer in linear],
        [layer.bias.detach().numpy() for layer in linear],
        batch.inputs.flatten(1).numpy(),
        batch.targets.numpy(),
        tau=0.2,
        rho=rho,
        gamma=gamma,
        sweeps=sweeps,
    )
    for layer, (weight, bias) in zip(linear, truth, strict=True):
        np.testing.assert_allclose(layer.weight.grad, weight, rtol=1e-9, atol=3e-12)
        np.testing.assert_allclose(layer.bias.grad, bias, rtol=1e-9, atol=3e-12)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def convnet_penalty(values, x, labels, *, rho, gamma):
    """E of conv - batch norm - ReLU - pool - conv - batch norm - ReLU - linear, written out."""

    def sigma(z, gain, shift, pool):
        mean = z.mean((0, 2, 3), keepdim=True)
        variance = ((z - mean) ** 2).mean((0, 2, 3), keepdim=True)
        z = (z - mean) / (variance + 1e-5).sqrt()
        z = (z * gain[:, None, None] + shift[:, None, None]).clamp_min(0)
        return F.max_pool2d(z, 2) if pool else z

    v = values
    maps = {
        "z1": F.conv2d(x, v["0.weight"], v["0.bias"], padding=1),
        "a1": sigma(v["z1"], v["1.weight"], v["1.bias"], True) if "z1" in v else None,
        "z2": F.conv2d(v["a1"], v["4.weight"], v["4.bias"], padding=1) if "a1" in v else None,
        "a2": sigma(v["z2"], v["5.weight"], v["5.bias"], False).flatten(1) if "z2" in v else None,
    }
    if "a2" not in v:
        return next((name, value) for name, value in maps.items() if name not in v)
    energy = F.cross_entropy(v["a2"] @ v["8.weight"].T + v["8.bias"], labels)
    for name, weight in (("a1", gamma), ("a2", gamma), ("z1", rho), ("z2", rho)):
        energy = energy + weight / 2 * (maps[name] - v[name]).square().sum()
    return energy


@pytest.mark.parametrize("sweeps", [1, 3])
def test_convolutions_and_batch_norm_descend_the_penalty_function(sweeps):
    """The whole of E is differentiated anew for every group of variables."""
    tau, rho, gamma = 0.1, 4.0, 6.0
    settings = config("convnet-bn", tau, rho=rho, gamma=gamma, sweeps=sweeps)
    model, method = problems.problem(settings)
    batch = problems.batch(settings)
    values = {name: value.detach().clone() for name, value in model.named_parameters()}
    start = dict(values)
    while len(values) < len(start) + 4:
        name, value = convnet_penalty(values, batch.inputs, batch.targets, rho=rho, gamma=gamma)
        values[name] = value
    groups = [
        ["8.weight", "8.bias", "a2"],
        ["z2", "5.weight", "5.bias"],
        ["4.weight", "4.bias", "a1"],
        ["z1", "1.weight", "1.bias"],
        ["0.weight", "0.bias"],
    ]
    for _ in range(sweeps):
        for group in groups:
            free = {name: values[name].requires_grad_() for name in group}
            energy = convnet_penalty(
                values | free, batch.inputs, batch.targets, rho=rho, gamma=gamma
            )
            found = torch.autograd.grad(energy, list(free.values()))
            for name, derivative in zip(group, found, strict=True):
                values[name] = values[name].detach() - tau * derivative
    expected = {name: (start[name] - values[name]) / tau for name in start}
    for parameter in model.parameters():
        parameter.grad = None
    method.directions(batch, Position(tau), record=False)
    assert problems.close(problems.directions(model), expected, 1e-9)


@pytest.mark.parametrize("sweeps", [1, 3])
def test_a_batch_is_counted_once_in_running_statistics(sweeps):
    settings = config("convnet-bn", sweeps=sweeps)
    model, method = problems.problem(settings)
    other = copy.deepcopy(model)
    batch = problems.batch(settings)
    method.directions(batch, Position(0.3), record=False)
    other(batch.inputs)
    for name, value in other.named_buffers():
        assert torch.equal(model.get_buffer(name), value)
    assert all(m.track_running_stats for m in model if isinstance(m, nn.BatchNorm2d))


def test_steps_far_below_the_rounding_of_activations_are_not_lost():
    """a - tau dE/da in float32 would be a, and the gradient below it zero."""
    settings = config("tanh", 1e-6)
    model, method = problems.problem(settings)
    batch = problems.batch(settings)
    expected = problems.gradients(settings, model, batch)
    model.float()
    single = dataclasses.replace(batch, inputs=batch.inputs.float())
    method.directions(single, Position(1e-6), record=False)
    found = {name: value.double() for name, value in problems.directions(model).items()}
    assert problems.close(found, expected, 1e-4)


def test_a_sweep_more_costs_a_step_of_backprop():
    settings = config("relu", sweeps=4)
    model, method = problems.problem(settings)
    batch = problems.batch(settings)
    model.float()
    batch = dataclasses.replace(batch, inputs=batch.inputs.float())
    found = method.directions(batch, Position(0.3), record=True)
    assert found.extra_products == 3 * backprop_products(model, problems.SHAPE, problems.SIZE)


def test_a_network_with_skip_connections_is_refused():
    settings = small.config("penalty", model__hidden=[8, 8], model__skip=True)
    with pytest.raises(ConfigError, match="'penalty' needs a network that is a plain chain"):
        problems.problem(settings)


def test_several_sweeps_in_reduced_precision_are_refused():
    settings = small.config("penalty", precision="bf16", method__penalty__sweeps=2)
    with pytest.raises(ConfigError, match=r"^method\.penalty\.sweeps: more than one needs"):
        problems.problem(settings)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_trains_as_backprop_does(precision):
    losses = [
        small.run(small.config(method, precision=precision))[0].position()["metrics"]["train_loss"]
        for method in ("penalty", "backprop")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3 if precision == "float32" else 0.1)


@pytest.mark.parametrize("tau", [0.0, 1e-300, 1e-40])
def test_a_schedule_may_come_down_to_zero(tau):
    """1/tau was a division by zero, or infinite in float32."""
    settings = config()
    model, method = problems.problem(settings)
    model = model.float()
    batch = problems.batch(settings)
    batch = dataclasses.replace(batch, inputs=batch.inputs.float())
    expected = problems.gradients(settings, model, batch)
    method.directions(batch, Position(tau), record=False)
    assert problems.close(problems.directions(model), expected, 1e-4)
