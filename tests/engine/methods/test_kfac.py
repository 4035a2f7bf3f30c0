"""K-FAC against its formula, written out in float64 with matrices that hold every entry."""

import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from engine.config import resolve
from engine.errors import CheckpointError, ConfigError
from engine.losses import LOSSES
from engine.methods import Batch, Position, Problem, build_method
from engine.solvers import Rung
from tests.engine import small
from tests.engine.reference import patches, relative, with_ones

DAMPING = 0.03
CPU = torch.device("cpu")


def small_net(kind):
    torch.manual_seed(3)
    first = nn.Linear(5, 4) if kind == "mlp" else nn.Conv2d(2, 3, 3, padding=1)
    rest = [nn.Tanh(), nn.Flatten(), nn.Linear(4 if kind == "mlp" else 3 * 4 * 3, 3)]
    return nn.Sequential(first, *rest).double()


def batch_of(kind, size=7, loss="cross-entropy"):
    generator = torch.Generator().manual_seed(5)
    shape = (size, 5) if kind == "mlp" else (size, 2, 4, 3)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (size,), generator=generator)
    targets = inputs.flatten(1)[:, :3] if loss == "reconstruction" else labels
    return Batch(torch.arange(size), inputs, targets)


def method_for(model, loss="cross-entropy", **settings):
    document = {"method": {"name": "kfac", "kfac": {"damping": DAMPING, **settings}}, "loss": loss}
    if loss == "reconstruction":
        document["model"] = {"kind": "autoencoder"}
    return build_method(Problem(resolve(document), model, LOSSES[loss], 7, CPU))


def step(model, batch, loss="cross-entropy", **settings):
    """The directions by name of parameter, and the loss."""
    model.zero_grad()
    found = method_for(model, loss, **settings).directions(batch, Position(1.0), record=True)
    return {name: p.grad.clone() for name, p in model.named_parameters()}, found


def hessian_at_outputs(outputs, loss):
    """Of one sample's loss, ``(m, m)``."""
    if loss != "cross-entropy":
        return torch.eye(len(outputs), dtype=torch.float64)
    p = outputs.softmax(0)
    return torch.diag(p) - torch.outer(p, p)


def root_of(matrix):
    """R with R R^T the matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt()


def truth(model, batch, loss, fisher):
    """(kron(B, A) + damping I)^{-1} vec(grad) of both layers, ``(m, n)`` with the bias last."""
    layers = [module for module in model if isinstance(module, nn.Linear | nn.Conv2d)]
    inputs, values = [], []
    outputs = batch.inputs
    for module in model:
        if module in layers:
            inputs.append(outputs.detach())
        outputs = module(outputs)
        if module in layers:
            values.append(outputs)
    losses = LOSSES[loss](outputs, batch.targets)
    found = []
    for layer, a, z in zip(layers, inputs, values, strict=True):
        conv = isinstance(layer, nn.Conv2d)
        A = with_ones(patches(layer, a.numpy())[0] if conv else a.numpy())
        a_factor = A.T @ A / len(A)
        if fisher == "empirical":
            roots = [losses.sum()]
        else:
            half = [root_of(hessian_at_outputs(f.detach(), loss)) for f in outputs]
            roots = [sum(f @ h[:, c] for f, h in zip(outputs, half, strict=True)) for c in range(3)]
        b_factor = 0
        for root in roots:
            g = torch.autograd.grad(root, z, retain_graph=True)[0]
            g = g.permute(0, 2, 3, 1).reshape(-1, g.shape[1]) if conv else g
            b_factor = b_factor + (g.T @ g).numpy() / len(batch.inputs)
        weight, bias = torch.autograd.grad(losses.mean(), (layer.weight, layer.bias), None, True)
        gradient = np.concatenate([weight.flatten(1).numpy(), bias.numpy()[:, None]], axis=1)
        dense = np.kron(b_factor, a_factor) + DAMPING * np.eye(gradient.size)
        found.append(np.linalg.solve(dense, gradient.ravel()).reshape(gradient.shape))
    return found


@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "reconstruction"])
@pytest.mark.parametrize("fisher", ["empirical", "type-2"])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_directions_are_those_of_the_formula(kind, fisher, loss):
    model, batch = small_net(kind), batch_of(kind, loss=loss)
    expected = truth(model, batch, loss, fisher)
    directions, found = step(model, batch, loss, fisher=fisher)
    mean = LOSSES[loss](model(batch.inputs), batch.targets).mean().detach()
    assert float(found.loss) == pytest.approx(float(mean))
    for name, V in zip(("0", "3"), expected, strict=True):
        assert relative(directions[f"{name}.weight"].flatten(1), V[:, :-1]) < 1e-10
        assert relative(directions[f"{name}.bias"], V[:, -1]) < 1e-10


def test_the_inverse_is_that_of_the_library():
    from curvlinops import KFACInverseLinearOperator, KFACLinearOperator

    model, batch = small_net("conv"), batch_of("conv")
    parameters = list(model.parameters())
    operator = KFACLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        parameters,
        [(batch.inputs, batch.targets)],
        fisher_type="empirical",
        separate_weight_and_bias=False,
    )
    inverse = KFACInverseLinearOperator(operator, damping=DAMPING, use_exact_damping=True)
    loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
    expected = inverse @ list(torch.autograd.grad(loss, parameters))
    directions, _ = step(model, batch, fisher="empirical")
    for name, V in zip(directions, expected, strict=True):
        assert relative(directions[name], V.numpy()) < 1e-10


@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "reconstruction"])
def test_drawn_labels_give_the_exact_curvature_on_average(loss):
    model, one = small_net("mlp"), batch_of("mlp", 1, loss)
    parts = (one.indices, one.inputs, one.targets)
    many = Batch(*(part.repeat_interleave(40_000, 0) for part in parts))
    torch.manual_seed(1)
    drawn, _ = step(model, many, loss, fisher="mc")
    exact, _ = step(model, one, loss, fisher="type-2")
    for name, V in exact.items():
        assert relative(drawn[name], V.numpy()) < 0.03


def test_draws_come_from_the_global_generator():
    model, batch = small_net("mlp"), batch_of("mlp")
    torch.manual_seed(7)
    first, _ = step(model, batch, fisher="mc")
    torch.manual_seed(7)
    again, _ = step(model, batch, fisher="mc")
    later, _ = step(model, batch, fisher="mc")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], later["0.weight"])


def test_of_a_linear_model_and_all_samples_it_is_gauss_newton():
    """One step of size 1 goes to the least-squares solution."""
    torch.manual_seed(2)
    model, batch = nn.Sequential(nn.Linear(5, 3)).double(), batch_of("mlp", 20, "reconstruction")
    A = with_ones(batch.inputs.numpy())
    theta = np.linalg.lstsq(A, batch.targets.numpy() - 0.0, rcond=None)[0]
    directions, _ = step(model, batch, "reconstruction", fisher="type-2", damping=1e-13)
    weight = model[0].weight.detach() - directions["0.weight"]
    bias = model[0].bias.detach() - directions["0.bias"]
    assert relative(torch.cat([weight, bias[:, None]], 1).T, theta) < 1e-8


def test_of_one_sample_the_last_layer_is_gauss_newton_with_any_loss():
    """The Gauss-Newton matrix of a linear model and one sample is a Kronecker product."""
    model, batch = nn.Sequential(nn.Linear(5, 3)).double(), batch_of("mlp", 1)
    outputs = model(batch.inputs)[0]
    a = with_ones(batch.inputs.numpy())[0]
    J = np.kron(np.eye(3), a)
    H = hessian_at_outputs(outputs.detach(), "cross-entropy").numpy()
    residual = outputs.detach().softmax(0).numpy()
    residual[batch.targets[0]] -= 1
    gradient = J.T @ residual
    expected = np.linalg.solve(J.T @ H @ J + DAMPING * np.eye(18), gradient).reshape(3, 6)
    directions, _ = step(model, batch, fisher="type-2")
    assert relative(directions["0.weight"], expected[:, :-1]) < 1e-10
    assert relative(directions["0.bias"], expected[:, -1]) < 1e-10


def test_strong_damping_leaves_the_gradient():
    model, batch = small_net("mlp"), batch_of("mlp")
    directions, _ = step(model, batch, fisher="empirical", damping=1e8)
    gradient = torch.autograd.grad(
        nn.functional.cross_entropy(model(batch.inputs), batch.targets), model[0].weight
    )[0]
    assert relative(1e8 * directions["0.weight"], gradient.numpy()) < 1e-6


def test_batch_normalisation_has_its_gradient_and_sees_every_batch_once():
    def made():
        torch.manual_seed(4)
        layers = (nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
        return nn.Sequential(*layers).double()

    batch, model, plain = batch_of("mlp"), made(), made()
    directions, _ = step(model, batch)
    nn.functional.cross_entropy(plain(batch.inputs), batch.targets).backward()
    for name in ("1.weight", "1.bias"):
        assert torch.equal(directions[name], plain.get_parameter(name).grad)
    assert not torch.allclose(directions["0.weight"], plain[0].weight.grad)
    for name, value in plain.named_buffers():
        assert torch.equal(model.get_buffer(name), value)
    assert model[1].track_running_stats


def test_skip_connections_are_no_obstacle():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.outer(x + torch.tanh(self.inner(x)))

    torch.manual_seed(0)
    directions, _ = step(Skip().double(), batch_of("mlp"), fisher="type-2")
    assert all(value.isfinite().all() and value.any() for value in directions.values())


def test_a_curvature_serves_for_the_steps_asked_for():
    model, batch = small_net("mlp"), batch_of("mlp")
    method = method_for(model, fisher="empirical", update_every=3)
    other = Batch(batch.indices, 2 * batch.inputs, batch.targets)
    directions = []
    for given in (batch, other, other, other):
        model.zero_grad()
        method.directions(given, Position(1.0), record=False)
        directions.append(model[0].weight.grad.clone())
    anew, _ = step(model, other, fisher="empirical")
    assert torch.equal(directions[1], directions[2])
    assert not torch.allclose(directions[2], anew["0.weight"])
    assert torch.equal(directions[3], anew["0.weight"])


@pytest.mark.parametrize("fisher", ["mc", "empirical", "type-2"])
@pytest.mark.parametrize("every", [1, 3])
def test_a_resumed_run_has_the_same_bits(fisher, every, tmp_path):
    settings = {"method__tau": 0.02, "epochs": 3, "method__kfac": {"fisher": fisher}}
    config = small.config("kfac", **settings, method__kfac__update_every=every)
    whole, _ = small.run(config)
    snapshot = small.kept_at(config, 5, tmp_path)
    assert any(key.startswith("method/") for key in snapshot.tensors) == (every > 1)
    resumed = small.trainer(config, resume=snapshot)
    list(resumed.events())
    assert small.weights(resumed) == small.weights(whole)


def test_the_curvature_of_another_network_is_refused():
    model, batch = small_net("mlp"), batch_of("mlp")
    method = method_for(model, update_every=2)
    assert method.tensors() == {}
    method.directions(batch, Position(1.0), record=False)
    tensors = method.tensors()
    tensors.pop("blocks/3/inverse")
    with pytest.raises(CheckpointError, match="curvature"):
        method.restore(tensors)


def counts_of(method):
    return {name: ladder.take_counts() for name, ladder in method.ladders().items()}


def test_inputs_that_overflow_leave_the_gradient():
    model, batch = small_net("mlp"), batch_of("mlp")
    huge = Batch(batch.indices, batch.inputs * 1e200, batch.targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = method_for(model, update_every=2)
        found = method.directions(huge, Position(1.0), record=True)
    directions = {name: p.grad for name, p in model.named_parameters()}
    assert counts_of(method) == {"0": {Rung.GRADIENT: 1}, "3": {}}
    gradient = torch.autograd.grad(
        nn.functional.cross_entropy(model(huge.inputs), huge.targets), model[3].weight
    )[0]
    assert found.loss.isfinite()
    assert torch.equal(directions["3.weight"], gradient)


def test_outputs_that_are_not_numbers_stop_nothing():
    model, batch = small_net("mlp"), batch_of("mlp")
    lost = Batch(batch.indices, batch.inputs * float("nan"), batch.targets)
    _, found = step(model, lost, fisher="mc")
    assert found.loss.isnan()


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(ConfigError, match=r"pip install 'proxprop\[baselines\]'"):
        method_for(small_net("mlp"))
