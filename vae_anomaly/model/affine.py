"""Matrix products whose every row is computed alike, so that no score depends on a row's neighbours or position."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

SIDE = 16


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, ``(..., N, n_in)`` and ``(..., n_out, n_in)`` to ``(..., N, n_out)``.

    Products with narrow sides take paths (seen in MKL 2024.2) whose summation order depends on a
    row's position, so that the same row can get two results. None was seen to, forward or backward, once zeros
    fill up both sides to a multiple of 16, which changes no value. The transpose matters too: the inner dimension
    of both operands is to be contiguous.
    """
    n_out, n_in = weight.shape[-2:]
    more_out, more_in = -n_out % SIDE, -n_in % SIDE
    if more_out or more_in:
        x, weight = functional.pad(x, (0, more_in)), functional.pad(weight, (0, more_in, 0, more_out))
        bias = None if bias is None else functional.pad(bias, (0, more_out))
    result = x @ weight.mT if bias is None else functional.linear(x, weight, bias)
    return result[..., :n_out]
