"""The paper's propositions and the limits between methods, in float64 over random shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine import CG, Exact, Prox, ProxConv2d, ProxLinear, proxify
from engine.linear_maps import Dense
from engine.solvers import Ladder, ProximalSystem
from engine.solvers.cg_iterations import (
    StepSizes,
    iterate_dual,
    iterate_in_eigenbasis,
    iterate_primal,
)
from engine.solvers.exact import _cholesky, _direction, _right

sizes = st.integers(1, 9)
tau_thetas = st.floats(-4, 4).map(lambda exponent: 10.0**exponent)
seeds = st.integers(0, 2**31 - 1)


def random_system(seed, rows, n_in, m, beta, bias=True):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rows, n_in, dtype=torch.float64, generator=generator)
    G = torch.randn(rows, m, dtype=torch.float64, generator=generator)
    return ProximalSystem(Dense(a, bias=bias), G, beta)


def solve_exactly(system, form):
    return _direction(system, form, _cholesky(system, form, _right(system, form))[0]).joined()


def iterate(cg, system, form):
    """CG in a form of choice: V ``(m, n)``."""

    def steps(rho):
        return StepSizes(rho, cg.tol, cg.eps, record=False)

    if form == "dual":
        found = iterate_dual(system, cg.max_iterations, steps)
    elif form == "eigen":
        found = iterate_in_eigenbasis(system, cg.max_iterations, steps, Ladder())
    else:
        found = iterate_primal(system, form, cg.max_iterations, steps, flat=False)
    return found[0].joined()


FORMS = ("operator", "primal", "dual", "eigen")


def network(seed, widths, activation=nn.Tanh):
    torch.manual_seed(seed)
    modules = []
    for n_in, n_out in itertools.pairwise(widths):
        modules += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*modules[:-1]).double()


def directions_and_gradients(model, prox, x, y):
    """``.grad`` of every parameter under ProxProp, and the true gradients."""
    loss = nn.functional.mse_loss(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    proxify(model, prox)
    nn.functional.mse_loss(model(x), y).backward()
    return [p.grad for p in model.parameters()], gradients


@given(seed=seeds, rows=sizes, n_in=sizes, m=sizes, tau_theta=tau_thetas)
def test_proposition_2_direction_is_the_preconditioned_gradient(seed, rows, n_in, m, tau_theta):
    """[P] Prop. 2: V = (1/tau_theta I + A^T A)^{-1} grad: applying the matrix gives it back."""
    system = random_system(seed, rows, n_in, m, 1 / tau_theta)
    V = Exact().solve(system, Ladder()).direction.joined()
    torch.testing.assert_close(system.normal(V), system.gradient(), rtol=1e-7, atol=1e-9)


@given(seed=seeds, rows=sizes, width=sizes, tau_theta=tau_thetas)
@pytest.mark.parametrize("solver", [Exact(), CG(1), CG(3)], ids=lambda solver: solver.name)
def test_proposition_3_zero_exactly_where_the_gradient_is(solver, seed, rows, width, tau_theta):
    """[P] Prop. 3. Half of the outputs get no gradient, the others do."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rows, width, dtype=torch.float64, generator=generator)
    G = torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    G[:, 1::2] = 0
    system = ProximalSystem(Dense(a), G, 1 / tau_theta)
    V = solver.solve(system, Ladder()).direction.joined()
    assert (V[1::2] == 0).all()
    assert (V[::2].abs().sum(dim=1) > 0).all()


@given(seed=seeds, rows=st.integers(1, 12), depth=st.integers(1, 3), width=sizes, tt=tau_thetas)
def test_proposition_4_descent_and_its_angle(seed, rows, depth, width, tt):
    """[P] Prop. 4: per layer cos(angle) >= lambda_min/lambda_max of M^{-1}, M = S + I/tau_theta;
    the last layer's direction is the gradient."""
    model = network(seed, [3, *[width] * depth, 2])
    x, y = torch.randn(rows, 3).double(), torch.randn(rows, 2).double()
    inputs: dict[int, torch.Tensor] = {}
    layers = [module for module in model if isinstance(module, nn.Linear)]
    for index, layer in enumerate(layers):
        layer.register_forward_hook(
            lambda _, args, __, index=index: inputs.__setitem__(index, args[0].detach())
        )
    directions, gradients = directions_and_gradients(model, Prox(tt), x, y)
    for index in range(len(layers) - 1):
        g = torch.cat([gradients[2 * index], gradients[2 * index + 1][:, None]], 1)
        v = torch.cat([directions[2 * index], directions[2 * index + 1][:, None]], 1)
        if g.norm() < 1e-12:
            continue
        A = torch.cat([inputs[index], torch.ones(rows, 1)], 1).double()
        eigenvalues = torch.linalg.eigvalsh(A.T @ A + torch.eye(A.shape[1]) / tt)
        bound = eigenvalues[0] / eigenvalues[-1]
        cosine = (g * v).sum() / (g.norm() * v.norm())
        assert cosine >= bound * (1 - 1e-6) - 1e-12
        assert cosine > 0
    for found, gradient in zip(directions[-2:], gradients[-2:], strict=True):
        torch.testing.assert_close(found, gradient)


@given(seed=seeds, rows=sizes, n_in=sizes, m=sizes, tau_theta=tau_thetas)
def test_penalty_energy_never_increases(seed, rows, n_in, m, tau_theta):
    """[P] section 4.1: the step on theta_l does not increase E(theta_l) = |A theta - z|^2/2 for
    fixed a and z, for any tau_theta. z is the explicitly updated A theta_0 - G ([P] Eq. 22)."""
    system = random_system(seed, rows, n_in, m, 1 / tau_theta)
    generator = torch.Generator().manual_seed(seed + 1)
    theta = torch.randn(m, n_in + 1, dtype=torch.float64, generator=generator)
    z = system.map.apply(theta) - system.cotangent
    V = Exact().solve(system, Ladder()).direction.joined()

    def energy(parameters):
        return 0.5 * (system.map.apply(parameters) - z).square().sum()

    assert energy(theta - V) <= energy(theta) * (1 + 1e-12)


@given(
    seed=seeds,
    rows=sizes,
    n_in=sizes,
    m=sizes,
    tau_theta=tau_thetas,
    iterations=st.integers(1, 12),
    eps=st.sampled_from([None, 1e-6]),
)
def test_proposition_5_any_number_of_cg_iterations_descends(
    seed, rows, n_in, m, tau_theta, iterations, eps
):
    """[P] Prop. 5, in both forms."""
    system = random_system(seed, rows, n_in, m, 1 / tau_theta)
    cg = CG(iterations, tol=0.0, eps=eps)
    gradient = system.gradient()
    for form in FORMS:
        V = iterate(cg, system, form)
        assert (V * gradient).sum() > 0
        assert ((V * gradient).sum(dim=1) > 0).all()


@given(seed=seeds, rows=sizes, n_in=sizes, m=sizes, iterations=st.integers(1, 4))
def test_all_forms_of_cg_have_the_same_iterates(seed, rows, n_in, m, iterations):
    system = random_system(seed, rows, n_in, m, 0.5)
    cg = CG(iterations, tol=0.0)
    primal = iterate(cg, system, "primal")
    for form in FORMS:
        torch.testing.assert_close(iterate(cg, system, form), primal, rtol=1e-6, atol=1e-9)


@given(seed=seeds, rows=sizes, n_in=sizes, m=sizes, tau_theta=tau_thetas)
def test_dual_equals_primal(seed, rows, n_in, m, tau_theta):
    system = random_system(seed, rows, n_in, m, 1 / tau_theta)
    primal = solve_exactly(system, "primal")
    dual = solve_exactly(system, "dual")
    torch.testing.assert_close(dual, primal, rtol=1e-5, atol=1e-9)


@given(seed=seeds, rows=sizes, n_in=st.integers(1, 6), m=sizes)
def test_cg_with_n_iterations_is_exact(seed, rows, n_in, m):
    system = random_system(seed, rows, n_in, m, 1.0)
    exact = Exact().solve(system, Ladder()).direction.joined()
    cg = CG(n_in + 1, tol=0.0).solve(system, Ladder()).direction.joined()
    torch.testing.assert_close(cg, exact, rtol=1e-6, atol=1e-8)


@given(seed=seeds, rows=sizes, n_in=sizes, m=sizes)
def test_small_tau_theta_gives_the_gradient(seed, rows, n_in, m):
    tau_theta = 1e-9
    system = random_system(seed, rows, n_in, m, 1 / tau_theta)
    V = Exact().solve(system, Ladder()).direction.joined()
    torch.testing.assert_close(V / tau_theta, system.gradient(), rtol=1e-5, atol=1e-6)


@given(seed=seeds, rows=st.integers(1, 12), n_in=sizes, m=sizes)
def test_one_cg_iteration_is_the_gradient_with_exact_line_search(seed, rows, n_in, m):
    system = random_system(seed, rows, n_in, m, 0.3)
    gradient = system.gradient()
    V = CG(1).solve(system, Ladder()).direction.joined()
    lengths = (gradient**2).sum(1) / (gradient * system.normal(gradient)).sum(1)
    torch.testing.assert_close(V, lengths[:, None] * gradient, rtol=1e-8, atol=1e-12)


@given(seed=seeds, batch=st.integers(1, 3), channels=st.integers(1, 3), size=st.integers(3, 6))
def test_convolution_equals_a_linear_layer_on_its_patches(seed, batch, channels, size):
    torch.manual_seed(seed)
    conv = ProxConv2d(channels, 2, 3, prox=Prox(0.5)).double()
    linear = ProxLinear(channels * 9, 2, prox=Prox(0.5)).double()
    with torch.no_grad():
        linear.weight.copy_(conv.weight.flatten(1))
        linear.bias.copy_(conv.bias)
    x = torch.randn(batch, channels, size, size, dtype=torch.float64)
    patches = nn.functional.unfold(x, 3).transpose(1, 2)
    z = conv(x)
    flat = linear(patches)
    torch.testing.assert_close(flat.transpose(1, 2).reshape_as(z), z)
    z.square().sum().backward()
    flat.square().sum().backward()
    torch.testing.assert_close(
        conv.weight.grad.flatten(1), linear.weight.grad, rtol=1e-7, atol=1e-9
    )
    torch.testing.assert_close(conv.bias.grad, linear.bias.grad, rtol=1e-7, atol=1e-9)


def penalty_step(weights, biases, x, loss, tau):
    """One sweep of the paper's Algorithm 1, explicit steps on the penalty energy E ([P] Eq. 3)
    with rho = gamma = 1/tau, z and a as variables, in the order that Prop. 1 needs: from the last
    layer down z_l, then a_{l-1} from the new z_l, then theta_l at the old a_{l-1}."""
    rho = gamma = 1 / tau
    a, z = [x], []
    for index, (W, b) in enumerate(zip(weights, biases, strict=True)):
        z.append(a[-1] @ W.T + b)
        if index < len(weights) - 1:
            a.append(torch.tanh(z[-1]))
    old_a, new = list(a), []
    last = len(weights) - 1
    for layer in range(last, -1, -1):
        W, b = weights[layer], biases[layer]
        if layer == last:
            out = z[layer].clone().requires_grad_()
            (grad_z,) = torch.autograd.grad(loss(out), out)
        else:  # gamma/2 |sigma(z_l) - a_l|^2 with the new a_l
            s = torch.tanh(z[layer])
            grad_z = gamma * (s - a[layer + 1]) * (1 - s**2)
        z[layer] = z[layer] - tau * grad_z
        misfit = old_a[layer] @ W.T + b - z[layer]  # rho/2 |W a + b - z_l|^2
        a[layer] = a[layer] - tau * rho * misfit @ W
        new.append((W - tau * rho * misfit.T @ old_a[layer], b - tau * rho * misfit.sum(0)))
    return new[::-1]


@given(seed=seeds, rows=sizes, width=sizes, depth=st.integers(1, 3), tau=st.floats(1e-3, 0.5))
def test_proposition_1_penalty_sweep_equals_gradient_descent(seed, rows, width, depth, tau):
    """[P] Prop. 1: with rho = gamma = 1/tau one sweep is one step of gradient descent."""
    model = network(seed, [3, *[width] * depth, 2])
    x, y = torch.randn(rows, 3).double(), torch.randn(rows, 2).double()

    def loss(out):
        return 0.5 * (out - y).square().sum() / rows

    layers = [module for module in model if isinstance(module, nn.Linear)]
    weights = [layer.weight.detach().clone() for layer in layers]
    biases = [layer.bias.detach().clone() for layer in layers]
    loss(model(x)).backward()
    for (W, b), layer in zip(penalty_step(weights, biases, x, loss, tau), layers, strict=True):
        torch.testing.assert_close(W, layer.weight - tau * layer.weight.grad, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(b, layer.bias - tau * layer.bias.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rows", [3, 30])
@pytest.mark.parametrize("tau_theta", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("solver", [Exact(), CG(5)], ids=lambda solver: solver.name)
def test_float32_with_dead_columns_stays_near_the_truth(solver, rows, tau_theta):
    """ReLU leaves dead inputs and outputs; no 0/0, no NaN, residual as good as float32 allows."""
    torch.manual_seed(0)
    a = torch.relu(torch.randn(rows, 12))
    a[:, 3] = 0
    G = torch.randn(rows, 5)
    G[:, 2] = 0
    system = ProximalSystem(Dense(a), G, 1 / tau_theta)
    V = solver.solve(system, Ladder()).direction.joined()
    assert torch.isfinite(V).all()
    assert (V[2] == 0).all()
    truth = solver.solve(system.to(torch.float64), Ladder()).direction.joined()
    gram = system.to(torch.float64).map.gram() + torch.eye(13) / tau_theta
    bound = 20 * np.linalg.cond(gram.numpy()) * torch.finfo(torch.float32).eps
    if bound < 0.5:  # else float32 promises nothing about V, only about its residual
        assert (V.double() - truth).norm() <= bound * truth.norm()
    if solver.name == "exact":
        residual = system.to(torch.float64).normal(V.double()) - system.to(torch.float64).gradient()
        scale = gram.norm() * V.double().norm() + system.gradient().norm()
        assert residual.norm() <= 1e-5 * scale
