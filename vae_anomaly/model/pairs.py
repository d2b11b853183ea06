r"""Sums over all pairs of a row and a mean, as matrix products.

.. math::

    \lVert a_i - b_j \rVert^2 = \lVert a_i \rVert^2 - 2 \, a_i \cdot b_j + \lVert b_j \rVert^2

The products are `affine`, so that no result depends on which other rows are there, and in double precision, since
the difference of large numbers is taken.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vae_anomaly.model.affine import affine, affine_of_filled, filled_up


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of rows ``(N, D)`` and ``(n, D)``, ``(N, n)``, in the precision of ``a``."""
    a2, b2 = a.double(), b.double()
    squared = affine(a2, b2).mul_(-2).add_(a2.square().sum(dim=1)[:, None]).add_(b2.square().sum(dim=1))
    return squared.clamp_(min=0).to(a.dtype)


def log_prob_under(b: Tensor, scale: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """``-||a - b||^2 / (2 scale)`` of means b ``(n, D)``, as a function of rows a ``(N, D)``, and in two parts.

    The first, ``(N, n)`` float64, has what differs between the means, and the second, ``(N,)`` float64, what is the
    same for all of them. What concerns the means alone is computed once; ``scale`` has the shape ``()``.
    """
    b2, scale = b.double(), scale.double()
    filled = filled_up(b2 / scale, -0.5 * b2.square().sum(dim=1) / scale)

    def log_prob(a: Tensor) -> tuple[Tensor, Tensor]:
        a2 = a.double()
        return affine_of_filled(a2, *filled)[:, : len(b)], -0.5 * a2.square().sum(dim=1) / scale

    return log_prob


def weighted_moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``(n, D)`` by weights ``(N, n)`` that sum to one in each row: ``(N, D)`` float64 each."""
    weights, columns = weights.double(), values.double().T.contiguous()
    mean = affine(weights, columns)
    return mean, (affine(weights, columns.square()) - mean.square()).clamp(min=0)
