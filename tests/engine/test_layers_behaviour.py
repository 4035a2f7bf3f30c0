"""The layers behave as their parents in everything but the direction."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from engine import CG, Exact, Prox, ProxConv2d, ProxLinear, proxify
from engine.solvers.cg_iterations import StepSizes

BOTH = pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: ProxLinear(5, 3, prox=Prox(0.5)), (7, 5)),
        (lambda: ProxConv2d(2, 3, 3, padding=1, prox=Prox(0.5)), (2, 2, 6, 5)),
        (lambda: ProxConv2d(2, 3, 3, padding=1, prox=Prox(0.5, CG(2))), (2, 2, 6, 5)),
    ],
    ids=["linear", "conv", "conv-cg"],
)


@BOTH
def test_input_gradient_is_the_parents(make, shape):
    torch.manual_seed(0)
    layer = make().double()
    parent_class = nn.Linear if isinstance(layer, ProxLinear) else nn.Conv2d
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    layer(x).square().sum().backward()
    found = x.grad.clone()
    x.grad = None
    parent_class.forward(layer, x).square().sum().backward()
    torch.testing.assert_close(found, x.grad)


@BOTH
def test_second_backward_on_one_graph_and_accumulation(make, shape):
    torch.manual_seed(0)
    layer = make()
    x = torch.randn(*shape)
    loss = layer(x).square().sum()
    loss.backward(retain_graph=True)
    once = layer.weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(layer.weight.grad, 2 * once)
    layer(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, 3 * once)
    assert layer.bias.grad.shape == layer.bias.shape


@BOTH
def test_accumulated_micro_batches_are_the_sum_of_their_directions(make, shape):
    torch.manual_seed(0)
    layer = make()
    parts = [torch.randn(*shape) for _ in range(2)]
    single = []
    for part in parts:
        layer.zero_grad()
        layer(part).square().sum().backward()
        single.append(layer.weight.grad.clone())
    layer.zero_grad()
    for part in parts:
        layer(part).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, single[0] + single[1])


@BOTH
def test_no_grad_evaluation_and_frozen_layers_are_plain(make, shape):
    layer = make()
    x = torch.randn(*shape)
    with torch.no_grad():
        assert not layer(x).requires_grad
    layer.requires_grad_(False)
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


@BOTH
def test_empty_batch_gives_zero_directions(make, shape):
    layer = make()
    layer(torch.randn(0, *shape[1:])).sum().backward()
    assert (layer.weight.grad == 0).all()
    assert (layer.bias.grad == 0).all()


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_float32_directions(make, shape, dtype):
    torch.manual_seed(0)
    layer = make()
    x = torch.randn(*shape)
    layer(x).square().mean().backward()
    full = layer.weight.grad.clone()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=dtype):
        z = layer(x)
        assert z.dtype == dtype
        loss = z.float().square().mean()
    loss.backward()
    assert layer.weight.grad.dtype == torch.float32
    # the forward pass is rounded to 8 bits, the system is not
    torch.testing.assert_close(layer.weight.grad, full, rtol=0.1, atol=0.02 * full.abs().max())


@BOTH
def test_backward_inside_autocast_is_not_rounded(make, shape):
    torch.manual_seed(0)
    layer = make()
    x = torch.randn(*shape)
    grads = []
    for enabled in (False, True):
        layer.zero_grad()
        loss = layer(x).square().mean()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss.backward()
        grads.append(layer.weight.grad.clone())
    assert torch.equal(*grads)


@BOTH
def test_zero_inputs_and_trace_damping(make, shape):
    layer = make()
    layer.prox = Prox(1.0, layer.prox.solver, "trace")
    layer.bias.requires_grad_(False)  # its column of ones has a trace of its own
    layer(torch.zeros(*shape)).sum().backward()
    assert (layer.weight.grad == 0).all()


@BOTH
def test_bfloat16_parameters_get_bfloat16_directions(make, shape):
    layer = make().to(torch.bfloat16)
    layer(torch.randn(*shape, dtype=torch.bfloat16)).sum().backward()
    assert layer.weight.grad.dtype == torch.bfloat16
    assert torch.isfinite(layer.weight.grad).all()


@BOTH
def test_second_derivatives_are_refused(make, shape):
    layer = make()
    (grad,) = torch.autograd.grad(
        layer(torch.randn(*shape)).square().sum(), layer.weight, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@BOTH
def test_copies_pickles_and_state_dicts(make, shape):
    layer = make()
    parent = nn.Linear(5, 3) if isinstance(layer, ProxLinear) else nn.Conv2d(2, 3, 3)
    assert list(layer.state_dict()) == list(parent.state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        x = torch.randn(*shape)
        layer.zero_grad()
        layer(x).sum().backward()
        twin(x).sum().backward()
        torch.testing.assert_close(twin.weight.grad, layer.weight.grad)
        assert twin.ladder is not layer.ladder
    assert "tau_theta=0.5" in repr(layer)


@pytest.mark.parametrize("solver", [Exact(), CG(2), CG(9)], ids=lambda solver: solver.name)
@pytest.mark.parametrize("rows", [4, 40])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_inputs_give_not_finite_directions_and_no_exception(solver, rows, value):
    layer = ProxLinear(12, 3, prox=Prox(1.0, solver))
    x = torch.randn(rows, 12)
    x[0, 0] = value
    layer(x).sum().backward()
    assert not torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize("eps", [None, 1e-6])
@pytest.mark.parametrize("iterations", [2, 9])
@pytest.mark.parametrize("rows", [4, 40])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stays_visible(value, rows, iterations, eps):
    layer = ProxLinear(12, 3, prox=Prox(1.0, CG(iterations, eps=eps)))
    G = torch.randn(rows, 3)
    G[0, 0] = value
    layer(torch.randn(rows, 12)).backward(G)
    assert not torch.isfinite(layer.weight.grad).all()


def test_settings_changed_after_construction_count():
    """As when a network's strides are traded for dilations."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1, stride=2)
    conv.padding, conv.dilation, conv.stride = (2, 2), (2, 2), (1, 1)
    model = nn.Sequential(conv, nn.Flatten(), nn.Linear(4 * 64, 2))
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    torch.testing.assert_close(proxify(model, Prox())(x), expected)
    same = nn.Conv2d(3, 4, 3, padding="same")
    same.dilation = (2, 1)
    model = nn.Sequential(same, nn.Flatten(), nn.Linear(4 * 64, 2))
    expected = model(x)
    torch.testing.assert_close(proxify(model, Prox())(x), expected)


def test_a_column_at_rounding_level_is_left_alone():
    """The scale-free guard: its step is zero, however small the others are."""
    steps = StepSizes(torch.tensor([1.0, 1e-20]), tol=0.0, eps=None, record=False)
    machine = torch.finfo(torch.float32).eps
    steps.advance(torch.tensor([0.5 * machine**2, 1e-24]))
    lengths = steps.length(torch.ones(2))
    assert lengths[0] == 0
    assert lengths[1] > 0


def test_unbatched_convolution():
    torch.manual_seed(0)
    layer = ProxConv2d(2, 3, 3)
    x = torch.randn(2, 6, 5)
    z = layer(x)
    assert z.shape == (3, 4, 3)
    z.square().sum().backward()
    unbatched = layer.weight.grad.clone()
    layer.zero_grad()
    layer(x[None]).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, unbatched)


def test_vector_input_is_a_batch_of_one():
    torch.manual_seed(0)
    layer = ProxLinear(4, 2)
    x = torch.randn(4)
    layer(x).sum().backward()
    single = layer.weight.grad.clone()
    layer.zero_grad()
    layer(x[None]).sum().backward()
    torch.testing.assert_close(layer.weight.grad, single)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_any_optimiser_takes_the_direction(optimizer):
    torch.manual_seed(0)
    model = proxify(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)), Prox(1.0))
    opt = optimizer(model.parameters(), lr=0.01)
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    losses = []
    for _ in range(30):
        opt.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_exact_sgd_step_solves_the_least_squares_problem():
    """tau = 1 and huge tau_theta on one linear layer: the step lands on the least squares fit."""
    torch.manual_seed(0)
    layer = ProxLinear(3, 1, prox=Prox(1e12)).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()
    (0.5 * (layer(x) - y).square().sum()).backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter -= parameter.grad
    A = torch.cat([x, torch.ones(20, 1)], 1)
    fit = torch.linalg.lstsq(A, y).solution
    torch.testing.assert_close(torch.cat([layer.weight, layer.bias[:, None]], 1).T, fit)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau_theta": 0.0}, "tau_theta"),
        ({"tau_theta": float("nan")}, "tau_theta"),
        ({"tau_theta": float("inf")}, "tau_theta"),
        ({"damping": "max"}, "damping"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Prox(**settings)


@pytest.mark.parametrize(
    "settings", [{"max_iterations": 0}, {"tol": -1.0}, {"tol": 1.0}, {"eps": 0.0}, {"eps": -1.0}]
)
def test_bad_cg_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        CG(**settings)


def test_public_signatures():
    assert Prox() == Prox(tau_theta=1.0, solver=Exact(), damping="sum")
    assert CG() == CG(max_iterations=3, tol=1e-2, eps=None, per_filter=False)
