r"""Sums over all pairs of a row and a mean, as matrix products.

.. math::

    \lVert a_i - b_j \rVert^2 = \lVert a_i \rVert^2 - 2 \, a_i \cdot b_j + \lVert b_j \rVert^2

The products are `affine`, so that no result depends on which other rows are there, and in double precision, since
the difference of large numbers is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vae_anomaly.model.affine import affine, affine_of_filled, filled_up


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of rows ``(N, D)`` and ``(n, D)``, ``(N, n)``, in the precision of ``a``."""
    a2, b2 = a.double(), b.double()
    squared = affine(a2, b2).mul_(-2).add_(a2.square().sum(dim=1)[:, None]).add_(b2.square().sum(dim=1))
    return squared.clamp_(min=0).to(a.dtype)


def log_prob_under(b: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """``constant - ||a - b||^2 / (2 scale)`` of means b ``(n, D)``, as a function of a, scale and constant.

    Of rows a ``(N, D)``, and ``scale`` and ``constant`` of shape ``()`` or ``(N,)``, it is ``(N, n)`` float64. What
    concerns the means alone is computed once.
    """
    b2 = b.double()
    filled = filled_up(b2, -0.5 * b2.square().sum(dim=1))

    def log_prob(a: Tensor, scale: Tensor, constant: Tensor) -> Tensor:
        a2 = a.double()
        inverse = torch.broadcast_to(1 / scale.double(), (len(a),))[:, None]
        of_rows = constant.double()[..., None] - 0.5 * a2.square().sum(dim=1, keepdim=True) * inverse
        products = affine_of_filled(a2, *filled)[:, : len(b)]
        return torch.addcmul(of_rows, products, inverse, out=products)

    return log_prob


def weighted_moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``(n, D)`` by weights ``(N, n)`` that sum to one in each row: ``(N, D)`` float64 each."""
    weights, columns = weights.double(), values.double().T.contiguous()
    mean = affine(weights, columns)
    return mean, (affine(weights, columns.square()) - mean.square()).clamp(min=0)
