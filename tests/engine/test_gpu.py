"""What only a CUDA device can show: graphs, TF32, steps that wait for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
import torch

from engine import precision
from engine.benchmark import MODELS, Mode, make_step, peak_bytes
from engine.config import RunConfig
from engine.data import load_dataset
from engine.layers import prox_layers
from engine.learner import Learner
from engine.linear_maps import Dense
from engine.solvers import CG, Exact, Ladder, ProximalSystem, Rung
from engine.step_graph import WARM_UP, prepare_optimizer
from engine.training import Trainer
from tests.engine import small
from tests.engine.test_step_graph import OPTIMIZERS
from tests.engine.test_training import METHODS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CUDA = torch.device("cuda")
MODEL_SETTINGS = {
    "mlp": {"model__hidden": [40, 30]},
    "convnet": {"model__kind": "convnet", "model__channels": [4, 6], "method__tau": 0.05},
}
PRECISIONS = ["float32", "tf32", "bf16"]


@pytest.fixture
def no_waiting():
    """Switches torch's errors for waiting on and off."""

    def switch(on: bool) -> None:
        torch.cuda.set_sync_debug_mode("error" if on else "default")

    yield switch
    switch(False)


def dataset(config: RunConfig):
    return load_dataset(config.data, device=CUDA, cache_dir=small.cache_dir())


def learner_of(method: str, model: str = "mlp", **settings) -> Learner:
    config = small.config(method, **(MODEL_SETTINGS[model] | settings))
    return Learner(config, dataset(config), CUDA)


def batch(number: int) -> torch.Tensor:
    return torch.arange(100 * number, 100 * (number + 1), device=CUDA) % 330


@pytest.mark.parametrize("wanted", PRECISIONS)
@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
@pytest.mark.parametrize("model", MODEL_SETTINGS)
@pytest.mark.parametrize("method", [*METHODS, "cg10"])
@pytest.mark.parametrize("graph", [False, True])
def test_no_step_waits_for_the_device(method, model, loss, wanted, graph, no_waiting):
    learner = learner_of(method, model, loss=loss, precision=wanted, cuda_graph=graph)
    for _ in range(WARM_UP + 1):  # the recording itself may wait
        learner.step(batch(0), 0.05)
    indices = batch(1)
    no_waiting(True)
    result = learner.step(indices, 0.04)
    learner.step(indices[:30], 0.04)
    no_waiting(False)
    assert learner.replays_steps == graph
    assert result.loss.isfinite()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", [*METHODS, "cg10"])
@pytest.mark.parametrize("mode", [Mode(), Mode("tf32"), Mode("bf16"), Mode(cuda_graph=True)])
def test_no_step_of_the_paper_s_networks_waits(model, method, mode, no_waiting):
    step = make_step(model, method, 500, CUDA, mode)
    for _ in range(WARM_UP + 1):
        step()
    no_waiting(True)
    loss = step()
    no_waiting(False)
    assert loss.isfinite()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODEL_SETTINGS)
@pytest.mark.parametrize("method", METHODS)
def test_replayed_steps_are_the_steps_made_kernel_by_kernel(method, model, optimizer):
    settings = OPTIMIZERS[optimizer] | {"method__tau": 0.01}
    graph = learner_of(method, model, cuda_graph=True, **settings)
    plain = learner_of(method, model, **settings)
    prepare_optimizer(plain.optimizer, CUDA)
    for step in range(4 * WARM_UP):
        size = 100 if step % 4 < 3 else 30
        # Muon is recorded anew for another step size
        tau = 0.01 if optimizer == "muon" else 0.01 / (1 + step)
        record = step == WARM_UP + 2
        found = graph.step(batch(step)[:size], tau, record=record)
        truth = plain.step(batch(step)[:size], tau, record=record)
        torch.testing.assert_close(found.loss, truth.loss, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.direction_norm, truth.direction_norm, rtol=1e-3, atol=1e-5)
    assert graph.replays_steps
    for one, other in zip(graph.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_restored_states_are_recorded_anew_and_lead_to_the_same_weights(optimizer):
    learner = learner_of("exact", cuda_graph=True, **OPTIMIZERS[optimizer])
    for step in range(WARM_UP + 2):
        learner.step(batch(step), 0.01)
    kept = {name: value.clone() for name, value in learner.tensors().items()}
    generators = learner.generators()
    ends = []
    for _ in range(2):
        learner.restore(kept, generators)
        assert not learner.replays_steps
        for step in range(WARM_UP + 3):
            learner.step(batch(step), 0.01)
        assert learner.replays_steps
        ends.append(torch.cat([p.detach().flatten() for p in learner.model.parameters()]))
    torch.testing.assert_close(*ends)


def test_a_recorded_step_counts_its_failures_and_is_recorded_anew_one_rung_higher():
    # nearly no damping: batches have a factorisation, many times the same sample has none
    learner = learner_of("exact", cuda_graph=True, method__tau_theta=1e6)
    (_, layer), *_ = prox_layers(learner.model)
    for step in range(WARM_UP + 2):
        learner.step(batch(step), 0.0)
    assert layer.ladder.take_counts() == {}
    for _ in range(3):
        learner.step(torch.zeros_like(batch(0)), 0.0)
    assert learner.replays_steps
    assert layer.ladder.take_counts() == {Rung.GRADIENT: 3}
    assert layer.ladder.start is Rung.FLOAT64
    for step in range(WARM_UP + 2):
        assert learner.replays_steps == (step > WARM_UP)
        assert learner.step(batch(step), 0.0).direction_norm.isfinite()


@pytest.mark.parametrize("solver", [Exact(), CG(3, tol=0.0)])
@pytest.mark.parametrize("rows", [100, 4000])
@pytest.mark.parametrize("wanted", PRECISIONS)
def test_systems_are_solved_in_float32_whatever_the_precision(solver, rows, wanted):
    torch.manual_seed(0)
    a, G = torch.randn(rows, 300, device=CUDA), torch.randn(rows, 200, device=CUDA)
    system = ProximalSystem(Dense(a), G, 10.0)
    truth = solver.solve(system.to(torch.float64), Ladder()).direction.joined()
    scale = truth.abs().max()

    def error(around) -> float:
        with precision.of_step(wanted, CUDA), precision.full(CUDA) as outer:
            wrapped = ProximalSystem(Dense(a), G, 10.0, outer) if around else system
            V = solver.solve(wrapped, Ladder()).direction.joined()
        return ((V - truth).abs().max() / scale).item()

    assert error(False) < 2e-5
    # the last product of the dual form alone may round: to 11 bits
    rounds = wanted != "float32" and rows == 100 and torch.cuda.get_device_capability() >= (8, 0)
    assert error(True) < (1e-2 if rounds else 2e-5)
    assert (error(True) > 2e-5) == rounds


def test_tf32_reaches_the_forward_pass_and_float32_does_not():
    torch.manual_seed(0)
    a, b = torch.randn(512, 512, device=CUDA), torch.randn(512, 512, device=CUDA)
    x, w = torch.randn(8, 32, 32, 32, device=CUDA), torch.randn(32, 32, 3, 3, device=CUDA)
    for product in (lambda f: f(a) @ f(b), lambda f: torch.conv2d(f(x), f(w))):
        truth = product(torch.Tensor.double)
        errors = {}
        for wanted in ("float32", "tf32"):
            with precision.of_step(wanted, CUDA):
                off = product(torch.Tensor.float) - truth
            errors[wanted] = (off.abs().max() / truth.abs().max()).item()
        assert errors["float32"] < 1e-5
        if torch.cuda.get_device_capability() >= (8, 0):
            assert errors["tf32"] > 1e-5


@pytest.mark.parametrize("wanted", PRECISIONS)
@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_a_graph_ends_as_one_without(method, wanted):
    losses = []
    for graph in (False, True):
        config = small.config(method, epochs=5, cuda_graph=graph, precision=wanted, device="cuda")
        trainer = Trainer(config, dataset(config), CUDA)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            list(trainer.events())
        assert trainer.learner.replays_steps == graph
        losses.append(trainer.position()["metrics"]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_run_with_a_graph_goes_on_from_its_checkpoint():
    config = small.config(epochs=4, cuda_graph=True, device="cuda")
    data = dataset(config)
    whole = Trainer(config, data, CUDA)
    list(whole.events())
    script = small.stopping_at(6)
    stopped = Trainer(config, data, CUDA, script)
    script.trainer = stopped
    list(stopped.events())
    resumed = Trainer(config, data, CUDA, None, stopped.snapshot())
    list(resumed.events())
    for name, value in resumed.learner.model.state_dict().items():
        torch.testing.assert_close(value, whole.learner.model.state_dict()[name])


@pytest.mark.parametrize("mode", [Mode(), Mode(cuda_graph=True)])
def test_memory_is_that_of_the_allocator(mode):
    found = peak_bytes("mlp", "backprop", 500, CUDA, mode)
    assert found > 3 * 20_300_000 * 4
    assert found < 20 * 20_300_000 * 4


def test_bench_measures_with_a_graph():
    command = [sys.executable, "-m", "proxprop_cli", "bench", "--device", "cuda", "--json"]
    command += ["--rounds", "3", "--cuda-graph", "--precision", "tf32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["environment"]["cuda_graph"] is True
    assert all(result["peak_bytes"] > 0 for result in document["results"])
