"""The Gram without patches, against patches written out by loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine import conv_patches
from engine.conv_gram import patch_gram, window_sums
from engine.conv_patches import ConvPatches
from tests.engine import reference


@st.composite
def cases(draw):
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    # the kernel fits at least once
    height = draw(st.integers(max(1, kernel[0] - 2 * padding[0]), 9))
    # what lies outside of a window on the left and on the right must not meet
    width = draw(st.integers(max(1, kernel[1] - 1 - padding[1], kernel[1] - 2 * padding[1]), 9))
    size = height, width
    return draw(st.integers(1, 3)), draw(st.integers(1, 3)), size, kernel, padding


def truth(x, kernel, padding):
    layer = nn.Conv2d(x.shape[1], 1, kernel, padding=padding)
    (a,) = reference.patches(layer, x.numpy())
    return a.T @ a, a.sum(axis=0)


@settings(max_examples=150, deadline=None)
@given(case=cases(), seed=st.integers(0, 1000))
def test_equals_the_products_of_patches(case, seed):
    batch, channels, size, kernel, padding = case
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, *size, dtype=torch.float64, generator=generator)
    gram, sums = truth(x, kernel, padding)
    assert reference.relative(patch_gram(x, kernel, padding), gram) < 1e-12
    assert reference.relative(window_sums(x, kernel, padding), sums) < 1e-12


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1), (2, 2), (9, 2), (3, 4)])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_inputs_narrower_than_the_kernel(size, k):
    x = torch.randn(4, 2, *size, dtype=torch.float64)
    patches = ConvPatches(x, (k, k), padding=(k // 2, k // 2), bias=False)
    gram, _ = truth(x, (k, k), (k // 2, k // 2))
    assert reference.relative(patches.gram()[0], gram) < 1e-12


def test_unfolding_in_several_chunks_adds_up(monkeypatch):
    x = torch.randn(7, 2, 6, 6, dtype=torch.float64)
    patches = ConvPatches(x, (3, 3), stride=(2, 1), padding=(1, 1), bias=False)
    assert not patches.correlates
    layer = nn.Conv2d(2, 1, 3, stride=(2, 1), padding=1)
    (a,) = reference.patches(layer, x.numpy())
    monkeypatch.setattr(conv_patches, "_CHUNK_ELEMENTS", 2 * 18 * 18)  # two samples a chunk
    assert reference.relative(patches.gram()[0], a.T @ a) < 1e-12


@pytest.mark.parametrize("shape", [(40, 3, 32, 32), (40, 16, 16, 16), (40, 20, 8, 8)])
def test_float32_is_as_good_as_unfolding(shape):
    """Uncentred inputs, as after a ReLU: largest error 1e-6 of the largest entry."""
    torch.manual_seed(0)
    x = torch.rand(*shape)
    exact = patch_gram(x.double(), (5, 5), (2, 2))
    error = (patch_gram(x, (5, 5), (2, 2)) - exact).abs().max() / exact.max()
    assert error < 1e-6


@pytest.mark.parametrize(
    ("settings", "correlates"),
    [
        ({"padding": (1, 1)}, True),
        ({}, True),
        ({"padding": (3, 1)}, False),
        ({"stride": (2, 1)}, False),
        ({"dilation": (1, 2)}, False),
        ({"groups": 2}, False),
        ({"kernel": (3, 9)}, False),
        ({"weight": False}, False),
    ],
)
def test_where_it_applies(settings, correlates):
    patches = ConvPatches(torch.randn(2, 2, 7, 7), **({"kernel": (3, 3)} | settings))
    assert patches.correlates is correlates


def test_takes_a_fraction_of_the_products():
    patches = ConvPatches(torch.randn(5, 16, 16, 16), (5, 5), padding=(2, 2))
    assert patches.gram_products < patches.rows * patches.columns**2 / 10
