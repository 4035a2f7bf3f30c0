"""Muon and SOAP beside their libraries, and the state of every optimiser in checkpoints."""

import sys
from collections import Counter

import pytest
import torch
from torch import nn

from engine import checkpoint
from engine.config import OptimizerConfig, resolve
from engine.errors import ConfigError
from engine.events import EpochDone, LadderClimbed
from engine.methods import Batch
from engine.optimizer_state import OptimizerState
from engine.optimizers import build_optimizer, optimizer_config
from tests.engine import small

NETWORKS = {
    "mlp": {"kind": "mlp", "hidden": [12]},
    "convnet": {"kind": "convnet", "channels": [4], "kernel": 3, "pools": 1, "batch_norm": True},
}


def plain(method, steps, make):
    """The training of a small run by hand: optimisers from ``make``; gives the weights."""
    config = small.config(method, model=NETWORKS["convnet"], method__tau=0.01)
    learner = small.trainer(config).learner
    optimizers = make(learner.model)
    for step in range(steps):
        indices = torch.arange(100) + 100 * (step % 3)
        batch = Batch(indices, *learner.dataset.batch(learner.dataset.train, indices))
        learner.model.zero_grad()
        nn.functional.cross_entropy(learner.model(batch.inputs), batch.targets).backward()
        for optimizer in optimizers:
            optimizer.step()
    return learner.model.state_dict()


def ours(method, steps):
    """The same by the learner."""
    config = small.config(method, model=NETWORKS["convnet"], method__tau=0.01)
    learner = small.trainer(config).learner
    for step in range(steps):
        learner.step(torch.arange(100) + 100 * (step % 3), 0.01)
    return learner.model.state_dict()


def test_muon_moves_matrices_and_adamw_the_rest():
    def make(model):
        matrices = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        assert len(matrices) == 1
        scaled = {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.0}
        return (
            torch.optim.Muon(matrices, lr=0.01, momentum=0.95, nesterov=True, **scaled),
            torch.optim.AdamW(others, lr=0.01, weight_decay=0.0),
        )

    expected, found = plain("muon", 5, make), ours("muon", 5)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_soap_is_that_of_the_library():
    from pytorch_optimizer import SOAP

    def make(model):
        return (SOAP(model.parameters(), lr=0.01, betas=(0.95, 0.95), weight_decay=0.0),)

    expected, found = plain("soap", 25, make), ours("soap", 25)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def soap_losses(events):
    return [event.metrics["train_loss"] for event in events if isinstance(event, EpochDone)]


def soap_counts(events):
    found = [event for event in events if isinstance(event, LadderClimbed)]
    assert {event.layer for event in found} <= {"SOAP"}
    return sum((Counter(event.counts) for event in found), Counter())


def nothing(matrix, *_):
    """LAPACK's answer where it finds nothing and does not say so."""
    return torch.full(matrix.shape[:-1], torch.nan), torch.full_like(matrix, torch.nan)


@pytest.mark.parametrize("raises", [True, False])
def test_soap_without_eigenvectors_begins_in_the_parameters_own_axes(raises, monkeypatch):
    def failing(matrix):
        if raises:
            raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")
        return nothing(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    _, events = small.run(small.config("soap", method__tau=0.01, epochs=5))
    losses = soap_losses(events)
    assert losses[-1] < 0.97 * losses[0]
    assert soap_counts(events) == {"other basis": 4}  # two axes of two weights


def test_soap_keeps_a_basis_whose_successor_is_not_found(monkeypatch):
    monkeypatch.setattr(torch.linalg, "qr", lambda matrix: (nothing(matrix)[1], None))
    made, events = small.run(small.config("soap", method__tau=0.01, epochs=6))
    losses = soap_losses(events)
    assert losses[-1] < 0.97 * losses[0]
    assert soap_counts(events) == {"other basis": 4}  # steps 10 and 20, two weights
    for state in made.learner.optimizer.state.values():
        for basis in filter(len, state["Q"]):
            torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)), atol=1e-4, rtol=0)


def test_soap_of_gradients_that_overflow_is_a_divergence(monkeypatch):
    """The library raised, from within a training step."""
    made = small.trainer(small.config("soap", epochs=1))
    directions = made.learner.method.directions

    def infinite(*arguments, **settings):
        found = directions(*arguments, **settings)
        for parameter in made.learner.model.parameters():
            parameter.grad.fill_(1e30)
        return found

    monkeypatch.setattr(made.learner.method, "directions", infinite)
    ended = list(made.events())[-1]
    assert ended.status == "diverged"
    assert ended.step == 1


def test_only_the_weight_decay_is_the_configuration_s():
    given = {"name": "adam", "weight_decay": 0.1, "beta1": 0.5}
    for name, expected in {
        "muon": OptimizerConfig(name="muon", momentum=0.95, nesterov=True, weight_decay=0.1),
        "soap": OptimizerConfig(name="soap", beta1=0.95, beta2=0.95, weight_decay=0.1),
    }.items():
        assert optimizer_config(resolve({"optimizer": given}, method=name)) == expected


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ConfigError, match=r"pip install 'proxprop\[baselines\]'"):
        small.trainer(small.config("soap"))


@pytest.mark.parametrize("settings", [{"method": "soap"}, {"optimizer__name": "soap"}])
def test_soap_has_no_graph(settings):
    method = settings.pop("method", "backprop")
    with pytest.raises(ConfigError, match=r"cuda_graph: not possible with .* 'soap'"):
        small.config(method, **settings, optimizer__nesterov=False, cuda_graph=True)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon", "soap"])
@pytest.mark.parametrize("stop", [1, 11])
def test_a_resumed_run_has_the_same_bits(name, network, stop, tmp_path):
    nesterov = name in ("sgd", "muon")
    config = small.config(
        "exact",
        optimizer={"name": name, "momentum": 0.9 if nesterov else 0.0, "nesterov": nesterov},
        model=NETWORKS[network],
        method__tau=0.01,
        epochs=6,
    )
    whole, events = small.run(config)
    losses = [event.metrics["train_loss"] for event in events if isinstance(event, EpochDone)]
    assert losses[-1] < losses[0]
    snapshot = small.kept_at(config, stop, tmp_path)
    resumed = small.trainer(config, resume=snapshot)
    list(resumed.events())
    assert small.weights(resumed) == small.weights(whole)


class Keeper(torch.optim.Optimizer):
    """Keeps every kind of state."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure=None):
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            for parameter in group["params"]:
                self.state[parameter] = {
                    "matrix": torch.arange(6.0).reshape(2, 3),
                    "turned": torch.arange(24.0).reshape(4, 3, 2).permute(1, 2, 0),
                    "number": torch.tensor(2.5),
                    "count": group["step"],
                    "rate": 0.1,
                    "ready": True,
                    "missing": None,
                    "list": [
                        torch.eye(2).T,
                        [],
                        [torch.ones(1), 3],
                        *(torch.zeros(n) for n in range(9)),
                    ],
                }


def keeper():
    optimizer = Keeper([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))])
    return optimizer, OptimizerState(optimizer)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.stride() == other.stride()
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_every_kind_of_state_comes_back_through_a_file(tmp_path):
    optimizer, state = keeper()
    optimizer.step()
    hashes = checkpoint.write(tmp_path, 1, checkpoint.Snapshot(state.tensors(), {}))
    optimizer.step()
    other, its = keeper()
    its.restore(checkpoint.read(tmp_path, 1, hashes).tensors)
    assert [group["step"] for group in other.param_groups] == [1]
    for found, kept in zip(other.state.values(), optimizer.state.values(), strict=True):
        assert found.keys() == kept.keys() - {"missing"}
        assert found["count"] == 1
        assert all(same(kept[name], found[name]) for name in found.keys() - {"count"})


def test_what_is_restored_is_a_copy():
    optimizer, state = keeper()
    optimizer.step()
    tensors = state.tensors()
    other, its = keeper()
    its.restore(tensors)
    next(iter(other.state.values()))["matrix"].zero_()
    assert tensors["0/matrix"].any()


def test_going_back_to_the_start_forgets_what_came_later():
    optimizer, state = keeper()
    start = state.tensors()
    assert start == {}
    optimizer.step()
    state.restore(start)
    assert not optimizer.state
    assert optimizer.param_groups[0].keys() == {"params", "lr"}


def test_checkpoints_of_plain_tensors_are_read_as_ever():
    """Those of the first versions hold ``<parameter>/<name>`` only."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter])
    old = {"0/step": torch.tensor(3.0), "0/exp_avg": torch.ones(2), "0/exp_avg_sq": torch.ones(2)}
    OptimizerState(optimizer).restore(old)
    assert {name: value.tolist() for name, value in optimizer.state[parameter].items()} == {
        "step": 3.0,
        "exp_avg": [1, 1],
        "exp_avg_sq": [1, 1],
    }
    assert OptimizerState(optimizer).tensors().keys() == old.keys()


def test_state_that_can_not_be_kept_is_no_secret():
    optimizer, state = keeper()
    optimizer.step()
    next(iter(optimizer.state.values()))["rate"] = "fast"
    with pytest.raises(TypeError, match=r"0/rate: .* str"):
        state.tensors()


def test_an_optimiser_of_matrices_only_has_no_second_part():
    optimizer = build_optimizer(
        OptimizerConfig(name="muon", momentum=0.9), [nn.Parameter(torch.ones(2, 2))], 0.1
    )
    assert len(optimizer.param_groups) == 1
    parameter = optimizer.param_groups[0]["params"][0]
    before = parameter.detach().clone()
    for _ in range(2):
        parameter.grad = torch.eye(2)
        optimizer.step()
    assert not torch.equal(parameter, before)
