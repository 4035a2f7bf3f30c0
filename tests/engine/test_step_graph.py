"""The bookkeeping of recorded steps, with a recorder that calls the step again on the same memory.

What only CUDA can show is in ``test_gpu.py``.
"""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch

from engine.config import RunConfig
from engine.data import load_dataset
from engine.errors import ConfigError
from engine.layers import prox_layers
from engine.learner import Learner
from engine.solvers import Ladder, Rung
from engine.step_graph import WARM_UP, prepare_optimizer, set_step_size
from tests.engine import small
from tests.engine.test_training import METHODS

ADAM = {"optimizer__name": "adam", "optimizer__momentum": 0.0, "optimizer__nesterov": False}
OPTIMIZERS = {
    "sgd": {},
    "adam": ADAM | {"method__tau": 0.01},
    "adamw": ADAM | {"optimizer__name": "adamw", "method__tau": 0.01},
    "muon": {"optimizer__name": "muon", "method__tau": 0.01},
}
CONVNET = {"model__kind": "convnet", "model__channels": [3, 4]}
INDICES = torch.arange(330).split(100)


class Recorded:
    def __init__(self, backend, step):
        self.backend, self.step = backend, step
        self.memory = backend.memory()

    def replay(self):
        # a graph would read and write where the tensors were
        assert self.backend.memory() == self.memory
        self.backend.calls.append("replay")
        self.step()


class Recorder:
    """Stands for CUDA's graphs: records without doing, repeats on the same memory."""

    learner: Learner

    def __init__(self, device=None, fails=False):
        self.calls: list[str] = []
        self.fails = fails

    def warm_up(self, step):
        self.calls.append("warm-up")
        step()

    def capture(self, step):
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        self.calls.append("capture")
        return Recorded(self, step)

    def memory(self):
        optimizer = self.learner.optimizer
        tensors = [*self.learner.model.state_dict().values()]
        tensors += [value for state in optimizer.state.values() for value in state.values()]
        tensors += [group["lr"] for group in optimizer.param_groups]
        tensors += [layer.ladder.pending for _, layer in prox_layers(self.learner.model)]
        return [value.data_ptr() for value in tensors if isinstance(value, torch.Tensor)]


@pytest.fixture
def recorders(monkeypatch):
    """Runs with ``cuda_graph`` get a recorder each, listed here."""
    made: list[Recorder] = []

    def make(device):
        made.append(Recorder())
        return made[-1]

    original = Learner.__init__

    def init(self, *arguments):
        original(self, *arguments)
        if made and self._graph is not None:
            made[-1].learner = self

    monkeypatch.setattr("engine.learner.CudaGraphs", make)
    monkeypatch.setattr("engine.learner.check_settings", lambda config, device: None)
    monkeypatch.setattr(Learner, "__init__", init)
    return made


def learner_with(recorder: Recorder, config: RunConfig) -> Learner:
    learner = Learner(config, small.dataset(config), small.CPU)
    learner.use_graphs(recorder)
    recorder.learner = learner
    return learner


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_with_replayed_steps_is_the_run_without(method, optimizer, schedule, recorders):
    settings = OPTIMIZERS[optimizer] | {"schedule__name": schedule, "epochs": 4}
    replaying, events = small.run(small.config(method, cuda_graph=True, **settings))
    plain = small.trainer(small.config(method, **settings))
    prepare_optimizer(plain.learner.optimizer, small.CPU)
    expected = small.step_rows(list(plain.events()))
    assert small.weights(replaying) == small.weights(plain)
    assert small.step_rows(events) == expected
    # 16 steps, 4 of them smaller, and of the others 1, 3, 6, 9, 15 traced
    calls = recorders[0].calls
    if optimizer == "muon" and schedule == "cosine":  # other step sizes, which it can not take
        assert calls == ["warm-up"] * 7
    else:
        assert calls == ["warm-up"] * WARM_UP + ["capture"] + ["replay"] * (7 - WARM_UP)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_convnet_with_replayed_steps_trains_as_an_ordinary_one(method, optimizer, recorders):
    settings = CONVNET | OPTIMIZERS[optimizer] | {"epochs": 3, "method__tau": 0.01}
    # not for Adam, which makes steps of the noise that a bias below it has for a gradient
    settings["model__batch_norm"] = optimizer == "sgd"
    replaying, _ = small.run(small.config(method, cuda_graph=True, **settings))
    plain, _ = small.run(small.config(method, **settings))
    assert "replay" in recorders[0].calls
    for name, value in replaying.learner.model.state_dict().items():
        other = plain.learner.model.state_dict()[name]
        # the step size is rounded to float32, and fused steps round in another order
        torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stop", [2, 6, 10])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_and_resumed_equals_undisturbed(stop, optimizer, recorders):
    config = small.config(cuda_graph=True, epochs=4, **OPTIMIZERS[optimizer])
    whole, _ = small.run(config)
    stopped, _ = small.run(config, small.stopping_at(stop))
    state = stopped.snapshot()
    resumed = small.trainer(config, resume=state)
    list(resumed.events())
    assert small.weights(resumed) == small.weights(whole)


def test_restoring_in_place_leads_to_a_new_recording():
    recorder = Recorder()
    learner = learner_with(recorder, small.config())
    for _ in range(5):
        learner.step(INDICES[0], 0.5)
    kept = {name: value.clone() for name, value in learner.tensors().items()}
    generators = learner.generators()
    ends = []
    for _ in range(2):
        learner.restore(kept, generators)
        for _ in range(5):
            learner.step(INDICES[1], 0.25)
        ends.append(weights(learner))
    assert torch.equal(*ends)
    assert recorder.calls.count("capture") == 3


def test_results_are_not_overwritten_by_later_steps():
    learner = learner_with(Recorder(), small.config())
    results, at_once = [], []
    for _ in range(WARM_UP + 3):
        result = learner.step(INDICES[0], 0.5)
        assert result.stats == {}
        results.append(result)
        at_once.append((result.loss.item(), result.direction_norm.item()))
    assert [(r.loss.item(), r.direction_norm.item()) for r in results] == at_once
    assert len(set(at_once)) == len(at_once)


def test_what_needs_the_host_is_done_without_the_graph():
    recorder = Recorder()
    learner = learner_with(recorder, small.config())
    for _ in range(WARM_UP + 1):
        learner.step(INDICES[0], 0.5)
    before = list(recorder.calls)
    start = weights(learner)
    assert learner.step(INDICES[0], 0.5, record=True).stats
    learner.step(INDICES[-1], 0.5)
    (_, layer), *_ = prox_layers(learner.model)
    layer.ladder.start = Rung.EIGH
    learner.step(INDICES[0], 0.5)
    assert recorder.calls == before
    assert not torch.equal(weights(learner), start)
    layer.ladder.start = Rung.CHOLESKY
    learner.step(INDICES[0], 0.5)
    assert recorder.calls == [*before, "replay"]


def test_a_climbed_ladder_leads_to_a_new_recording():
    recorder = Recorder()
    learner = learner_with(recorder, small.config())
    (_, layer), *_ = prox_layers(learner.model)
    for start in (Rung.CHOLESKY, Rung.FLOAT64):
        layer.ladder.start = start
        recorder.calls.clear()
        for _ in range(WARM_UP + 2):
            learner.step(INDICES[0], 0.5)
        assert recorder.calls == ["warm-up"] * WARM_UP + ["capture", "replay", "replay"]


def test_a_new_step_size_reaches_a_recorded_step_or_leads_to_a_new_one():
    for optimizer, captures in (("sgd", 1), ("adam", 1), ("muon", 2)):
        recorder = Recorder()
        learner = learner_with(recorder, small.config(**OPTIMIZERS[optimizer]))
        for tau in (0.01, 0.02):
            for _ in range(WARM_UP + 2):
                learner.step(INDICES[0], tau)
        assert recorder.calls.count("capture") == captures
        start = weights(learner)
        learner.step(INDICES[0], 0.0)
        assert torch.equal(weights(learner), start), optimizer


def test_a_step_that_can_not_be_recorded_is_made_without_and_said_once():
    recorder = Recorder(fails=True)
    learner = learner_with(recorder, small.config())
    plain = Learner(small.config(), small.dataset(small.config()), small.CPU)
    prepare_optimizer(plain.optimizer, small.CPU)
    for _ in range(WARM_UP):
        learner.step(INDICES[0], 0.5)
    with pytest.warns(UserWarning, match="without a CUDA graph: operation not permitted"):
        learner.step(INDICES[0], 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.step(INDICES[0], 0.5)
    for _ in range(WARM_UP + 2):
        plain.step(INDICES[0], 0.5)
    assert torch.equal(weights(learner), weights(plain))


def test_a_graph_goes_with_its_learner():
    class Nothing(Recorder):
        def capture(self, step):
            return self  # a CUDA graph knows kernels, and no object of ours

        def replay(self):
            pass

    config = small.config()
    learner = Learner(config, small.dataset(config), small.CPU)
    backend = Nothing()
    learner.use_graphs(backend)
    for _ in range(WARM_UP + 2):
        learner.step(INDICES[0], 0.5)
    held = weakref.ref(backend)  # by the graph alone
    gc.disable()
    try:
        del backend, learner
        assert held() is None
    finally:
        gc.enable()


def test_failures_are_counted_at_one_address():
    ladder = Ladder()
    ladder.defer(torch.tensor(True))
    address = ladder.pending.data_ptr()
    assert ladder.take_counts() == {Rung.GRADIENT: 1}
    ladder.defer(torch.tensor(False))
    ladder.defer(torch.tensor(True))
    assert ladder.pending.data_ptr() == address
    assert ladder.take_counts() == {Rung.GRADIENT: 1}
    assert ladder.take_counts() == {}


def test_step_sizes_are_set_in_place_where_the_optimizer_reads_them():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    set_step_size(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5
    prepare_optimizer(optimizer, small.CPU)
    held = optimizer.param_groups[0]["lr"]
    set_step_size(optimizer, 0.25)
    assert held.item() == 0.25
    parameters[0].grad = torch.ones(2)
    optimizer.step()
    assert parameters[0].tolist() == [0.75, 0.75]


def test_a_graph_needs_cuda():
    config = small.config(cuda_graph=True)
    data = load_dataset(config.data, device=small.CPU, cache_dir=small.cache_dir())
    with pytest.raises(ConfigError, match=r"^cuda_graph: needs a CUDA device, and this is 'cpu'$"):
        Learner(config, data, small.CPU)
