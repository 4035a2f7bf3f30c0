"""The penalty form of BackProp ([P] Algorithm 1): explicit steps with a and z as variables."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engine import precision
from engine.errors import ConfigError
from engine.methods.base import Batch, Found, Position, Problem, Stateless
from engine.methods.batch_norm import statistics_kept
from engine.methods.stages import Stage, chain
from engine.prox import working_dtype
from engine.work import backprop_products

_LEAST_TAU = 1e-15
"""A schedule may come down to zero; below this 1/tau overflows in float32, or tau times a
derivative underflows. Directions no longer depend on tau there."""


@dataclass(slots=True)
class _Variable:
    """theta_l, a_l or z_l: where the forward pass left it, and its steps of size tau since.

    The two are kept apart: a step is often smaller than what ``start`` is rounded by.

    :ivar moved: (start - value now)/tau, the sum of the partial derivatives stepped along.
    """

    start: Tensor
    moved: Tensor | None = None

    def step(self, derivative: Tensor) -> None:
        """value <- value - tau derivative."""
        derivative = derivative.to(working_dtype(derivative.dtype))
        self.moved = derivative if self.moved is None else self.moved + derivative

    def leaf(self, tau: float) -> Tensor:
        """The value, to differentiate with respect to."""
        now = self.start if self.moved is None else self.start - tau * self.moved
        return now.detach().requires_grad_()

    def behind(self, output: Tensor, tau: float) -> Tensor:
        """output - value."""
        behind = output.detach() - self.start
        return behind if self.moved is None else behind + tau * self.moved


class _Map:
    """phi(theta_l, .) or sigma_l, whose parameters are variables.

    :ivar output: at the variables as they were at the latest :meth:`evaluate`.
    """

    output: Tensor

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.parameters = {name: _Variable(p.detach()) for name, p in module.named_parameters()}
        self._leaves: list[Tensor] = []

    def evaluate(self, inputs: Tensor, tau: float) -> Tensor:
        """The output at the parameters as they are, cut off from what comes after."""
        leaves = {name: variable.leaf(tau) for name, variable in self.parameters.items()}
        self.output = functional_call(self._module, leaves, (inputs,))
        self._leaves = [*leaves.values(), *([inputs] if inputs.requires_grad else [])]
        return self.output.detach()

    def adjoint(self, value: Tensor, cotangent: Tensor | None = None) -> Tensor | None:
        """Step along the parameters' derivatives of ``value``, a function of the output; gives the
        derivative with respect to the inputs, where they are a variable.

        :param cotangent: of ``value``; None: it is a number.
        """
        if cotangent is not None:
            cotangent = cotangent.to(value.dtype)
        derivatives = torch.autograd.grad(value, self._leaves, cotangent) if self._leaves else ()
        for variable, derivative in zip(self.parameters.values(), derivatives, strict=False):
            variable.step(derivative)
        return derivatives[-1] if len(derivatives) > len(self.parameters) else None

    def leave_directions(self) -> None:
        """(theta_old - theta_new)/tau in ``.grad``."""
        for name, parameter in self._module.named_parameters():
            parameter.grad = self.parameters[name].moved


class _Layer:
    """One stage: z = phi(theta_l, a_{l-1}) and a = sigma_l(z), both variables.

    The last layer's z and a are none: its output goes into the loss.
    """

    z: _Variable
    a: _Variable

    def __init__(self, stage: Stage) -> None:
        self.phi = _Map(stage.linear)
        self.sigma = _Map(stage.activation)


class PenaltyForm(Stateless):
    """Explicit steps of size tau on the penalty function E ([P] Eq. 3), in the order of [P]
    Algorithm 1:

    E(theta, a, z) = L(phi(theta_L, a_{L-1})) + sum over l < L of
    gamma/2 |sigma_l(z_l) - a_l|^2 + rho/2 |phi(theta_l, a_{l-1}) - z_l|^2.

    L is the mean loss over the batch, the norms are sums over its samples: with this scaling
    rho = gamma = 1/tau is gradient descent on L exactly ([P] Prop. 1). A forward pass makes the
    penalties zero; then, ``sweeps`` times, going down from the last layer: a_{L-1} and theta_L;
    z_l and the parameters of sigma_l (batch normalisation's), both at the old z_l and the new a_l;
    a_{l-1} and theta_l, both at the old a_{l-1} and the new z_l ([P] Eqs. 22, 25). The step of the
    parameters within sigma_l is not in [P]; taken at the old z_l, Prop. 1 holds for them too.

    Every partial derivative is the adjoint of one map applied to the penalty's own residual. A
    sweep after the first takes as many products as a step of BackProp; its residuals are
    differences of nearby numbers: at tau = 1e-3 three sweeps in float32 were off by 2e-4.

    :raises ConfigError: the network is not a chain of layers, or has several sweeps in reduced
        precision, which would drown in rounding.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._chain = chain(problem.model, problem.config.method.name)
        if problem.config.method.penalty.sweeps > 1 and problem.config.precision != "float32":
            raise ConfigError(
                "method.penalty.sweeps: more than one needs precision 'float32', "
                f"found {problem.config.precision!r}"
            )

    def directions(self, batch: Batch, at: Position, *, record: bool) -> Found:
        """(theta_old - theta_new)/tau, summed from the steps."""
        settings = self._problem.config.method.penalty
        tau = max(at.tau, _LEAST_TAU)
        rho = 1 / tau if settings.rho is None else settings.rho
        gamma = 1 / tau if settings.gamma is None else settings.gamma
        layers = [_Layer(stage) for stage in self._chain.stages]
        inputs = self._chain.stem(batch.inputs)
        loss = found = self._forward(layers, inputs, batch.targets)
        _descend(layers, loss, rho, gamma, tau)
        with statistics_kept(self._problem.model):
            for _ in range(settings.sweeps - 1):
                loss = self._evaluate(layers, inputs, batch.targets, tau)
                _descend(layers, loss, rho, gamma, tau)
        for layer in layers:
            layer.phi.leave_directions()
            layer.sigma.leave_directions()
        extra = None
        if record:
            shape, size = batch.inputs.shape[1:], len(batch.inputs)
            each = backprop_products(self._problem.model, tuple(shape), size)
            extra = float((settings.sweeps - 1) * each)
        return Found(found.detach(), extra_products=extra)

    def _forward(self, layers: list[_Layer], inputs: Tensor, targets: Tensor) -> Tensor:
        """Set every z_l and a_l to where the penalties are zero; gives the loss."""
        problem = self._problem
        with precision.of_forward(problem.config.precision, problem.device):
            for layer in layers[:-1]:
                layer.z = _Variable(layer.phi.evaluate(inputs, 0.0))
                layer.a = _Variable(layer.sigma.evaluate(layer.z.leaf(0.0), 0.0))
                inputs = layer.a.leaf(0.0)
            layers[-1].phi.evaluate(inputs, 0.0)
        return self._loss(layers, targets)

    def _evaluate(
        self, layers: list[_Layer], inputs: Tensor, targets: Tensor, tau: float
    ) -> Tensor:
        """All maps at the variables as they are; gives the loss.

        Going down changes the variables of a map only after its last use.
        """
        for layer in layers[:-1]:
            layer.phi.evaluate(inputs, tau)
            layer.sigma.evaluate(layer.z.leaf(tau), tau)
            inputs = layer.a.leaf(tau)
        layers[-1].phi.evaluate(inputs, tau)
        return self._loss(layers, targets)

    def _loss(self, layers: list[_Layer], targets: Tensor) -> Tensor:
        outputs = layers[-1].phi.output
        return self._problem.loss(outputs.to(working_dtype(outputs.dtype)), targets).mean()


def _descend(layers: list[_Layer], loss: Tensor, rho: float, gamma: float, tau: float) -> None:
    """One step on every variable, from the last layer down."""
    descent = layers[-1].phi.adjoint(loss)
    for layer in reversed(layers[:-1]):
        phi, sigma, a, z = layer.phi, layer.sigma, layer.a, layer.z
        assert descent is not None
        a.step(descent - gamma * a.behind(sigma.output, tau))
        through = sigma.adjoint(sigma.output, gamma * a.behind(sigma.output, tau))
        assert through is not None
        z.step(through - rho * z.behind(phi.output, tau))
        descent = phi.adjoint(phi.output, rho * z.behind(phi.output, tau))
