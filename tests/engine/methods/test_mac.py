"""MAC against its formulas in NumPy, and that no half-step increases the penalty function."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from engine.config_methods import MacConfig
from engine.errors import ConfigError
from engine.linear_maps import Direction
from engine.losses import LOSSES
from engine.methods import Batch, Position, Problem
from engine.methods.mac import Mac, penalty_weight
from engine.methods.mac_penalty import LOSS_CURVATURE, Penalty, squared_norm_bound
from engine.methods.mlp import dense_layers
from engine.prox import Prox
from engine.solvers import Ladder
from tests.engine import reference, small

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
# value, slope from the value, range, curvature
TRUTHS = {
    "relu": (lambda u: np.maximum(u, 0), lambda a: (a > 0) * 1.0, (0, np.inf), 1.0),
    "tanh": (np.tanh, lambda a: 1 - a**2, (-1, 1), 1.2327),
    "sigmoid": (lambda u: 1 / (1 + np.exp(-u)), lambda a: a * (1 - a), (0, 1), 0.0771),
}
WIDTHS = (5, 7, 4, 3)
SAMPLES = 9


def network(activation="relu", scale=1.0):
    torch.manual_seed(3)
    modules = [nn.Flatten()]
    for n_in, n_out in itertools.pairwise(WIDTHS):
        modules += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
    model = nn.Sequential(*modules[:-1]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def targets(loss):
    if loss == "reconstruction":
        return torch.randn(SAMPLES, WIDTHS[-1], dtype=torch.double)
    return torch.arange(SAMPLES) % WIDTHS[-1]


def case(activation, loss, mu, scale=1.0):
    """A penalty away from all its minima, its weights and coordinates."""
    model = network(activation, scale)
    layers = dense_layers(model, "mac")
    sigma = [layer.activation for layer in layers[:-1]]
    penalty = Penalty(
        torch.randn(SAMPLES, WIDTHS[0], dtype=torch.double),
        targets(loss),
        sigma,
        LOSSES[loss],
        LOSS_CURVATURE[loss],
        mu,
    )
    z = [
        part.into_range(scale * torch.randn(SAMPLES, width, dtype=torch.double))
        for part, width in zip(sigma, WIDTHS[1:-1], strict=True)
    ]
    return penalty, [layer.parameters() for layer in layers], z


def loss_gradient(loss, outputs, goal):
    if loss == "reconstruction":
        return outputs - goal
    one_hot = np.eye(WIDTHS[-1])[goal]
    if loss == "mse":
        return outputs - one_hot
    p = np.exp(outputs - outputs.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True) - one_hot


def truth_of_a_step(activation, loss, mu, parts, x, goal, z, steps, tau_theta, weight_steps):
    """Coordinates and weights after one alternation, ``W`` as ``(n + 1, m)``."""
    sigma, slope, (low, high), curvature = TRUTHS[activation]
    W = [np.concatenate([part.weight.numpy(), part.bias.numpy()], axis=1).T for part in parts]
    z = [x, *(part.numpy().copy() for part in z)]
    K = len(z) - 1
    top = LOSS_CURVATURE[loss]

    def cotangent(k, weights):
        u = reference.with_ones(z[k - 1]) @ weights
        if k == K + 1:
            return loss_gradient(loss, u, goal)
        return (sigma(u) - z[k]) * slope(sigma(u))

    def bound(k):
        return (np.linalg.svd(W[k - 1][:-1])[1] ** 64).sum() ** (1 / 32)

    for _ in range(steps):
        for k in range(K, 0, -1):
            weight = 1 if k == K else mu
            largest = mu + weight * (top if k == K else curvature) * bound(k + 1)
            gradient = weight * cotangent(k + 1, W[k]) @ W[k][:-1].T
            gradient += mu * (z[k] - sigma(reference.with_ones(z[k - 1]) @ W[k - 1]))
            z[k] = np.clip(z[k] - gradient / largest, low, high)
    for k in range(1, K + 2):
        A = reference.with_ones(z[k - 1])
        c = top if k == K + 1 else curvature
        for _ in range(weight_steps):
            # min over V of <G, -A V> + c/2 |A V|^2 + |V|^2/(2 tau_theta)
            step = reference.exact(A, cotangent(k, W[k - 1]) / c, 1 / (tau_theta * c))
            W[k - 1] = W[k - 1] - step
    return z[1:], W


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_that_of_the_formulas(activation, loss):
    penalty, weights, z = case(activation, loss, 0.7, scale=2.0)
    prox = Prox(0.3)
    found_z = penalty.step_coordinates(weights, z, 3)
    found = [
        penalty.fit_layer(i, part, found_z, prox, 2, Ladder()) for i, part in enumerate(weights)
    ]
    true_z, true_W = truth_of_a_step(
        activation,
        loss,
        0.7,
        weights,
        penalty.inputs.numpy(),
        penalty.targets.numpy(),
        z,
        3,
        0.3,
        2,
    )
    for mine, truth in zip(found_z, true_z, strict=True):
        assert reference.relative(mine, truth) < 1e-10
    for old, taken_off, truth in zip(weights, found, true_W, strict=True):
        assert reference.relative((old.joined() - taken_off.joined()).T, truth) < 1e-10


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mu", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_no_half_step_increases_the_penalty_function(activation, loss, mu, scale):
    penalty, weights, z = case(activation, loss, mu, scale)
    for tau_theta in (1e-2, 1.0, 1e4):
        for _ in range(3):
            before = penalty.objective(weights, z)
            z = penalty.step_coordinates(weights, z, 1)
            moved = penalty.objective(weights, z)
            assert (moved <= before * (1 + 1e-12)).all()  # of every sample
            assert moved.sum() < before.sum()
            for index, part in enumerate(weights):
                old = penalty.objective(weights, z).sum()
                step = penalty.fit_layer(index, part, z, Prox(tau_theta), 1, Ladder())
                weights[index] = Direction(part.weight - step.weight, part.bias - step.bias)
                new = penalty.objective(weights, z).sum()
                assert new <= old * (1 + 1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_many_coordinate_steps_end_where_the_gradient_does(activation):
    penalty, weights, z = case(activation, "cross-entropy", 1.0)
    z = penalty.step_coordinates(weights, z, 2000)
    free = [part.clone().requires_grad_() for part in z]
    penalty.objective(weights, free).sum().backward()
    low, high = TRUTHS[activation][2]
    for part in free:
        inside = (part > low) & (part < high)
        assert part.grad[inside].abs().max() < 1e-6
        assert (part.grad[part <= low] > -1e-6).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_curvature_of_an_activation_bounds_its_fit(activation):
    sigma = next(
        layer.activation for layer in dense_layers(network(activation), "mac") if layer.activation
    )
    low, high = max(sigma.low, -3), 3 if sigma.high is None else sigma.high
    u, v = torch.linspace(-4, 4, 161, dtype=torch.double), torch.linspace(-6, 6, 121).double()
    for z in torch.linspace(low, high, 13, dtype=torch.double):
        value = sigma.value(u)
        h, slope = 0.5 * (value - z) ** 2, (value - z) * sigma.slope(value)
        gap = v[:, None] - u
        above = h + slope * gap + 0.5 * sigma.curvature * gap**2
        assert (0.5 * (sigma.value(v)[:, None] - z) ** 2 <= above + 1e-12).all()
    assert (sigma.into_range(v) >= low).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_curvature_of_a_loss_is_its_largest_second_derivative(loss):
    goal = targets(loss)[:1]
    largest = 0.0
    for scale in (0.0, 1.0, 5.0):
        for one_sided in (False, True):
            outputs = scale * torch.randn(1, WIDTHS[-1], dtype=torch.double)
            if one_sided:
                outputs[:, -1] = -50.0  # two classes share the probability
            hessian = torch.autograd.functional.hessian(
                lambda o, goal=goal: LOSSES[loss](o, goal).sum(), outputs
            )
            largest = max(largest, torch.linalg.eigvalsh(hessian[0, :, 0]).max().item())
    assert largest <= LOSS_CURVATURE[loss] + 1e-12
    assert largest > 0.99 * LOSS_CURVATURE[loss]


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (40, 6), (64, 64)])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e8])
def test_the_bound_of_a_norm(shape, scale):
    weight = scale * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    truth = torch.linalg.matrix_norm(weight.double(), 2).item() ** 2
    bound = squared_norm_bound(weight).item()
    assert truth * (1 - 1e-5) <= bound <= truth * min(shape) ** (1 / 32) * (1 + 1e-5)
    assert squared_norm_bound(torch.zeros(shape)) < 1e-30


def test_the_last_layer_with_squares_is_solved_in_one_step():
    penalty, weights, z = case("relu", "reconstruction", 1.0)
    step = penalty.fit_layer(2, weights[2], z, Prox(1e9), 1, Ladder())
    A = reference.with_ones(z[-1].numpy())
    truth = np.linalg.lstsq(A, penalty.targets.numpy(), rcond=None)[0]
    assert reference.relative((weights[2].joined() - step.joined()).T, truth) < 1e-6


def made_for(model, samples=SAMPLES, loss="cross-entropy", **settings):
    settings = {"method__tau_theta": 1.0, "loss": loss, **settings}
    config = small.config("mac", **settings)
    return Mac(Problem(config, model.float(), LOSSES[loss], samples, small.CPU))


def batch_of(indices):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 1, 1, WIDTHS[0], generator=generator)
    indices = torch.tensor(indices)
    return Batch(indices, inputs[indices], targets("cross-entropy")[indices])


def test_coordinates_start_from_the_network_and_stay_with_their_sample():
    model = network()
    method = made_for(model, method__mac__coordinate_steps=1, method__mac__mu=1e9)
    first = batch_of([4, 1, 7])
    loss = method.directions(first, Position(1.0), record=False).loss
    outputs = model(first.inputs)
    torch.testing.assert_close(loss, LOSSES["cross-entropy"](outputs, first.targets).mean())
    kept = {name: value.clone() for name, value in method.tensors().items()}
    hidden = model[:3](first.inputs)  # with such a penalty nothing moves from there
    torch.testing.assert_close(kept["z/1"][[4, 1, 7]], hidden, rtol=1e-4, atol=1e-5)
    assert kept["met"].nonzero().flatten().tolist() == [1, 4, 7]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    method.directions(batch_of([0, 1]), Position(1.0), record=False)
    now = method.tensors()
    assert torch.equal(now["z/2"][[4, 7]], kept["z/2"][[4, 7]])
    assert not torch.equal(now["z/2"][1], kept["z/2"][1])
    assert not now["z/1"][[2, 3, 5, 6, 8]].any()


def test_coordinates_that_were_met_are_gone_on_from():
    # after one alternation they are not the network's values any more
    method = made_for(network(), method__mac__coordinate_steps=1, method__mac__mu=1.0)
    batch = batch_of([0, 1, 2])
    method.directions(batch, Position(1.0), record=False)
    once = method.tensors()["z/2"].clone()
    method.directions(batch, Position(1.0), record=False)
    twice = method.tensors()["z/2"]
    fresh = made_for(network(), method__mac__coordinate_steps=2, method__mac__mu=1.0)
    fresh.directions(batch, Position(1.0), record=False)
    assert not torch.equal(once, twice)
    torch.testing.assert_close(fresh.tensors()["z/2"], twice)


def test_a_step_of_one_takes_the_fitted_weights():
    model = network()
    method = made_for(model, method__mac__mu=2.0, method__mac__growth=3.0)
    batch = batch_of(list(range(SAMPLES)))
    layers = dense_layers(model, "mac")
    old = [layer.parameters() for layer in layers]
    sigma = [layer.activation for layer in layers[:-1]]
    penalty = Penalty(
        batch.inputs.flatten(1), batch.targets, sigma, LOSSES["cross-entropy"], 0.5, 6.0
    )
    z = [model[:3](batch.inputs).detach(), model[:5](batch.inputs).detach()]
    z = penalty.step_coordinates(old, z, 10)
    found = method.directions(batch, Position(1.0, epoch=1), record=True)
    assert set(found.stats) == {"1", "3", "5"}
    for index, layer in enumerate(layers):
        truth = penalty.fit_layer(index, old[index], z, Prox(1.0), 1, Ladder())
        torch.testing.assert_close(layer.linear.weight.grad, truth.weight)
        torch.testing.assert_close(layer.linear.bias.grad, truth.bias.flatten())


def test_the_weight_of_the_penalty_grows_and_stays_finite():
    settings = MacConfig(mu=2.0, growth=1.5)
    assert [penalty_weight(settings, epoch) for epoch in range(3)] == [2.0, 3.0, 4.5]
    assert penalty_weight(settings, 10**6) == 2e12
    assert math.isfinite(penalty_weight(MacConfig(growth=1e6), 10**9))


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "convnet", "channels": [2], "pools": 0},
        {"kind": "mlp", "hidden": [12], "batch_norm": True},
    ],
)
@pytest.mark.parametrize("method", ["mac", "admm"])
def test_other_networks_are_refused(model, method):
    with pytest.raises(ConfigError, match=f"method '{method}' needs a fully connected network"):
        small.trainer(small.config(method, model=model))
