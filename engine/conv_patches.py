"""The linear map of a convolution, V -> A V, by its patches."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from engine.conv_gram import patch_gram, window_sums
from engine.linear_maps import Dense, Direction, split_columns

Pair = tuple[int, int]

# Elements of the patch matrix unfolded at a time: 8 MiB in float32 stay near the processor.
_CHUNK_ELEMENTS = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ConvPatches:
    """A for a convolution, never held whole: its rows are the patches of ``x``.

    :ivar x: input ``(B, c_in, H, W)``.
    :ivar kernel: kernel height and width; likewise ``stride``, ``padding`` (zeros on both sides)
        and ``dilation``.
    :ivar groups: blocks of channels that do not mix.
    """

    x: Tensor
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    weight: bool = True
    bias: bool = True

    @classmethod
    def of(cls, layer: nn.Conv2d, x: Tensor, *, bias: bool) -> ConvPatches:
        """Those of a layer whose padding is zeros around, by numbers.

        :raises ValueError: it is padded otherwise.
        """
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise ValueError("expected a convolution padded by zeros, by numbers")
        kernel, stride, padding, dilation = (
            (pair[0], pair[1])
            for pair in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        return cls(x, kernel, stride, padding, dilation, layer.groups, bias=bias)

    @property
    def positions(self) -> Pair:
        """Height and width of the output."""
        height, width = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                self.x.shape[-2:],
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        )
        return height, width

    @property
    def patch_size(self) -> int:
        """Numbers under one kernel: c_in/groups k k."""
        return self.x.shape[1] // self.groups * math.prod(self.kernel)

    @property
    def is_dense(self) -> bool:
        """Rows are patches, several of a sample."""
        return False

    @property
    def rows(self) -> int:
        """N = B H' W'."""
        return self.x.shape[0] * math.prod(self.positions)

    @property
    def columns(self) -> int:
        """n."""
        return self.weight * self.patch_size + self.bias

    @property
    def dtype(self) -> torch.dtype:
        """Type of the products."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Device of the products."""
        return self.x.device

    @property
    def correlates(self) -> bool:
        """Whether the Gram is an autocorrelation of the input, and so needs no patches."""
        return (
            self.stride == self.dilation == (1, 1)
            and self.groups == 1
            and self.kernel != (1, 1)
            and self.padding[0] < self.kernel[0]
            and self.padding[1] < self.kernel[1]
            and self.x.shape[3] >= self.kernel[1] - 1 - self.padding[1]  # borders do not overlap
            and self.weight
            and self.x.shape[0] > 0  # there is no transform of nothing
            and self.x.device.type != "mps"  # complex products are missing there
        )

    @property
    def gram_products(self) -> int:
        """N n^2 per group, or what the autocorrelation takes."""
        if not self.correlates:
            return self.groups * self.rows * self.columns**2
        batch, channels, height, width = self.x.shape
        frequencies = (width + self.kernel[1] - 1) // 2 + 1
        return 4 * batch * height * self.kernel[0] * frequencies * channels**2

    def to(self, dtype: torch.dtype) -> ConvPatches:
        """The same map in another precision."""
        return replace(self, x=self.x.to(dtype))

    def apply(self, direction: Tensor) -> Tensor:
        """A V, ``(B, c_out, H', W')``, from V ``(groups, c_out/groups, n)``."""
        flat = direction.reshape(-1, self.columns)
        if not self.weight:
            return flat.reshape(1, -1, 1, 1).expand(self.x.shape[0], -1, *self.positions)
        weight = flat[:, :-1] if self.bias else flat
        return F.conv2d(
            self.x,
            weight.reshape(-1, self.x.shape[1] // self.groups, *self.kernel),
            flat[:, -1].contiguous() if self.bias else None,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )

    def adjoint(self, cotangent: Tensor) -> Direction:
        """(A^T G)^T ``(groups, c_out/groups, n)`` by parts, from G ``(B, c_out, H', W')``."""
        weight = bias = None
        if self.weight:
            shape = (cotangent.shape[1], self.x.shape[1] // self.groups, *self.kernel)
            weight = conv2d_weight(
                self.x, shape, cotangent, self.stride, self.padding, self.dilation, self.groups
            ).reshape(self.groups, -1, self.patch_size)
        if self.bias:
            bias = cotangent.sum(dim=(0, 2, 3)).reshape(self.groups, -1, 1)
        return Direction(weight, bias)

    def split(self, direction: Tensor) -> Direction:
        """V ``(groups, c_out/groups, n)`` by parts."""
        return split_columns(direction, self.weight, self.bias)

    def gram(self) -> Tensor:
        """A^T A, ``(groups, n, n)``."""
        if self.correlates:
            return self._correlated_gram()
        gram = self.x.new_zeros(self.groups, self.columns, self.columns)
        if not self.weight:
            return gram.fill_(self.rows)
        # from a few samples' patches at a time
        elements = max(1, self.groups * self.columns * math.prod(self.positions))
        for x in self.x.split(max(1, _CHUNK_ELEMENTS // elements)):
            patches = self._unfold(x)
            gram.baddbmm_(patches, patches.mT)
        return gram

    def _correlated_gram(self) -> Tensor:
        inner = patch_gram(self.x, self.kernel, self.padding)
        if not self.bias:
            return inner.unsqueeze(0)
        gram = self.x.new_empty(1, self.columns, self.columns)
        sums = window_sums(self.x, self.kernel, self.padding)
        gram[0, :-1, :-1] = inner
        gram[0, -1, :-1] = sums
        gram[0, :-1, -1] = sums
        gram[0, -1, -1] = self.rows
        return gram

    def trace(self) -> Tensor:
        """tr(A^T A), ``(groups, 1, 1)``."""
        trace = self.x.new_zeros(self.groups, 1, 1)
        if self.weight:
            energy = self.x.square().unflatten(1, (self.groups, -1)).sum(dim=2)
            ones = self.x.new_ones(self.groups, 1, *self.kernel)
            windows = F.conv2d(
                energy, ones, None, self.stride, self.padding, self.dilation, self.groups
            )
            trace = trace + windows.sum(dim=(0, 2, 3)).reshape(self.groups, 1, 1)
        return trace + self.rows if self.bias else trace

    def dense(self) -> Dense:
        """The same map with all patches unfolded: only for few rows. Group axis first."""
        patches = self._unfold(self.x, bias=False) if self.weight else self._no_patches()
        return Dense(patches.mT, weight=self.weight, bias=self.bias)

    def rows_first(self, cotangent: Tensor) -> Tensor:
        """G ``(B, c_out, H', W')`` as ``(groups, N, c_out/groups)``, rows as in :meth:`dense`."""
        grouped = cotangent.unflatten(1, (self.groups, -1))
        rows: Tensor = grouped.permute(1, 0, 3, 4, 2).reshape(self.groups, self.rows, -1)
        return rows

    def _no_patches(self) -> Tensor:
        return self.x.new_empty(self.groups, 0, self.rows)

    def _unfold(self, x: Tensor, bias: bool | None = None) -> Tensor:
        """Patches of some samples, ``(groups, n, B H' W')``, the row of ones last."""
        batch, channels = x.shape[:2]
        (pad_y, pad_x), (height, width) = self.padding, self.positions
        padded = F.pad(x, (pad_x, pad_x, pad_y, pad_y)) if pad_x or pad_y else x
        in_batch, in_channel, in_y, in_x = padded.stride()
        # every patch as a view (c_in, k, k, B, H', W'); one copy makes the matrix
        windows = padded.as_strided(
            (channels, *self.kernel, batch, height, width),
            (
                in_channel,
                in_y * self.dilation[0],
                in_x * self.dilation[1],
                in_batch,
                in_y * self.stride[0],
                in_x * self.stride[1],
            ),
        )
        with_ones = self.bias if bias is None else bias
        patches = x.new_empty(self.groups, self.patch_size + with_ones, batch * height * width)
        target = patches[:, : self.patch_size]
        target.unflatten(2, (batch, height, width)).unflatten(
            1, (channels // self.groups, *self.kernel)
        ).copy_(windows.unflatten(0, (self.groups, -1)))
        if with_ones:
            patches[:, -1] = 1.0
        return patches
