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
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


def patch_gram(x: Tensor, kernel: Pair, padding: Pair) -> Tensor:
    """A^T A of the patches of ``x`` under a kernel, ``(c k k, c k k)``; stride and dilation 1.

    :param x: ``(B, c, H, W)``, float32 or float64.
    :param padding: zeros on both sides of height and width; at most kernel size - 1.
    """
    channels, height, width = x.shape[1:]
    k_y, k_x = kernel
    windows = _windows(height, k_y, padding[0], x.dtype, x.device)
    spectrum = torch.view_as_real(torch.fft.rfft(x, n=width + k_x - 1, dim=3))
    # (F, H, 2, c, B): every product is a matrix product over the batch
    products = [_row_products(spectrum.permute(3, 2, 4, 1, 0).flatten(2, 3), k_y, windows)]
    terms = [products[0].unflatten(4, (2, channels)).unflatten(2, (2, channels))]
    borders = k_x - 1 - padding[1]
    for border in (x[..., :borders], x[..., width - borders :]) if borders else ():
        rows = border.permute(2, 3, 1, 0).flatten(1, 2).unsqueeze(0)  # (1, H, q c, B)
        sums = _row_products(rows, k_y, windows)
        terms.append(sums.unflatten(4, (borders, channels)).unflatten(2, (borders, channels)))
    # each (F or 1, k, u, c, k, v, c) -> (k, k, F u v, c c)
    stacked = torch.cat(
        [part.permute(1, 4, 0, 2, 5, 3, 6).flatten(5, 6).flatten(2, 4) for part in terms], dim=2
    )
    combine = _combination(width, k_x, padding[1], x.dtype, x.device)
    blocks = torch.matmul(combine, stacked).view(k_y, k_y, k_x, k_x, channels, channels)

    gram = x.new_empty(channels, k_y, k_x, channels, k_y, k_x)
    for first in range(k_y):
        for distance in range(k_y - first):
            block = blocks[first, distance].permute(2, 0, 3, 1)
            gram[:, first, :, :, first + distance, :] = block
            if distance:
                gram[:, first + distance, :, :, first, :] = block.permute(2, 3, 0, 1)
    order = channels * k_y * k_x
    return gram.view(order, order)


def window_sums(x: Tensor, kernel: Pair, padding: Pair) -> Tensor:
    """A^T 1: the sum under every kernel position, ``(c k k,)``; stride and dilation 1."""
    total = F.pad(x.sum(dim=0), (padding[1], padding[1], padding[0], padding[0]))
    height, width = (
        size - length + 1 for size, length in zip(total.shape[1:], kernel, strict=True)
    )
    return total.unfold(1, height, 1).unfold(2, width, 1).sum(dim=(3, 4)).flatten()


def _row_products(rows: Tensor, k_y: int, windows: Tensor) -> Tensor:
    """For rows ``(F, H, m, B)`` the products of rows (r, r + distance), summed over the rows r
    under each kernel row: ``(F, kernel rows, m, distances, m)``."""
    frequencies, height, m, batch = rows.shape
    # zeros below, so that every row has k_y partners
    padded = rows.new_zeros(height + k_y - 1, m, batch)
    partners = padded.as_strided((height, k_y * m, batch), (m * batch, batch, 1))
    sums = rows.new_empty(frequencies, k_y, m * k_y * m)
    for index in range(frequencies):
        padded[:height] = rows[index]
        products = torch.bmm(padded[:height], partners.mT)
        torch.mm(windows, products.flatten(1), out=sums[index])
    return sums.view(frequencies, k_y, m, k_y, m)


@lru_cache(maxsize=64)
def _windows(
    height: int, k_y: int, padding: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """1 where input row r lies under kernel row i for some output row, ``(k_y, H)``."""
    outputs = height + 2 * padding - k_y + 1
    row, first = torch.arange(height), torch.arange(k_y).unsqueeze(1)
    under = (row >= first - padding) & (row < first - padding + outputs)
    return under.to(device, dtype)


@lru_cache(maxsize=64)
def _combination(
    width: int, k_x: int, padding: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """From products of spectra and borders to the entries for (j, j'), ``(k k, terms)``: the
    inverse transform at the lag j' - j, and minus the border columns outside of j's window."""
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
                cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
                # of conj(X) X' by real and imaginary parts: RR', RI', IR', II'
                row += [cosine, -sine, sine, cosine]
            for missing in (range(j - padding), range(j, borders)):  # left, right
                row += [
                    -1.0 if u in missing and v == u + lag else 0.0
                    for u in range(borders)
                    for v in range(borders)
                ]
            terms.append(row)
    return torch.tensor(terms, dtype=dtype, device=device)
