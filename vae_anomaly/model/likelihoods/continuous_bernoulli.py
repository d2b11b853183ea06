r"""The density on [0, 1] proportional to :math:`\lambda^x (1-\lambda)^{1-x}`.

With the logit l of :math:`\lambda` it is :math:`\exp(x l) \, l / (e^l - 1)`. Written around h = l/2, its logarithm is
:math:`(2x - 1) h - \log(\sinh h / h)`, its mean :math:`\tfrac12 + \tfrac12(\coth h - 1/h)` and its variance
:math:`\tfrac14 (h^{-2} - \sinh^{-2} h)`. All three have removable singularities at 0, where their Taylor series take
over.

References
----------
The continuous Bernoulli: fixing a pervasive error in variational autoencoders
(Loaiza-Ganem & Cunningham, 2019), https://arxiv.org/abs/1907.06845
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.registry import LIKELIHOODS

TAYLOR_BELOW = 0.1  # of |h|


@LIKELIHOODS.register("continuous_bernoulli", support=(0.0, 1.0))
class ContinuousBernoulli(Likelihood):
    """A density for values in [0, 1], such as grey levels; the decoder gives logits."""

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        h, small, nonzero = half_logits(decoded)
        magnitude = nonzero.abs()
        log_sinhc = magnitude + torch.log(-torch.expm1(-2 * magnitude)) - torch.log(2 * magnitude)
        h2 = h.square()
        taylor = h2 * (1 / 6 - h2 * (1 / 180 - h2 * (1 / 2835 - h2 / 37800)))
        return (2 * x - 1) * h - torch.where(small, taylor, log_sinhc)

    def mean(self, decoded: Tensor) -> Tensor:
        h, small, nonzero = half_logits(decoded)
        h2 = h.square()
        taylor = h * (1 / 3 - h2 * (1 / 45 - h2 * (2 / 945 - h2 / 4725)))
        return 0.5 + 0.5 * torch.where(small, taylor, 1 / torch.tanh(nonzero) - 1 / nonzero)

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """The mean's derivative with respect to the logit, as in every exponential family."""
        h, small, nonzero = half_logits(decoded.double())
        h2 = h.square()
        taylor = 1 / 3 - h2 * (1 / 15 - h2 * (2 / 189 - h2 / 675))
        return 0.25 * torch.where(small, taylor, nonzero.pow(-2) - torch.sinh(nonzero).pow(-2))


def half_logits(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Half of the logits; where these are small; the halves with ones there, so that no gradient divides by zero."""
    h = 0.5 * logits
    small = h.abs() < TAYLOR_BELOW
    return h, small, torch.where(small, torch.ones_like(h), h)
