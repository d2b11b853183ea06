"""Laws of the products: they are right, and a row's result, and its gradient's, is its own."""

from __future__ import annotations

import pytest
import torch

from vae_anomaly.model.affine import affine

DTYPES = [torch.float32, torch.float64]
SIDES = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 15, 16, 17, 33, 64, 157, 257]


def drawn(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1])).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_in", SIDES)
def test_rows_do_not_depend_on_position(n_in: int, dtype: torch.dtype) -> None:
    x, order = drawn(512, n_in, dtype=dtype), torch.randperm(512, generator=torch.Generator().manual_seed(0))
    for n_out in SIDES:
        weight, bias = drawn(n_out, n_in, dtype=dtype), drawn(n_out, dtype=dtype)
        together = affine(x, weight, bias)
        torch.testing.assert_close(together, x @ weight.T + bias, atol=1e-4, rtol=1e-4)
        assert torch.equal(affine(x[order], weight, bias), together[order])
        assert torch.equal(affine(x[order], weight), affine(x, weight)[order])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_in", SIDES)
def test_gradients_do_not_either(n_in: int, dtype: torch.dtype) -> None:
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    for n_out in SIDES:
        weight = drawn(n_out, n_in, dtype=dtype)

        def gradient(x: torch.Tensor, weight: torch.Tensor = weight) -> torch.Tensor:
            x = x.clone().requires_grad_()
            return torch.autograd.grad(affine(x, weight).square().sum(), x)[0]

        x = drawn(512, n_in, dtype=dtype)
        torch.testing.assert_close(gradient(x), 2 * x @ weight.T @ weight, atol=1e-3, rtol=1e-3)
        assert torch.equal(gradient(x[order]), gradient(x)[order])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", SIDES[:-2])
def test_batches_of_products_do_not_either(side: int, dtype: torch.dtype) -> None:
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    x, weight = drawn(3, 512, side, dtype=dtype), drawn(3, side, side, dtype=dtype)
    together = affine(x, weight)
    torch.testing.assert_close(together, x @ weight.mT, atol=1e-4, rtol=1e-4)
    assert torch.equal(affine(x[:, order], weight), together[:, order])
