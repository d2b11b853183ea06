r"""Independent binary features: :math:`\log p(x|z) = \sum_d x_d l_d - \log(1 + e^{l_d})` with the decoded logits l.

The mass of the values 0 and 1 sums to one. Of values between them it is a cross-entropy and no density, which
`ContinuousBernoulli` is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vae_anomaly.registry import LIKELIHOODS


@LIKELIHOODS.register("bernoulli", support=(0.0, 1.0), normalised=False)
class Bernoulli(Likelihood):
    """Independent binary features; the decoder gives logits. For grey values there is `ContinuousBernoulli`."""

    def as_density(self) -> ContinuousBernoulli:
        return ContinuousBernoulli()

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return x * decoded - functional.softplus(decoded)

    def mean(self, decoded: Tensor) -> Tensor:
        return torch.sigmoid(decoded)

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return torch.sigmoid(decoded.double()) * torch.sigmoid(-decoded.double())
