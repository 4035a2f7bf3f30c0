"""A A^T by blocks of rows."""

from __future__ import annotations

import pytest
import torch

from engine.linear_maps import Dense, symmetric_product


@pytest.mark.parametrize("shape", [(1, 1), (31, 5), (32, 1), (33, 7), (130, 300), (2, 3, 40, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_the_product_and_symmetric(shape, dtype):
    torch.manual_seed(0)
    a = torch.randn(shape, dtype=dtype)
    found = symmetric_product(a)
    truth = a.double() @ a.double().mT
    bound = 4 * torch.finfo(dtype).eps * shape[-1]
    assert ((found - truth).abs() <= bound * truth.abs().amax()).all()
    torch.testing.assert_close(found, found.mT, rtol=0, atol=bound * float(truth.abs().amax()))


def test_of_columns_too():
    a = torch.randn(7, 50, dtype=torch.float64)
    torch.testing.assert_close(symmetric_product(a.mT), a.mT @ a)


def test_the_counts_say_what_symmetry_saves():
    wide = Dense(torch.empty(100, 900), bias=False)
    assert wide.outer_products == 100**2 * 900 * 5 // 8
    assert wide.gram_products == 100 * 900**2 * 5 // 8
    assert Dense(torch.empty(10, 900), bias=False).outer_products == 10**2 * 900


def test_does_less_work_than_the_product():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        symmetric_product(torch.randn(128, 64))
    assert counter.get_total_flops() == 2 * 128**2 * 64 * 5 // 8
