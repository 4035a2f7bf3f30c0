"""What is rounded and what is not, as far as a CPU can show it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine import precision
from engine.benchmark import Mode, make_step
from engine.errors import ConfigError
from engine.layers import ProxConv2d, ProxLinear
from engine.learner import Learner
from engine.linear_maps import Dense
from engine.prox import Prox
from engine.solvers import CG, Exact, Ladder, ProximalSystem
from tests.engine import small
from tests.engine.test_training import METHODS

CUDA = torch.device("cuda")  # the flags can be set without one


def flags():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


def learner_of(config):
    return Learner(config, small.dataset(config), small.CPU)


@pytest.mark.parametrize(
    ("name", "inside"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")]
)
def test_a_step_sets_the_flags_for_its_time(name, inside):
    before = flags()
    with precision.of_step(name, CUDA):
        assert flags() == (inside, inside)
        with precision.full(CUDA) as around:
            assert flags() == ("ieee", "ieee")
            with around():
                assert flags() == (inside, inside)
            assert flags() == ("ieee", "ieee")
        assert flags() == (inside, inside)
    assert flags() == before


def test_flags_are_put_back_after_an_error():
    before = flags()

    def fail():
        with precision.of_step("tf32", CUDA), precision.full(CUDA):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert flags() == before


def test_other_devices_flags_are_left_alone():
    before = flags()
    with precision.of_step("bf16", small.CPU), precision.full(small.CPU) as around, around():
        assert flags() == before


def test_settings_of_old_may_be_used_around_a_step():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with precision.of_step("float32", CUDA), precision.full(CUDA):
            pass
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)


def test_cudnn_stays_on_while_a_system_is_solved():
    with precision.full(CUDA):
        assert torch.backends.cudnn.enabled


def test_flags_are_the_process_s_own_after_training():
    before = flags()
    learner_of(small.config(precision="bf16")).step(torch.arange(10), 0.1)
    assert flags() == before
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("solver", [Exact(), CG(3, tol=0.0), CG(40, tol=0.0)])
@pytest.mark.parametrize("rows", [12, 2000])
def test_only_the_last_product_of_a_dual_form_leaves_full_precision(solver, rows, monkeypatch):
    """And it does nothing else: the direction is the same."""
    inside, products = [], []

    class Around:
        def __enter__(self):
            inside.append(self)

        def __exit__(self, *_):
            inside.pop()

    for name in ("gram", "outer", "apply", "adjoint"):
        original = getattr(Dense, name)

        def spy(self, *arguments, name=name, original=original):
            products.append((name, bool(inside)))
            return original(self, *arguments)

        monkeypatch.setattr(Dense, name, spy)
    torch.manual_seed(0)
    a, G = torch.randn(rows, 40), torch.randn(rows, 200)
    V = solver.solve(ProximalSystem(Dense(a), G, 1.0, Around), Ladder()).direction.joined()
    expected = {("outer", False), ("adjoint", True)} if rows == 12 else {("gram", False)}
    if rows == 2000:
        expected |= {("adjoint", False)}
    assert set(products) == expected
    plain = solver.solve(ProximalSystem(Dense(a), G, 1.0), Ladder()).direction.joined()
    assert torch.equal(V, plain)


@pytest.mark.parametrize("rows", [7, 60])
@pytest.mark.parametrize("solver", [Exact(), CG(30, tol=0.0)])
def test_the_system_of_a_bf16_pass_is_solved_in_float32(rows, solver):
    torch.manual_seed(0)
    below = nn.Linear(9, 20)
    layer = ProxLinear(20, 5, prox=Prox(2.0, solver))
    seen = []
    layer.register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0], output)))
    with precision.of_forward("bf16", small.CPU):
        outputs = layer(torch.relu(below(torch.randn(rows, 9))))
    a, z = seen
    assert a.dtype == z.dtype == torch.bfloat16
    gradients = []
    z.register_hook(gradients.append)
    outputs.float().square().mean().backward()
    A = torch.cat([a.detach().double(), torch.ones(rows, 1, dtype=torch.double)], dim=1)
    G = gradients[0].double()
    V = torch.linalg.solve(A.mT @ A + 0.5 * torch.eye(21), A.mT @ G).mT
    made = torch.cat([layer.weight.grad, layer.bias.grad.unsqueeze(1)], dim=1)
    assert made.dtype == torch.float32
    # bfloat16 anywhere in it would be off by 1e-2
    torch.testing.assert_close(made.double(), V, rtol=1e-3, atol=1e-4 * V.abs().max().item())
    assert below.weight.grad.dtype == torch.float32


def test_a_convolution_of_a_bf16_pass_is_solved_in_float32():
    torch.manual_seed(0)
    layer = ProxConv2d(2, 3, 3, padding=1, prox=Prox(2.0))
    x = torch.randn(4, 2, 6, 6).bfloat16()
    G = torch.randn(4, 3, 6, 6).bfloat16()
    with precision.of_forward("bf16", small.CPU):
        z = layer(x)
    assert z.dtype == torch.bfloat16
    z.backward(G)
    exact = ProxConv2d(2, 3, 3, padding=1, prox=Prox(2.0), dtype=torch.double)
    exact(x.double()).backward(G.double())
    V = exact.weight.grad
    torch.testing.assert_close(
        layer.weight.grad.double(), V, rtol=1e-3, atol=1e-4 * V.abs().max().item()
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_bf16_trains_about_as_float32_and_differs(method, loss):
    made = {}
    for name in ("float32", "bf16"):
        trainer, _ = small.run(small.config(method, precision=name, loss=loss))
        assert all(p.dtype == torch.float32 for p in trainer.learner.model.parameters())
        made[name] = trainer.position()["metrics"]["train_loss"]
    assert made["bf16"] != made["float32"]
    assert made["bf16"] == pytest.approx(made["float32"], rel=0.1)


def test_evaluations_are_float32_whatever_the_training_was():
    of = {name: learner_of(small.config(precision=name)) for name in ("float32", "bf16")}
    assert of["bf16"].evaluate() == of["float32"].evaluate()


def test_a_bf16_run_goes_on_from_its_checkpoint_exactly():
    config = small.config(precision="bf16")
    whole, _ = small.run(config)
    stopped, _ = small.run(config, small.stopping_at(3))
    resumed = small.trainer(config, resume=stopped.snapshot())
    list(resumed.events())
    assert small.weights(resumed) == small.weights(whole)


def test_tf32_needs_cuda():
    with pytest.raises(
        ConfigError, match=r"^precision: 'tf32' needs a CUDA device, and this is 'cpu'$"
    ):
        learner_of(small.config(precision="tf32"))


def test_the_benchmark_s_step_in_bf16_is_not_that_in_float32():
    losses = [
        [step().item() for _ in range(2)]
        for step in (
            make_step("convnet", "exact", 4, small.CPU, Mode(name)) for name in ("float32", "bf16")
        )
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--precision", "tf32"], "precision: 'tf32' needs a CUDA device"),
        (["--cuda-graph"], "cuda_graph: needs a CUDA device"),
        (["--precision", "half"], "precision: "),
        (["--time-to-loss", "1", "--cuda-graph"], "--cuda-graph is for a bench without"),
    ],
)
def test_bench_refuses_what_the_device_can_not_do(cli, arguments, said):
    answer = cli("bench", "--device", "cpu", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.system
def test_bench_says_in_what_precision(cli):
    small_one = ["--model", "convnet", "--method", "exact", "--rounds", "1", "--batch-size", "2"]
    answer = cli("bench", "--device", "cpu", *small_one, "--precision", "bf16", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["environment"]["precision"] == "bf16"
    assert answer.json["environment"]["cuda_graph"] is False
    assert all(result["peak_bytes"] > 0 for result in answer.json["results"])
