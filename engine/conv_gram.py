"""The Gram of a convolution's patches without its patches.

For a convolution with stride 1, entry ((c, i, j), (c', i', j')) of A^T A is

    sum over b and output positions (y, x) of  X[b, c, y + i, x + j] X[b, c', y + i', x + j']

with the zero-padded input X: an autocorrelation of the input at the lag (i' - i, j' - j), less
what lies outside of the window of (i, j). Unfolded patches need (c k k)^2 products a position.
Here rows are paired exactly, k pairs a row, and along the width the correlations of all lags come
from one Fourier transform: about 4 k c^2 products a position, and no array larger than the input's
spectrum. Along the width, the outside of a window touches only pairs among the k - 1 - padding
columns at either border, whose products are taken off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Pair = tuple[int, int]

# Elements of the products of row pairs held at a time: 32 MiB in complex64.
_CHUNK_ELEMENTS = 4 * 1024 * 1024


def patch_gram(x: Tensor, kernel: Pair, padding: Pair) -> Tensor:
    """A^T A of the patches of ``x`` under a kernel, ``(c k k, c k k)``; stride and dilation 1.

    :param x: ``(B, c, H, W)``, float32 or float64.
    :param padding: zeros on both sides of height and width; at most kernel size - 1.
    """
    channels = x.shape[1]
    k_y, k_x = kernel
    borders = k_x - 1 - padding[1]
    spectrum = torch.fft.rfft(x, n=x.shape[3] + k_x - 1, dim=3)
    # (F, H, c, B): every product below is a matrix product over the batch
    spectrum = spectrum.permute(3, 2, 1, 0).contiguous()
    combine = _combination(x.shape[3], k_x, padding[1], x.dtype, x.device)
    windows = list(_row_windows(x.shape[2], k_y, padding[0]))

    # per window: real and imaginary part of every frequency, then the borders' products
    parts = [
        torch.view_as_real(chunk).permute(1, 0, 4, 2, 3).flatten(1, 2)
        for chunk in _window_sums(spectrum, windows, conjugate=True)
    ]
    for border in (x[..., :borders], x[..., x.shape[3] - borders :]) if borders else ():
        columns = border.permute(2, 3, 1, 0).flatten(1, 2).unsqueeze(0)  # (1, H, q c, B)
        (sums,) = _window_sums(columns, windows, conjugate=False)
        pairs = sums[0].unflatten(2, (borders, channels)).unflatten(1, (borders, channels))
        parts.append(pairs.permute(0, 1, 3, 2, 4).flatten(1, 2))
    stacked = torch.cat(parts, dim=1)  # (windows, terms, c, c)
    blocks = torch.matmul(combine, stacked.flatten(2)).view(
        len(windows), k_x, k_x, channels, channels
    )

    gram = x.new_zeros(channels, k_y, k_x, channels, k_y, k_x)
    for window, block in zip(windows, blocks.permute(0, 3, 1, 4, 2), strict=True):
        first, second = window.first, window.first + window.distance
        gram[:, first, :, :, second, :] = block
        if window.distance:
            gram[:, second, :, :, first, :] = block.permute(2, 3, 0, 1)
    order = channels * k_y * k_x
    return gram.view(order, order)


def window_sums(x: Tensor, kernel: Pair, padding: Pair) -> Tensor:
    """A^T 1: the sum under every kernel position, ``(c k k,)``; stride and dilation 1."""
    total = torch.nn.functional.pad(x.sum(dim=0), (padding[1], padding[1], padding[0], padding[0]))
    height, width = (
        size - length + 1 for size, length in zip(total.shape[1:], kernel, strict=True)
    )
    return total.unfold(1, height, 1).unfold(2, width, 1).sum(dim=(3, 4)).flatten()


@dataclass(frozen=True, slots=True)
class _RowWindow:
    """The pairs of input rows (r, r + distance), start <= r < stop, under the kernel rows
    (first, first + distance)."""

    first: int
    distance: int
    start: int
    stop: int


def _row_windows(height: int, k_y: int, padding: int) -> Iterator[_RowWindow]:
    outputs = height + 2 * padding - k_y + 1
    for distance in range(min(k_y, height)):
        for first in range(k_y - distance):
            start = max(0, first - padding)
            stop = min(height - distance, first - padding + outputs)
            if start < stop:
                yield _RowWindow(first, distance, start, stop)


def _window_sums(rows: Tensor, windows: list[_RowWindow], *, conjugate: bool) -> Iterator[Tensor]:
    """For rows ``(F, H, m, B)`` chunks of ``(F, windows, m, m)``: the products of all row pairs
    of a window, summed."""
    height, m = rows.shape[1:3]
    size = max(1, _CHUNK_ELEMENTS // (height * m * m))
    for chunk in rows.split(size):
        sums = chunk.new_empty(len(chunk), len(windows), m, m)
        products, at = chunk, -1
        for index, window in enumerate(windows):
            if window.distance != at:
                at = window.distance
                left = chunk[:, : height - at]
                products = torch.matmul(left.conj() if conjugate else left, chunk[:, at:].mT)
            torch.sum(products[:, window.start : window.stop], dim=1, out=sums[:, index])
        yield sums


@lru_cache(maxsize=64)
def _combination(
    width: int, k_x: int, padding: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """From spectrum and borders to the entries for (j, j'), ``(k k, terms)``: the inverse
    transform at the lag j' - j, and minus the border columns outside of the window of j."""
    length, borders = width + k_x - 1, k_x - 1 - padding
    terms: list[list[float]] = []
    for j in range(k_x):
        for other in range(k_x):
            lag = other - j
            row: list[float] = []
            for frequency in range(length // 2 + 1):
                # all but the first and the middle frequency stand for their mirror image too
                own = frequency == 0 or 2 * frequency == length
                scale = (1.0 if own else 2.0) / length
                angle = 2 * math.pi * frequency * lag / length
                row += [scale * math.cos(angle), -scale * math.sin(angle)]
            for missing in (range(j - padding), range(j, borders)):  # left, right
                row += [
                    -1.0 if u in missing and v == u + lag else 0.0
                    for u in range(borders)
                    for v in range(borders)
                ]
            terms.append(row)
    return torch.tensor(terms, dtype=dtype, device=device)
