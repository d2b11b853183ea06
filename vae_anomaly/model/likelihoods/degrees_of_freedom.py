r"""How many independent observations the correlated residuals of a row count for.

With the covariance :math:`\Sigma(z)` of residuals :math:`r \in R^D` given z, their effective number of degrees of
freedom is

.. math::

    \nu = \frac{(\mathrm{tr} \, \Sigma)^2}{\mathrm{tr} \, \Sigma^2}.

For two independent residuals of one z, :math:`E(r_1 \cdot r_2)^2 = \mathrm{tr} \, \Sigma^2` and
:math:`E \lVert r_1 \rVert^2 \lVert r_2 \rVert^2 = (\mathrm{tr} \, \Sigma)^2`. Rows whose latents are close are taken as
rows of one z: each row and its 20 nearest neighbours in the latent space estimate both.

References
----------
An Approximate Distribution of Estimates of Variance Components (Satterthwaite, 1946), https://doi.org/10.2307/3002019
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NEIGHBOURS = 20
ROWS_OF_PAIRS = 512  # whose distances to all others are held at a time


def degrees_of_freedom(residual: Tensor, codes: Tensor) -> Tensor:
    r"""Estimate :math:`\nu` between 1 and D, ``()``, from residuals ``(N, D)`` and latents ``(N, latent_dim)``."""
    n, device = len(residual), residual.device
    energy = residual.square().sum(dim=1)
    overlap, products = torch.zeros(2, dtype=energy.dtype, device=device)
    for rows in torch.split(torch.arange(n, device=device), ROWS_OF_PAIRS):
        distances = torch.cdist(codes[rows], codes)
        distances[torch.arange(len(rows), device=device), rows] = math.inf
        near = distances.topk(min(NEIGHBOURS, n - 1), largest=False).indices
        overlap += (residual[rows] @ residual.T).gather(1, near).square().sum()
        products += (energy[rows, None] * energy[near]).sum()
    degrees: Tensor = (products / overlap).nan_to_num(1.0).clamp(1, residual.shape[-1])
    return degrees
