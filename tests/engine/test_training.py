"""The training loop, on the embedded real data."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ScheduleConfig
from engine.control import Desired
from engine.errors import ConfigError
from engine.events import (
    CheckpointDue,
    Diverged,
    EpochDone,
    LadderClimbed,
    Paused,
    RunEnded,
    RunStarted,
    SolverTrace,
    StepsDone,
    Unpaused,
    Warned,
)
from engine.layers import prox_layers
from engine.optimizers import step_size
from engine.training import epoch_order
from tests.engine import small

METHODS = ["backprop", "exact", "cg3"]


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_order_of_events_and_what_they_hold():
    made, events = small.run(small.config())
    assert isinstance(events[0], RunStarted)
    assert not events[0].resumed
    assert events[0].environment["seed"] == 0
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].status, events[-1].step, events[-1].epoch) == ("finished", 8, 2)
    epochs = of_kind(events, EpochDone)
    assert [event.epoch for event in epochs] == [0, 1, 2]
    assert [event.step for event in epochs] == [0, 4, 8]  # 330 samples: the last batch has 30
    for event in epochs:
        assert {"train_loss", "val_loss", "test_loss", "val_accuracy"} <= set(event.metrics)
        assert 0 <= event.metrics["val_accuracy"] <= 1
    blocks = of_kind(events, StepsDone)
    assert [step for block in blocks for step in block.steps] == list(range(1, 9))
    for block in blocks:
        assert set(block.values) == {
            "batch_loss",
            "direction_norm",
            "tau",
            "time/train",
            "time/wall",
            "work",
        }
        assert all(len(column) == len(block.steps) for column in block.values.values())
    assert epochs[-1].metrics["train_loss"] < epochs[0].metrics["train_loss"]
    assert [event.reason for event in of_kind(events, CheckpointDue)] == ["epoch", "end"]
    seconds = [v for block in blocks for v in block.values["time/train"]]
    assert all(a < b for a, b in pairwise(seconds))
    assert made.step == 8


def test_training_loss_is_the_true_mean_over_all_samples():
    made, events = small.run(small.config(epochs=1))
    data = made.learner.dataset
    inputs, labels = data.batch(data.train, torch.arange(len(data.train)))
    with torch.no_grad():
        outputs = made.learner.model(inputs).double()
    truth = torch.nn.functional.cross_entropy(outputs, labels).item()
    last = of_kind(events, EpochDone)[-1].metrics
    assert last["train_loss"] == pytest.approx(truth, rel=1e-6)
    assert last["train_accuracy"] == (outputs.argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_decides_everything(method):
    first, events = small.run(small.config(method))
    second, again = small.run(small.config(method))
    other, _ = small.run(small.config(method, seed=1))
    assert small.weights(first) == small.weights(second)
    assert small.step_rows(events) == small.step_rows(again)
    assert small.weights(first) != small.weights(other)


def test_methods_start_from_the_same_weights_and_differ_in_their_layers():
    trainers = [small.trainer(small.config(method)) for method in METHODS]
    starts = [small.weights(made) for made in trainers]
    assert starts[0] == starts[1] == starts[2]
    names = [[name for name, _ in prox_layers(made.learner.model)] for made in trainers]
    assert names == [[], ["1"], ["1"]]


def test_pause_keeps_the_state_waits_and_changes_nothing():
    asked = []

    def plan(step):
        asked.append(step)
        return Desired.PAUSED if step == 3 and asked.count(3) < 4 else Desired.RUNNING

    whole, expected = small.run(small.config())
    paused, events = small.run(small.config(), small.Script(plan))
    assert small.weights(paused) == small.weights(whole)
    assert small.step_rows(events) == small.step_rows(expected)
    kinds = [type(event) for event in events]
    at = kinds.index(Paused)
    assert kinds[at + 1] is Unpaused
    assert events[at] == Paused(3)
    assert CheckpointDue(3, 0, "pause") in events[:at]


def test_stop_while_paused():
    asked = []

    def plan(step):
        asked.append(step)
        if step < 2:
            return Desired.RUNNING
        return Desired.PAUSED if asked.count(2) < 3 else Desired.STOPPED

    _, events = small.run(small.config(), small.Script(plan))
    assert events[-1].status == "stopped"
    assert events[-1].step == 2


def test_time_limit_evaluates_where_it_ends():
    _, events = small.run(small.config(epochs=100_000, max_seconds=0.2))
    ended = events[-1]
    assert (ended.status, ended.reason) == ("finished", "time limit")
    last = of_kind(events, EpochDone)[-1]
    assert last.step == ended.step
    assert last.epoch == pytest.approx(ended.step / 4)
    assert of_kind(events, CheckpointDue)[-1].step == ended.step
    assert 0.2 <= last.metrics["time/train"] < 1.0


def test_divergence_is_a_result_with_step_and_cause():
    config = small.config("backprop", method__tau=100.0, loss="mse", epochs=50)
    _, events = small.run(config)
    found = of_kind(events, Diverged)[0]
    assert events[-1] == RunEnded(found.step, events[-1].epoch, "diverged", found.cause)
    assert "NaN" in found.cause or "infinite" in found.cause or "not finite" in found.cause
    steps = [step for block in of_kind(events, StepsDone) for step in block.steps]
    assert steps == list(range(1, found.step + 1))
    bad = [
        step
        for block in of_kind(events, StepsDone)
        for step, *values in zip(
            block.steps, block.values["batch_loss"], block.values["direction_norm"], strict=True
        )
        if not all(map(math.isfinite, values))
    ]
    assert bad in ([found.step], [])
    assert all(event.step < found.step for event in of_kind(events, CheckpointDue))


def test_solver_traces_come_every_so_many_steps():
    _, events = small.run(small.config("cg3", log__trace_every=3))
    traces = of_kind(events, SolverTrace)
    assert [trace.step for trace in traces] == [1, 3, 6]
    assert all(trace.layer == "1" and trace.solver == "cg3" for trace in traces)
    assert all(len(trace.residuals) == trace.iterations + 1 for trace in traces)
    assert all(trace.descent_cosine > 0 for trace in traces)
    assert not of_kind(small.run(small.config("cg3", log__trace_every=0))[1], SolverTrace)


def test_tracing_does_not_change_the_training():
    traced, _ = small.run(small.config("cg3", log__trace_every=1))
    plain, _ = small.run(small.config("cg3", log__trace_every=0))
    assert small.weights(traced) == small.weights(plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer__momentum": 0.0, "optimizer__nesterov": False},
        {"optimizer__nesterov": False},
        {"optimizer__name": "adam", "method__tau": 0.01},
        {"optimizer__name": "adamw", "method__tau": 0.01, "optimizer__weight_decay": 0.01},
        {"optimizer__name": "muon", "method__tau": 0.01},
        {"loss": "mse"},
        {"data__normalize": "standardize"},
        {"model__batch_norm": True},
        {"model": {"kind": "convnet", "channels": [4, 4], "kernel": 3, "pools": 2}},
        {"model": {"kind": "convnet", "channels": [4], "pools": 0, "batch_norm": True}},
        {
            "method__name": "cg2",
            "method__per_filter": True,
            "model": {"kind": "convnet"},
            "optimizer": {"name": "adam"},
            "method__tau": 0.005,
        },
    ],
    ids=str,
)
def test_every_choice_of_the_configuration_learns(changes):
    changes = {"method__tau": 0.5, "method__tau_theta": 1.0, "epochs": 6} | changes
    _, events = small.run(small.config(**changes))
    losses = [event.metrics["train_loss"] for event in of_kind(events, EpochDone)]
    assert losses[-1] < 0.99 * losses[0]


def test_checkpoints_within_an_epoch_come_by_the_minute():
    _, events = small.run(small.config(epochs=1, log__checkpoint_minutes=1e-9))
    found = [(event.step, event.reason) for event in of_kind(events, CheckpointDue)]
    assert found == [(1, "interval"), (2, "interval"), (3, "interval"), (4, "end")]


def test_weights_that_are_not_finite_are_never_kept(monkeypatch):
    made = small.trainer(small.config())
    assert not made.learner.not_finite()
    with torch.no_grad():
        next(made.learner.model.parameters())[0, 0] = float("inf")
    assert "weights" in made.learner.not_finite()
    made = small.trainer(small.config())
    monkeypatch.setattr(made.learner, "not_finite", lambda: "weights are not finite")
    events = list(made.events())
    assert not of_kind(events, CheckpointDue)
    assert events[-1].status == "diverged"
    assert "weights" in events[-1].reason


def test_zero_epochs_only_evaluate():
    made, events = small.run(small.config(epochs=0))
    assert [event.epoch for event in of_kind(events, EpochDone)] == [0]
    assert made.step == 0
    assert events[-1].status == "finished"


def test_too_many_poolings_are_refused():
    with pytest.raises(ConfigError, match="pools"):
        small.trainer(small.config(model={"kind": "convnet", "channels": [2] * 5, "pools": 5}))


def test_a_smaller_last_batch_is_not_the_cost_of_the_others():
    # 330 samples: every fourth step, which is traced, has 30 of 100
    made, events = small.run(small.config(method="cg3", epochs=3, log__trace_every=4))
    work = [v for block in of_kind(events, StepsDone) for v in block.values["work"]]
    assert made.step == len(work) == 12
    assert work == pytest.approx([work[0] * step for step in range(1, 13)])


@given(seed=st.integers(0, 2**62), epoch=st.integers(0, 10**6), samples=st.integers(0, 50))
def test_epoch_order_is_a_permutation_by_seed_and_epoch(seed, epoch, samples):
    torch.manual_seed(epoch)
    order = epoch_order(seed, epoch, samples)
    assert sorted(order.tolist()) == list(range(samples))
    torch.manual_seed(epoch + 1)
    assert torch.equal(order, epoch_order(seed, epoch, samples))


def test_epochs_and_seeds_have_other_orders():
    orders = {tuple(epoch_order(s, e, 20).tolist()) for s in range(5) for e in range(5)}
    assert len(orders) == 25


@pytest.mark.parametrize(
    ("settings", "epoch", "factor"),
    [
        ({}, 7.0, 1.0),
        ({"name": "inverse-time", "decay": 0.5}, 4.0, 1 / 3),
        ({"name": "cosine"}, 0.0, 1.0),
        ({"name": "cosine"}, 5.0, 0.5),
        ({"name": "cosine", "floor": 0.1}, 10.0, 0.1),
        ({"name": "step", "step_epochs": 2.0, "gamma": 0.5}, 1.99, 1.0),
        ({"name": "step", "step_epochs": 2.0, "gamma": 0.5}, 4.0, 0.25),
        ({"name": "step", "step_epochs": 1e-320, "gamma": 0.5}, 4.0, 0.0),
        ({"warmup_epochs": 2.0}, 1.0, 0.5),
        ({"warmup_epochs": 2.0}, 2.0, 1.0),
        ({"warmup_epochs": 2.0}, 0.0, 1e-3),
    ],
)
def test_schedules(settings, epoch, factor):
    assert step_size(ScheduleConfig(**settings), 3.0, epoch, 10) == pytest.approx(3 * factor)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(method):
    from engine.data import load_dataset
    from engine.learner import Learner

    config = small.config(method)
    device = torch.device("cuda")
    data = load_dataset(config.data, device=device, cache_dir=small.cache_dir())
    learner = Learner(config, data, device)
    indices = torch.arange(100, device=device)
    learner.step(indices, 0.1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.step(indices, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_fallbacks_beside_a_divergence_are_told_at_steps_of_the_run(monkeypatch):
    # where no time passes, only an epoch's end brings steps over
    monkeypatch.setattr("engine.step_log.time", SimpleNamespace(monotonic=lambda: 0.0))
    config = small.config("exact", method__tau=500.0, model__hidden=[50, 30], batch_size=20)
    _, events = small.run(config)
    (found,) = of_kind(events, Diverged)
    climbed = of_kind(events, LadderClimbed)
    assert climbed
    assert all(event.step <= found.step for event in climbed)
    assert (events[-1].status, events[-1].step) == ("diverged", found.step)
    # steps that were made before the failure was noticed are in the counts, and that is said
    (said,) = of_kind(events, Warned)
    assert said.step == found.step
    assert "counts up to step 17" in said.text
    assert f"the failure of step {found.step}" in said.text
