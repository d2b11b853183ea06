r"""White Gaussian noise with one learned variance.

.. math::

    \log p(x|z) = -\frac{\lVert x - \hat x \rVert^2}{2 v} - \frac D2 \log(2 \pi v), \qquad
    v^* = \tfrac1D \, \mathrm{mean} \, \lVert x - \hat x \rVert^2

The variance v of the highest likelihood is known for given means, so it is set rather than descended to: a running mean
of v* over the batches. This replaces the weight between reconstruction term and KL term that a fixed variance would
need to be tuned by.

References
----------
Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021), https://arxiv.org/abs/2006.13202
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.pairs import log_prob_under, weighted_moments
from vae_anomaly.registry import LIKELIHOODS

SMALLEST_VARIANCE = 1e-6  # near the quantisation noise of 8-bit pixels, 1 / 255^2 / 12


@LIKELIHOODS.register("gaussian", gaussian=True)
class Gaussian(Likelihood):
    """Normal with the decoded mean and one shared, learned variance."""

    positive_buffers: ClassVar[frozenset[str]] = frozenset({"variance"})

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(()))
        self.variance: Tensor

    @classmethod
    def of_variance(cls, variance: Tensor) -> Self:
        """White noise of this variance ``()``."""
        likelihood = cls()
        likelihood.variance = variance
        return likelihood

    @property
    def shared_variance(self) -> Tensor | None:
        return self.variance

    def size(self, x: Tensor) -> int:
        """Features of a row."""
        return x.shape[-1]

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.log_prob_of_norms((x - decoded).square().sum(dim=-1), self.size(x))

    def log_prob_of_norms(self, squared: Tensor, n_features: int) -> Tensor:
        """Log-density of rows from the squared norms of their residuals, ``(N,)``."""
        return -0.5 * (squared / self.variance + n_features * torch.log(2 * math.pi * self.variance))

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.log_prob_of_squares(self.whiten(x - decoded).square(), x)

    def mean_log_prob_of_features(self, x: Tensor, decoded: Tensor, weights: Tensor) -> Tensor:
        # the mean squared distance is that to the mean, plus the variance around it
        mean, variance = weighted_moments(self.whiten(decoded), weights)
        return self.log_prob_of_squares((self.whiten(x) - mean).square() + variance, x)

    def log_prob_of_squares(self, squared: Tensor, x: Tensor) -> Tensor:
        """Each feature's share from its squared, whitened residual, ``(N, D)``."""
        return -0.5 * (squared / self.variance + torch.log(2 * math.pi * self.variance))

    def whiten(self, residual: Tensor) -> Tensor:
        """The linear map ``(N, D)`` to ``(N, D)`` that makes the noise white; here it is white already."""
        return residual

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.variance.double().expand_as(x)

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return 0.5 - self.log_prob_of_squares(torch.zeros_like(x), x)

    def bind_means(self, decoded: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        constant = -0.5 * decoded.shape[-1] * torch.log(2 * math.pi * self.variance)
        log_prob = log_prob_under(decoded, self.variance)

        def in_parts(x: Tensor) -> tuple[Tensor, Tensor]:
            of_pairs, of_rows = log_prob(x)
            return of_pairs, of_rows + constant

        return in_parts

    def widened(self, decoded: Tensor, spread: Tensor) -> tuple[Self, Tensor]:
        if self.shared_variance is None:
            return super().widened(decoded, spread)
        return self.of_variance(self.variance * spread), decoded

    def learn(self, x: Tensor, decoded: Tensor, weight: float | Tensor) -> Tensor:
        squared = functional.mse_loss(decoded, x, reduction="none").sum(dim=-1)  # takes few passes, backward too
        mean = squared.detach().mean() / self.size(x)
        self.variance.lerp_(mean.clamp(min=SMALLEST_VARIANCE), weight)
        return self.log_prob_of_norms(squared, self.size(x))

    @torch.no_grad()
    def fit_after_training(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        self.learn(x, decoded, 1.0)

    @torch.no_grad()
    def rescale_noise(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        ratio = (x - after).square().mean() / (x - before).square().mean()
        self.variance.mul_(ratio.nan_to_num(1.0)).clamp_(min=SMALLEST_VARIANCE)
