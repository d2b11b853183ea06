r"""Sums over all pairs of a row and a mean, as matrix products.

.. math::

    \lVert a_i - b_j \rVert^2 = \lVert a_i \rVert^2 - 2 \, a_i \cdot b_j + \lVert b_j \rVert^2

The products are `affine`, so that no result depends on which other rows are there, and in double precision, since
the difference of large numbers is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_anomaly.model.affine import affine


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of rows ``(N, D)`` and ``(n, D)``, ``(N, n)``, in the precision of ``a``."""
    a2, b2 = a.double(), b.double()
    squared = affine(a2, b2).mul_(-2).add_(a2.square().sum(dim=1)[:, None]).add_(b2.square().sum(dim=1))
    return squared.clamp_(min=0).to(a.dtype)


def log_prob_of_pairs(a: Tensor, b: Tensor, scale: Tensor, constant: Tensor) -> Tensor:
    """``constant - ||a - b||^2 / (2 scale)`` of rows ``(N, D)`` and ``(n, D)``: ``(N, n)`` float64.

    ``scale`` and ``constant`` are of shape ``()`` or ``(N,)``.
    """
    a2, b2 = a.double(), b.double()
    norms = -0.5 * b2.square().sum(dim=1)
    inverse = torch.broadcast_to(1 / scale.double(), (len(a),))[:, None]
    of_rows = constant.double()[..., None] - 0.5 * a2.square().sum(dim=1, keepdim=True) * inverse
    products = affine(a2, b2, norms)
    return torch.addcmul(of_rows, products, inverse, out=products)


def weighted_moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``(n, D)`` by weights ``(N, n)`` that sum to one in each row: ``(N, D)`` float64 each."""
    weights, columns = weights.double(), values.double().T.contiguous()
    mean = affine(weights, columns)
    return mean, (affine(weights, columns.square()) - mean.square()).clamp(min=0)
