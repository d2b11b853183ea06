r"""Matrix products that compute every row in the same way, so that no score depends on a row's neighbours or position.

The sum :math:`\sum_i x_i w_i` of a product's entry is rounded at each step, so its last bits depend on the order of the
steps. For products with narrow sides MKL 2024.2 was seen to take paths whose order depends on a row's position: the
same row then has two results. No such path was seen, forward or backward, once both sides are filled up with zeros to a
multiple of 16, which changes no value. The transpose matters too: the inner dimension of both operands has to be
contiguous.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

SIDE = 16


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, from ``(..., N, n_in)`` and ``(..., n_out, n_in)`` to ``(..., N, n_out)``."""
    return affine_of_filled(x, *filled_up(weight, bias))[..., : weight.shape[-2]]


def filled_up(weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias with zeros up to a multiple of 16 on each side: work that several products may share."""
    n_out, n_in = weight.shape[-2:]
    more_out, more_in = -n_out % SIDE, -n_in % SIDE
    if more_out or more_in:
        weight = functional.pad(weight, (0, more_in, 0, more_out))
        bias = None if bias is None else functional.pad(bias, (0, more_out))
    return weight, bias


def affine_of_filled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`affine` of what `filled_up` gave, with the zeros at the end of its result."""
    more_in = weight.shape[-1] - x.shape[-1]
    if more_in:
        x = functional.pad(x, (0, more_in))
    return x @ weight.mT if bias is None else functional.linear(x, weight, bias)
