r"""The standard normal N(0, I), with which every VAE is trained.

.. math::

    \mathrm{KL}(N(\mu, \mathrm{diag}(\sigma^2)) \,\|\, N(0, I)) =
    \tfrac12 \sum_j \left(\mu_j^2 + \sigma_j^2 - \log \sigma_j^2 - 1\right)

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import math

from torch import Tensor

from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.base import DensityPrior
from vae_anomaly.registry import PRIORS


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) in closed form, ``(N,)``, in nats."""
    mu, sigma, log_var = posterior
    return 0.5 * (mu.square() + sigma.square() - log_var - 1).sum(dim=-1)


@PRIORS.register("normal")
class StandardNormal(DensityPrior):
    """N(0, I): what every VAE is trained with."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)

    def kl(self, posterior: Posterior) -> Tensor:
        return kl_divergence(posterior)

    def kl_of_latents(self, posterior: Posterior) -> Tensor:
        mu, sigma, log_var = posterior
        return 0.5 * (mu.square() + sigma.square() - log_var - 1)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        return noise
