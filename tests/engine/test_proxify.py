"""Layers of models of other people made proximal, and the statistics of solvers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine import CG, Exact, Prox, ProxConv2d, ProxLinear, proxify, solver_stats
from engine.data.torchvision_import import import_torchvision
from engine.layers import prox_layers


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_proxify_torchvision_models(name):
    """Weights, names and keys stay; all but the last Linear/Conv2d become proximal; it trains."""
    models = import_torchvision().models
    torch.manual_seed(0)
    model = getattr(models, name)(num_classes=4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ids = {key: id(module) for key, module in model.named_modules()}
    plain = [k for k, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert proxify(model, Prox(0.1, CG(1))) is model
    assert {key: id(module) for key, module in model.named_modules()} == ids
    assert list(model.state_dict()) == list(before)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert [key for key, _ in prox_layers(model)] == plain[:-1]
    x = torch.randn(2, 3, 64, 64)
    loss = nn.functional.cross_entropy(model(x), torch.tensor([0, 1]))
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    if name == "resnet18":
        assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_proxify_changes_settings_of_layers_that_are_proximal_already():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    proxify(model, Prox(0.1))
    proxify(model, Prox(0.2))
    assert [layer.prox.tau_theta for _, layer in prox_layers(model)] == [0.2, 0.2]
    assert type(model[2]) is nn.Linear


def test_proxify_leaves_subclasses_alone():
    attention = nn.MultiheadAttention(4, 2)
    model = nn.Sequential(nn.Linear(4, 4), attention, nn.Linear(4, 2))
    proxify(model, Prox())
    assert not isinstance(attention.out_proj, ProxLinear)


class TestStats:
    def test_nobody_asks_nothing_is_computed(self, monkeypatch):
        def fail(*_):
            raise AssertionError("statistics although nobody asked")

        for module in ("engine.solvers.exact", "engine.solvers.cg"):
            monkeypatch.setattr(f"{module}.quality", fail)
        for solver in (Exact(), CG(2), CG(9)):
            ProxLinear(4, 2, prox=Prox(1.0, solver))(torch.randn(3, 4)).sum().backward()

    @pytest.mark.parametrize(
        ("solver", "rows", "form", "size"),
        [
            (Exact(), 3, "dual", 3),
            (Exact(), 50, "primal", 7),
            (CG(3, tol=0.0), 3, "dual", 3),
            (CG(3, tol=0.0), 500, "primal", 7),
        ],
    )
    def test_linear(self, solver, rows, form, size):
        torch.manual_seed(0)
        model = nn.Sequential(ProxLinear(6, 4, prox=Prox(0.5, solver)))
        with solver_stats(model) as stats:
            model(torch.randn(rows, 6)).square().mean().backward()
        found = stats["0"].to_host()
        assert (found.form, found.size, found.beta, found.rung) == (form, size, 2.0, 0)
        assert 0 < found.cosine <= 1 + 1e-6
        if isinstance(solver, Exact):
            assert found.true_residual < 1e-5
            assert found.stop_reason == "direct"
        else:
            assert found.iterations == 3
            assert len(found.residuals) == 4
            assert found.residuals[0] == 1.0
            assert found.stop_reason == "max iterations"
            # recurrence and truth agree while the residual is far above rounding
            assert found.residuals[-1] == pytest.approx(found.true_residual, rel=1e-2, abs=1e-5)

    def test_converged_cg_says_so_and_counts_its_iterations(self):
        torch.manual_seed(0)
        layer = ProxLinear(6, 4, prox=Prox(1e-6, CG(50)))
        with solver_stats(layer) as stats:
            layer(torch.randn(30, 6)).square().mean().backward()
        found = stats[""].to_host()
        assert found.stop_reason == "converged"
        assert found.iterations < 50
        assert len(found.residuals) == found.iterations + 1

    def test_recording_does_not_change_the_direction(self):
        torch.manual_seed(0)
        for solver in (Exact(), CG(3)):
            layer = ProxLinear(20, 4, prox=Prox(0.5, solver))
            x = torch.randn(5, 20)
            layer(x).sum().backward()
            plain = layer.weight.grad.clone()
            layer.zero_grad()
            with solver_stats(layer):
                layer(x).sum().backward()
            assert torch.equal(plain, layer.weight.grad)

    def test_convolution(self):
        torch.manual_seed(0)
        layer = ProxConv2d(2, 3, 3, prox=Prox(0.5, CG(2, tol=0.0, per_filter=True)))
        with solver_stats(layer) as stats:
            layer(torch.randn(2, 2, 8, 8)).square().mean().backward()
        found = stats[""].to_host()
        assert found.iterations == 2
        assert found.form in ("operator", "primal")
