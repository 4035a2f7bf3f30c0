"""Drop-in layers whose backward pass leaves the proximal direction in ``.grad``.

The layers are used like ``nn.Linear`` and ``nn.Conv2d``, with any optimiser: where those leave the
gradient A^T G in ``weight.grad`` and ``bias.grad``, these leave V = (A^T A + beta I)^{-1} A^T G.
What is passed on to the layer's input is the ordinary gradient. Free parameters only: a frozen
weight or bias is no part of the system.

Two things change for the time of a backward pass, where a layer is told so: its direction may be
fitted to another cotangent than the gradient at its output, and the gradient may go down through
the weights after their update.

Like gradients, directions of several backward passes add up in ``.grad``. The sum of the
directions of micro-batches is a descent direction, but not the direction of the whole batch.
Second derivatives through the backward pass are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx, once_differentiable
from torch.nn.grad import conv2d_input

from engine.conv_patches import ConvPatches
from engine.linear_maps import Dense, Direction
from engine.prox import Observer, Prox, Step, working_dtype
from engine.solvers import Ladder, SolverStats


class _ProxLayer:
    """What both layers share.

    :ivar prox: what makes a direction of a cotangent.
    :ivar fitted: what the direction is fitted to instead of the gradient at the output, in the
        layout of the output; None: that gradient.
    :ivar tau: the gradient goes down through W - tau V; None: through W.
    """

    prox: Step
    ladder: Ladder
    observer: Observer | None
    fitted: Tensor | None
    tau: float | None

    def _prepare(self, prox: Step) -> None:
        self.prox = prox
        self.ladder = Ladder()
        self.observer = None
        self.fitted = None
        self.tau = None

    def _direction(
        self, linear_map: Dense | ConvPatches, cotangent: Tensor, weight: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """V of weight and bias, in their shape and type."""
        direction = self.prox.direction(linear_map, cotangent, self.ladder, self.observer)
        return _in_shape(direction, weight)

    def leave(self, direction: Direction) -> None:
        """Put a direction that was found after the backward pass into ``.grad``, which had none."""
        assert isinstance(self, ProxLinear | ProxConv2d)
        self.weight.grad, bias = _in_shape(direction, self.weight)
        if self.bias is not None:
            self.bias.grad = bias

    def _weight_below(self, weight: Tensor, v_weight: Tensor | None) -> Tensor:
        """The weight through which the gradient goes down."""
        if self.tau is None or v_weight is None:
            return weight
        return weight - self.tau * v_weight

    def _parameters_wait(self, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether a backward pass may come for the parameters."""
        free = weight.requires_grad or (bias is not None and bias.requires_grad)
        return free and torch.is_grad_enabled()


class ProxLinear(_ProxLayer, nn.Linear):
    """``nn.Linear`` with the proximal step in its backward pass.

    :param prox: step size, solver and damping.

    Inputs ``(*, in_features)``, outputs ``(*, out_features)``; all leading axes are the batch.
    The other parameters are those of ``nn.Linear``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        prox: Step = Prox(),
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._prepare(prox)

    def forward(self, input: Tensor) -> Tensor:
        """A W^T + b."""
        if not self._parameters_wait(self.weight, self.bias):
            return super().forward(input)
        output: Tensor = _LinearFunction.apply(input, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return output

    def extra_repr(self) -> str:
        """The parent's settings and the step's."""
        return f"{super().extra_repr()}, prox={self.prox}"


class ProxConv2d(_ProxLayer, nn.Conv2d):
    """``nn.Conv2d`` with the proximal step in its backward pass.

    :param prox: step size, solver and damping.

    Inputs ``(B, c_in, H, W)`` or ``(c_in, H, W)``. The other parameters are those of
    ``nn.Conv2d``, all of which work.
    """

    def __init__(self, *args: Any, prox: Step = Prox(), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepare(prox)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution."""
        if not self._parameters_wait(self.weight, self.bias):
            return super().forward(input)
        batched = input if input.ndim == 4 else input.unsqueeze(0)
        padded, padding = self._pad(batched)
        output: Tensor = _ConvFunction.apply(padded, self.weight, self.bias, padding, self)  # type: ignore[no-untyped-call]
        return output if input.ndim == 4 else output.squeeze(0)

    def extra_repr(self) -> str:
        """The parent's settings and the step's."""
        parent = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{parent}, prox={self.prox}"

    def _pad(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What symmetric zero padding can not express is padded here; gives the rest.

        Reads the settings as they are now, like the parent, since models are changed after they
        were made.
        """
        if self.padding_mode != "zeros":
            around = self._reversed_padding_repeated_twice
            return F.pad(x, around, mode=self.padding_mode), (0, 0)
        if isinstance(self.padding, str):
            if self.padding == "valid":
                return x, (0, 0)
            total_y, total_x = (
                dilation * (size - 1)
                for dilation, size in zip(
                    _pair(self.dilation), _pair(self.kernel_size), strict=True
                )
            )
            top, left = total_y // 2, total_x // 2
            if total_y % 2 == total_x % 2 == 0:
                return x, (top, left)
            return F.pad(x, (left, total_x - left, top, total_y - top)), (0, 0)
        return x, _pair(self.padding)


class _LinearFunction(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, layer: ProxLinear
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer  # type: ignore[attr-defined]
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        layer: ProxLinear = ctx.layer
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        v_weight = v_bias = None
        if need_weight or need_bias:
            dtype = working_dtype(weight.dtype)
            rows = x.reshape(-1, x.shape[-1]).to(dtype)
            linear_map = Dense(rows, weight=need_weight, bias=need_bias)
            fitted = grad_output if layer.fitted is None else layer.fitted
            cotangent = fitted.reshape(-1, fitted.shape[-1]).to(dtype)
            v_weight, v_bias = layer._direction(linear_map, cotangent, weight)
        grad_x = None
        if need_x:
            below = layer._weight_below(weight, v_weight)
            grad_x = (grad_output @ below.to(grad_output.dtype)).to(x.dtype)
        return grad_x, v_weight, v_bias, None


class _ConvFunction(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int],
        layer: ProxConv2d,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.padding = layer, padding  # type: ignore[attr-defined]
        return F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        layer: ProxConv2d = ctx.layer
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        v_weight = v_bias = None
        if need_weight or need_bias:
            dtype = working_dtype(weight.dtype)
            linear_map = ConvPatches(
                x.to(dtype),
                kernel=_pair(layer.kernel_size),
                stride=_pair(layer.stride),
                padding=ctx.padding,
                dilation=_pair(layer.dilation),
                groups=layer.groups,
                weight=need_weight,
                bias=need_bias,
            )
            fitted = grad_output if layer.fitted is None else layer.fitted
            v_weight, v_bias = layer._direction(linear_map, fitted.to(dtype), weight)
        grad_x = None
        if need_x:
            grad_x = conv2d_input(
                x.shape,
                layer._weight_below(weight, v_weight).to(grad_output.dtype),
                grad_output,
                layer.stride,
                ctx.padding,
                layer.dilation,
                layer.groups,
            ).to(x.dtype)
        return grad_x, v_weight, v_bias, None, None


def _in_shape(direction: Direction, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """V of weight and bias, in their shape and type."""
    v_weight, v_bias = direction.to(weight.dtype)
    return (
        None if v_weight is None else v_weight.reshape(weight.shape),
        None if v_bias is None else v_bias.flatten(),
    )


def _pair(setting: int | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(setting, int):
        return setting, setting
    first, second = setting
    return first, second


def prox_layers(model: nn.Module) -> Iterator[tuple[str, ProxLinear | ProxConv2d]]:
    """Name and module of every proximal layer, in order of registration."""
    for name, module in model.named_modules():
        if isinstance(module, ProxLinear | ProxConv2d):
            yield name, module


def proxify(model: nn.Module, prox: Step | None, last: Step | None = None) -> nn.Module:
    """Make every Linear and Conv2d of a model proximal, in place, but the last of them.

    The last one, in order of registration, stays explicit ([P] Eq. 12). Modules keep their
    identity, weights, hooks, names and state-dict keys; subclasses of other libraries are left
    alone. Layers that are proximal already get the new settings.

    :param prox: step of all layers but the last; None: they are left as they are.
    :param last: step of the last layer; None: it is left as it is.
    :returns: the model.
    """
    kinds: dict[type[nn.Module], type[ProxLinear | ProxConv2d]] = {
        nn.Linear: ProxLinear,
        nn.Conv2d: ProxConv2d,
        ProxLinear: ProxLinear,
        ProxConv2d: ProxConv2d,
    }
    found = [module for module in model.modules() if type(module) in kinds]
    steps = [prox] * (len(found) - 1) + [last]
    for module, step in zip(found, steps, strict=False):  # a model may have no layers
        if step is None:
            continue
        module.__class__ = kinds[type(module)]
        assert isinstance(module, ProxLinear | ProxConv2d)
        module._prepare(step)
    return model


@contextmanager
def solver_stats(model: nn.Module) -> Iterator[dict[str, SolverStats]]:
    """Collect the statistics of every proximal layer while the block runs.

    Gives a mapping from layer name to the statistics of its latest backward pass, still on the
    device: :meth:`~engine.solvers.SolverStats.to_host` brings them over.
    """
    stats: dict[str, SolverStats] = {}
    layers = list(prox_layers(model))
    for name, layer in layers:

        def observe(found: SolverStats, name: str = name) -> None:
            stats[name] = found

        layer.observer = observe
    try:
        yield stats
    finally:
        for _, layer in layers:
            layer.observer = None
