r"""The introductory article's likelihood: :math:`-\lVert x - \hat x \rVert^2`.

A Gaussian of variance 1/2 without its constant :math:`-\frac{D}{2}\log\pi`, so that the negative ELBO, divided by D, is
the article's loss exactly: mean squared error + KL / D. Its exponential integrates to :math:`\pi^{D/2}`; the Gaussian
itself is its density.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.registry import LIKELIHOODS


@LIKELIHOODS.register("squared_error", brought_by="article", stands_for="gaussian", normalised=False)
class SquaredError(Likelihood):
    """The article's squared error: a Gaussian of variance 1/2 without its constant."""

    def as_density(self) -> Gaussian:
        return Gaussian.of_variance(torch.tensor(0.5, dtype=torch.float64))

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return -(x - decoded).square()

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return torch.full_like(decoded, 0.5, dtype=torch.float64)

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return torch.full_like(decoded, 0.5)
