"""ADMM training against its formulas in NumPy; every update is the minimiser of its sub-problem."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from engine.errors import ConfigError
from engine.events import LadderClimbed
from engine.linear_maps import Direction
from engine.losses import LOSSES
from engine.methods import Batch, Position, Problem
from engine.methods.admm import Admm
from engine.methods.admm_blocks import (
    fitted_activations,
    fitted_outputs,
    fitted_preactivations,
    fitted_weights,
)
from engine.solvers import Ladder, Rung
from tests.engine import reference, small

BETA, GAMMA = 0.7, 2.5
SAMPLES, WIDTHS = 11, (5, 6, 4, 3)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.double, generator=generator)


def goes_no_lower(objective, solution):
    """Whether no perturbation of the solution, small or large, has a lower objective."""
    least = objective(solution)
    tries = [
        solution + size * noise(*solution.shape, seed=seed)
        for seed in range(100)
        for size in (1e-4, 1e-2, 1.0)
    ]
    return all(objective(other) >= least - 1e-12 * abs(least) for other in tries)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("samples", [3, 30])
def test_weights_are_the_shortest_least_squares_solution(bias, samples):
    a, z = noise(samples, 6), noise(samples, 4, seed=1)
    a[:, 2] = 0.0  # a unit that is never active
    a[:, 3] = a[:, 4]
    found = fitted_weights(a, z, Ladder(), bias=bias)
    A = reference.with_ones(a.numpy(), bias=bias)
    truth = np.linalg.pinv(A, rcond=1e-7) @ z.numpy()
    assert reference.relative(found.joined().T, truth) < 1e-9
    assert goes_no_lower(
        lambda W: ((z - torch.from_numpy(A) @ W.T) ** 2).sum().item(), found.joined()
    )


def test_weights_of_badly_scaled_float32_inputs():
    a = (noise(200, 20) * torch.logspace(0, -4, 20)).float() + 1.0
    W = noise(3, 20).float()
    found = fitted_weights(a, a @ W.T + 0.5, Ladder(), bias=True)
    fit = a @ found.weight.T + found.bias.T
    torch.testing.assert_close(fit, a @ W.T + 0.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_weights_of_a_gram_without_eigenvectors(bias, raises, monkeypatch):
    """Its pseudo-inverse raised, or was NaN."""
    a, z, ladder = noise(30, 6), noise(30, 4, seed=1), Ladder()
    a[:, 2] = 0.0
    truth = fitted_weights(a, z, ladder, bias=bias)
    assert ladder.take_counts() == {}

    def failing(matrix):
        if raises:
            raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")
        return matrix.diagonal(), torch.full_like(matrix, torch.nan)

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    found = fitted_weights(a, z, ladder, bias=bias)
    assert ladder.take_counts() == {Rung.JITTER: 1}
    torch.testing.assert_close(found.joined(), truth.joined(), rtol=1e-6, atol=1e-6)


def test_a_factorisation_of_the_activations_that_fails_is_counted(monkeypatch):
    above, h = Direction(noise(4, 6), None), noise(SAMPLES, 6, seed=2).relu()
    truth = fitted_activations(above, noise(SAMPLES, 4), h, BETA, GAMMA, Ladder())
    failed = torch.tensor(1)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda matrix: (matrix * torch.nan, failed))
    ladder = Ladder()
    found = fitted_activations(above, noise(SAMPLES, 4), h, BETA, GAMMA, ladder)
    torch.testing.assert_close(found, truth)
    assert ladder.take_counts() == {Rung.EIGH: 1}


def test_fallbacks_of_a_run_are_told_by_layer(monkeypatch):
    eigh = torch.linalg.eigh
    calls = []

    def failing(matrix):
        calls.append(matrix)
        found = eigh(matrix)
        return found if len(calls) % 2 == 0 else (found[0] * torch.nan, found[1])

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    made, events = small.run(small.config("admm", epochs=2, method__tau=1.0))
    counts = {event.layer: event.counts for event in events if isinstance(event, LadderClimbed)}
    assert set(counts) == set(made.learner.ladders())
    assert all(set(own) == {"float64"} for own in counts.values())


@pytest.mark.parametrize("bias", [True, False])
def test_activations_minimise_their_sub_problem(bias):
    above = Direction(noise(4, 6), noise(4, 1) if bias else None)
    z_above, h = noise(SAMPLES, 4, seed=1), noise(SAMPLES, 6, seed=2).relu()
    found = fitted_activations(above, z_above, h, BETA, GAMMA, Ladder())
    shift = above.bias.numpy() if bias else 0.0
    stacked = np.concatenate([np.sqrt(BETA) * above.weight.numpy(), np.sqrt(GAMMA) * np.eye(6)])
    right = [np.sqrt(BETA) * (z_above.numpy().T - shift), np.sqrt(GAMMA) * h.numpy().T]
    truth = np.linalg.lstsq(stacked, np.concatenate(right), rcond=None)[0].T
    assert reference.relative(found, truth) < 1e-12

    def objective(a):
        q = a @ above.weight.T + (above.bias.T if bias else 0.0)
        return (BETA * ((z_above - q) ** 2).sum() + GAMMA * ((a - h) ** 2).sum()).item()

    assert goes_no_lower(objective, found)


def test_preactivations_are_the_global_minimum_entry_by_entry():
    a, q = noise(60, 7) * 2, noise(60, 7, seed=1) * 2
    a[0, 0], q[0, 0] = 0.0, 0.0
    found = fitted_preactivations(a, q, BETA, GAMMA)

    def objective(z):
        return GAMMA * (a - z.relu()) ** 2 + BETA * (z - q) ** 2

    best = torch.full_like(a, torch.inf)
    for z in torch.linspace(-8, 8, 3201, dtype=torch.double):
        best = torch.minimum(best, objective(z.expand_as(a)))
    assert (objective(found) <= best + 1e-12).all()
    assert (objective(found) >= best - 1e-2).all()
    signs = {(float(x > 0), float(y > 0)) for x, y in zip(found.ravel(), q.ravel(), strict=True)}
    assert len(signs) == 4  # either side is left where the activation asks for it


def goal_of(loss):
    return noise(SAMPLES, 3, seed=5) if loss == "reconstruction" else torch.arange(SAMPLES) % 3


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("beta", [1e-2, 0.7, 30.0])
def test_outputs_minimise_their_sub_problem(loss, beta):
    q, multiplier, goal = noise(SAMPLES, 3), noise(SAMPLES, 3, seed=1), goal_of(loss)
    multiplier -= multiplier.mean(dim=1, keepdim=True)
    found = fitted_outputs(loss, goal, q, multiplier, beta)

    def objective(z):
        penalty = beta * ((z - q) ** 2).sum() + (z * multiplier).sum()
        return (LOSSES[loss](z, goal).sum() + penalty).item()

    assert goes_no_lower(objective, found)
    truth = minimize(
        lambda flat: objective(torch.from_numpy(flat).reshape(SAMPLES, 3)),
        np.zeros(SAMPLES * 3),
        options={"gtol": 1e-9},
    )
    assert objective(found) == pytest.approx(truth.fun, rel=1e-9, abs=1e-9)


def network(activation=nn.ReLU):
    torch.manual_seed(3)
    modules = [nn.Flatten()]
    for n_in, n_out in itertools.pairwise(WIDTHS):
        modules += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*modules[:-1])


def made_for(model, loss="mse", **settings):
    settings = {"loss": loss, "method__admm__beta": BETA, "method__admm__gamma": GAMMA} | settings
    if loss == "reconstruction":
        settings["model"] = {"kind": "autoencoder"}
    config = small.config("admm", **settings)
    return Admm(Problem(config, model, LOSSES[loss], SAMPLES, small.CPU))


def in_double(method, model):
    """The method with the same noise to start from, in float64."""
    model.double()
    method._z = [part.double() for part in method._z]
    method._a = [part.double() for part in method._a]
    method._multiplier = method._multiplier.double()
    return method


def batch_of(order=None, dtype=torch.double):
    indices = torch.arange(SAMPLES) if order is None else order
    inputs = noise(SAMPLES, 1, 1, WIDTHS[0], seed=9).to(dtype)
    return Batch(indices, inputs[indices], (torch.arange(SAMPLES) % 3)[indices])


def take(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
            parameter.grad = None


def truth_of_sweeps(W, a, z, x, one_hot, sweeps, warm_up):
    """The paper's Algorithm 1 with squares as the loss; ``W`` as ``(m, n + 1)``, l from 0."""
    lam = np.zeros_like(z[-1])
    last = len(W) - 1
    for sweep in range(sweeps):
        for l in range(last + 1):  # noqa: E741 -- the paper's letter
            A = reference.with_ones(x if l == 0 else a[l - 1])
            W[l] = z[l].T @ np.linalg.pinv(A, rcond=1e-7).T
            if l < last:
                up, b = W[l + 1][:, :-1], W[l + 1][:, -1]
                right = BETA * (z[l + 1] - b) @ up + GAMMA * np.maximum(z[l], 0)
                matrix = BETA * up.T @ up + GAMMA * np.eye(up.shape[1])
                a[l] = np.linalg.solve(matrix, right.T).T
                q = A @ W[l].T
                active = np.maximum(0, (GAMMA * a[l] + BETA * q) / (GAMMA + BETA))
                resting = np.minimum(0, q)
                values = [
                    GAMMA * (a[l] - np.maximum(0, c)) ** 2 + BETA * (c - q) ** 2
                    for c in (active, resting)
                ]
                z[l] = np.where(values[0] <= values[1], active, resting)
            else:
                q = A @ W[l].T
                # 0 = z - one_hot + lam + 2 beta (z - q)
                z[l] = (one_hot - lam + 2 * BETA * q) / (1 + 2 * BETA)
                if sweep >= warm_up:
                    lam = lam + BETA * (z[l] - q)
    return W, a, z, lam


@pytest.mark.parametrize("warm_up", [0, 2, 10])
def test_sweeps_are_those_of_the_formulas_in_whatever_order_the_samples_come(warm_up):
    model = network()
    method = in_double(made_for(model, method__admm__warm_up=warm_up), model)
    start = {name: value.numpy().copy() for name, value in method.tensors().items()}
    linears = [module for module in model if isinstance(module, nn.Linear)]

    def joined():
        return [
            np.concatenate([m.weight.detach().numpy(), m.bias.detach().numpy()[:, None]], axis=1)
            for m in linears
        ]

    W = joined()
    for sweep in range(4):
        batch = batch_of(torch.randperm(SAMPLES))
        outputs = model(batch.inputs)
        found = method.directions(batch, Position(1.0, epoch=sweep), record=False)
        torch.testing.assert_close(found.loss, LOSSES["mse"](outputs, batch.targets).mean())
        take(model)
    a = [start["a/1"], start["a/2"]]
    z = [start["z/1"], start["z/2"], start["z/3"]]
    x = batch_of().inputs.flatten(1).numpy()
    one_hot = np.eye(3)[np.arange(SAMPLES) % 3]
    W, a, z, lam = truth_of_sweeps(W, a, z, x, one_hot, 4, warm_up)
    for mine, truth in zip(joined(), W, strict=True):
        assert reference.relative(mine, truth) < 1e-8
    now = method.tensors()
    for index, truth in enumerate(a):
        assert reference.relative(now[f"a/{index + 1}"], truth) < 1e-8
    for index, truth in enumerate(z):
        assert reference.relative(now[f"z/{index + 1}"], truth) < 1e-8
    assert reference.relative(now["multiplier"], lam) < 1e-8
    assert bool(now["multiplier"].any()) == (warm_up < 4)


def penalty(method, model, batch):
    """The function that the sweeps minimise block by block, without multiplier."""
    now = method.tensors()
    a = [batch.inputs.flatten(1), now["a/1"], now["a/2"]]
    linears = [module for module in model if isinstance(module, nn.Linear)]
    total = LOSSES["cross-entropy"](now["z/3"], batch.targets).sum()
    for index, layer in enumerate(linears):
        total = total + BETA * (now[f"z/{index + 1}"] - layer(a[index])).square().sum()
        if index < 2:
            total = total + GAMMA * (a[index + 1] - now[f"z/{index + 1}"].relu()).square().sum()
    return total.item()


def test_sweeps_without_multiplier_never_increase_the_penalty_function():
    model = network()
    method = made_for(model, "cross-entropy", method__admm__warm_up=100)
    in_double(method, model)
    batch = batch_of()
    values = [penalty(method, model, batch)]
    for sweep in range(8):
        method.directions(batch, Position(1.0, epoch=sweep), record=False)
        take(model)
        values.append(penalty(method, model, batch))
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(values))
    assert values[-1] < 0.5 * values[0]


def test_what_is_not_finite_shows_in_the_directions_and_raises_nothing():
    model = network()
    method = made_for(model)
    method._z[0][0, 0] = torch.inf
    batch = batch_of(dtype=torch.float32)
    for sweep in range(2):
        found = method.directions(batch, Position(1.0, epoch=sweep), record=False)
        take(model)
    assert not found.loss.isfinite()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_other_activations_are_refused(activation):
    with pytest.raises(ConfigError, match=r"needs model\.activation 'relu'"):
        small.trainer(small.config("admm", model__activation=activation))
