"""Every option of both layers against the dense float64 truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from engine import CG, Exact, Prox, ProxConv2d, ProxLinear
from engine.conv_patches import ConvPatches
from engine.solvers import Ladder, ProximalSystem, Rung
from tests.engine import reference
from tests.engine.test_properties import FORMS, iterate

EXACT = 1e-10
DAMPINGS = ("sum", "mean", "trace")


def linear_case(rows, n_in, m, *, free_weight=True, free_bias=True, bias=True, prox, leading=()):
    torch.manual_seed(1)
    layer = ProxLinear(n_in, m, bias=bias, prox=prox).double()
    layer.weight.requires_grad_(free_weight)
    if bias:
        layer.bias.requires_grad_(free_bias)
    x = torch.randn(*leading, rows, n_in, dtype=torch.float64)
    G = torch.randn(*leading, rows, m, dtype=torch.float64)
    layer(x).backward(G)
    A = reference.with_ones(x.reshape(-1, n_in).numpy(), free_weight, bias and free_bias)
    return layer, A, G.reshape(-1, m).numpy()


def check(layer, truth, tolerance=EXACT):
    """Compare ``.grad`` with the truth V (n, m)."""
    expected = truth.T
    if layer.weight.requires_grad:
        columns = layer.weight[0].numel()
        found = layer.weight.grad.reshape(len(expected), -1)
        assert reference.relative(found, expected[:, :columns]) < tolerance
        assert layer.weight.grad.is_contiguous()
    else:
        assert layer.weight.grad is None
    if layer.bias is not None:
        if layer.bias.requires_grad:
            assert reference.relative(layer.bias.grad, expected[:, -1]) < tolerance
        else:
            assert layer.bias.grad is None


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"free_bias": False},
        {"free_weight": False},
        {"leading": (2, 3)},
    ],
    ids=str,
)
def test_linear_exact(options, rows, damping):
    prox = Prox(0.3, Exact(), damping)
    layer, A, G = linear_case(rows, 11, 4, prox=prox, **options)
    check(layer, reference.exact(A, G, reference.damping(damping, A, 0.3)))


@pytest.mark.parametrize("rows", [4, 40])
@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("eps", [None, 1e-6])
def test_linear_cg(rows, iterations, eps):
    prox = Prox(0.3, CG(iterations, tol=0.0, eps=eps))
    layer, A, G = linear_case(rows, 11, 4, prox=prox)
    check(layer, reference.cg(A, G, 1 / 0.3, iterations, eps=eps or 0.0))


@pytest.mark.parametrize("rows", [4, 40])
@pytest.mark.parametrize("tol", [0.9, 0.5, 0.1, 1e-2])
def test_linear_cg_stops_where_the_published_rule_does(rows, tol):
    layer, A, G = linear_case(rows, 11, 4, prox=Prox(0.3, CG(30, tol=tol)))
    check(layer, reference.cg(A, G, 1 / 0.3, 30, tol=tol))
    unstopped = reference.cg(A, G, 1 / 0.3, 30)
    if tol >= 0.5:
        with pytest.raises(AssertionError):
            check(layer, unstopped, 1e-6)


CONV_OPTIONS = [
    {"padding": 1},
    {"padding": "same"},
    {"padding": "valid"},
    {"padding": "same", "kernel_size": (2, 4), "dilation": (2, 1)},
    {"stride": 2, "padding": (2, 1)},
    {"stride": (1, 3), "dilation": (2, 1)},
    {"dilation": 2, "padding": 2},
    {"groups": 2, "padding": 1},
    {"groups": 4, "out_channels": 8, "stride": 2},
    {"kernel_size": 1},
    {"kernel_size": (3, 2), "bias": False},
    {"padding": 2, "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "replicate"},
    {"padding": (1, 2), "padding_mode": "circular"},
    {"padding": "same", "padding_mode": "circular", "kernel_size": (2, 3)},
]


def conv_case(prox, batch=2, size=(7, 6), free_weight=True, free_bias=True, **options):
    torch.manual_seed(2)
    settings = {"in_channels": 4, "out_channels": 6, "kernel_size": 3} | options
    layer = ProxConv2d(**settings, prox=prox).double()
    layer.weight.requires_grad_(free_weight)
    if layer.bias is not None:
        layer.bias.requires_grad_(free_bias)
    x = torch.randn(batch, settings["in_channels"], *size, dtype=torch.float64)
    z = layer(x)
    parent = nn.Conv2d(**settings).double()
    parent.load_state_dict(layer.state_dict())
    torch.testing.assert_close(z, parent(x))
    G = torch.randn_like(z)
    z.backward(G)
    bias = layer.bias is not None and free_bias
    matrices = [
        reference.with_ones(a, free_weight, bias) for a in reference.patches(layer, x.numpy())
    ]
    return layer, matrices, reference.cotangents(layer, G.numpy())


def truth_by_group(matrices, cotangents, solve):
    return np.concatenate([solve(A, G) for A, G in zip(matrices, cotangents, strict=True)], axis=1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("options", CONV_OPTIONS, ids=str)
def test_conv_exact(options, batch):
    layer, matrices, G = conv_case(Prox(0.7), batch=batch, **options)
    check(layer, truth_by_group(matrices, G, lambda A, g: reference.exact(A, g, 1 / 0.7)))


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("size", [(3, 3), (9, 8)])  # dual, primal
@pytest.mark.parametrize("free", [(True, False), (False, True), (True, True)])
def test_conv_damping_and_frozen_parameters(damping, size, free):
    layer, matrices, G = conv_case(Prox(0.7, damping=damping), 1, size, *free, groups=2, padding=0)
    check(
        layer,
        truth_by_group(
            matrices, G, lambda A, g: reference.exact(A, g, reference.damping(damping, A, 0.7))
        ),
    )


@pytest.mark.parametrize("options", CONV_OPTIONS[:9], ids=str)
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("eps", [None, 1e-6])
def test_conv_cg_per_filter(options, iterations, eps):
    solver = CG(iterations, tol=0.0, eps=eps, per_filter=True)
    layer, matrices, G = conv_case(Prox(0.7, solver), **options)
    truth = truth_by_group(
        matrices, G, lambda A, g: reference.cg(A, g, 1 / 0.7, iterations, eps=eps or 0.0)
    )
    check(layer, truth)


@pytest.mark.parametrize("iterations", [1, 3, 6])
@pytest.mark.parametrize("options", CONV_OPTIONS[:3] + CONV_OPTIONS[10:12], ids=str)
def test_conv_cg_flattened(options, iterations):
    layer, (A,), (G,) = conv_case(Prox(0.7, CG(iterations, tol=0.0)), **options)
    check(layer, reference.cg(A, G, 1 / 0.7, iterations, flat=True))


def test_conv_cg_flattened_runs_one_recurrence_over_all_groups():
    solver = CG(2, tol=0.0)
    layer, matrices, G = conv_case(Prox(0.7, solver), groups=2, padding=1)
    n, m = matrices[0].shape[1], G[0].shape[1]
    # the flattened layer as one dense system: a block per output
    blocks = [np.kron(np.eye(m), A) for A in matrices]
    rows = [block.shape[0] for block in blocks]
    A = np.zeros((sum(rows), 2 * m * n))
    A[: rows[0], : m * n], A[rows[0] :, m * n :] = blocks
    g = np.concatenate([part.reshape(-1, order="F") for part in G])[:, None]
    truth = reference.cg(A, g, 1 / 0.7, 2)[:, 0].reshape(2 * m, n).T
    check(layer, truth)


def test_both_forms_of_every_solver_are_exercised():
    """The cases above choose by cost; here every form is forced to agree with the others."""
    torch.manual_seed(3)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    system = ProximalSystem(
        ConvPatches(x, (3, 3), padding=(1, 1)), torch.randn(2, 4, 5, 5, dtype=torch.float64), 0.4
    )
    dense = system.unfolded()
    directions = [
        Exact().solve(case, Ladder(start=rung), form=form).direction.joined()
        for rung in (Rung.CHOLESKY, Rung.EIGH)
        for case, form in ((system, "primal"), (system, "dual"), (dense, "primal"))
    ]
    many = CG(60, tol=0.0, per_filter=True)
    for form, case in itertools.product(FORMS, (system, dense)):
        if case is dense or form in ("operator", "primal"):
            directions.append(iterate(many, case, form))
    for direction in directions[1:]:
        torch.testing.assert_close(direction, directions[0], rtol=1e-6, atol=1e-8)
    assert Exact().solve(system, Ladder()).direction.joined().shape == (1, 4, 28)
