"""K-FAC where LAPACK finds no eigenvectors of a factor that is finite."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from engine.events import Diverged, LadderClimbed, StepsDone
from engine.losses import LOSSES
from engine.methods import Batch, Position
from engine.solvers import Rung
from proxprop_cli.commands.options import build_config
from tests.engine import small
from tests.engine.methods.test_kfac import (
    DAMPING,
    batch_of,
    counts_of,
    method_for,
    small_net,
    step,
)
from tests.engine.reference import relative, with_ones


def without_eigenvectors(monkeypatch, dtypes):
    """LAPACK answers matrices of these types with NaN and no error."""
    eigh = torch.linalg.eigh

    def failing(matrix):
        found = eigh(matrix)
        if matrix.dtype not in dtypes:
            return found
        return tuple(torch.full_like(part, torch.nan) for part in found)

    monkeypatch.setattr(torch.linalg, "eigh", failing)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_eigenvectors_that_float32_does_not_find_are_those_of_float64(kind, monkeypatch):
    model, batch = small_net(kind).float(), batch_of(kind)
    batch = Batch(batch.indices, batch.inputs.float(), batch.targets)
    expected, _ = step(model, batch, fisher="empirical")
    without_eigenvectors(monkeypatch, {torch.float32})
    model.zero_grad()
    method = method_for(model, fisher="empirical")
    method.directions(batch, Position(1.0), record=False)
    for name, value in model.named_parameters():
        assert relative(value.grad, expected[name].numpy()) < 1e-4
    assert counts_of(method) == {"0": {Rung.FLOAT64: 2}, "3": {Rung.FLOAT64: 2}}
    assert counts_of(method) == {"0": {}, "3": {}}


def test_a_factor_without_eigenvectors_is_its_diagonal(monkeypatch):
    model, batch = small_net("mlp"), batch_of("mlp")
    gradient, _ = step(model, batch, fisher="empirical", damping=1e12)
    without_eigenvectors(monkeypatch, {torch.float64})
    model.zero_grad()
    method = method_for(model, fisher="empirical")
    method.directions(batch, Position(1.0), record=False)
    outputs = model[0](batch.inputs).tanh()
    a = with_ones(outputs.detach().numpy())
    logits = model[3](outputs)
    g = torch.autograd.grad(LOSSES["cross-entropy"](logits, batch.targets).sum(), logits)[0]
    diagonal = torch.outer(g.square().mean(0), torch.from_numpy(a).square().mean(0))
    expected = 1e12 * gradient["3.weight"] / (diagonal[:, :-1] + DAMPING)
    assert relative(model[3].weight.grad, expected.numpy()) < 1e-9
    assert counts_of(method) == {"0": {Rung.OTHER_BASIS: 2}, "3": {Rung.OTHER_BASIS: 2}}


def test_one_sample_a_step_does_not_diverge():
    """Factors of rank one: float32 LAPACK gives NaN for one of step 24, as if the run diverged."""
    config = build_config("digits-mlp", ["data.train_samples=100"], "kfac", {"batch_size": 1})
    script = small.stopping_at(40)
    _, events = small.run(config, script)
    assert not [event for event in events if isinstance(event, Diverged)]
    assert sum(len(event.steps) for event in events if isinstance(event, StepsDone)) == 40


def test_directions_of_one_sample_are_those_of_float64():
    torch.manual_seed(0)
    layers = (nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    model = nn.Sequential(*layers)
    double = copy.deepcopy(model).double()
    data = small.dataset(small.config())
    methods = [method_for(net, fisher="empirical", damping=0.1) for net in (model, double)]
    for index in range(40):
        inputs, labels = data.batch(data.train, torch.tensor([index]))
        inputs = inputs.flatten(1)
        double.load_state_dict(model.state_dict())
        for net, method, dtype in zip(
            (model, double), methods, (torch.float32, torch.float64), strict=True
        ):
            net.zero_grad()
            batch = Batch(torch.tensor([index]), inputs.to(dtype), labels)
            method.directions(batch, Position(1.0), record=False)
        for own, truth in zip(model.parameters(), double.parameters(), strict=True):
            assert relative(own.grad, truth.grad.numpy()) < 1e-3
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad


def test_fallbacks_of_a_run_are_told_by_layer(monkeypatch):
    without_eigenvectors(monkeypatch, {torch.float32})
    _, events = small.run(small.config("kfac", method__tau=0.01, epochs=1))
    counts = {}
    for event in events:
        if isinstance(event, LadderClimbed):
            counts[event.layer] = counts.get(event.layer, 0) + event.counts["float64"]
    assert counts == {"1": 8, "3": 8}  # two factors, four steps
    assert events[-1].status == "finished"
