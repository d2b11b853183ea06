r"""The evidence lower bound, per sample, in nats.

.. math::

    \log p(x) \ge \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z))

Training maximises it with p(z) = N(0, I) and the likelihood's ``training_log_prob``. Scores use the prior and the
likelihood that were fitted after training; how to compute the terms is the prior's business, and so is the tighter
importance-weighted bound

.. math::

    \log p(x) \ge E \log \frac1K \sum_k \frac{p(x|z_k) \, p(z_k)}{q(z_k|x)} \ge \mathrm{ELBO}(x).

All functions return ``(N,)``: only the training loss averages over a batch. ``noise`` holds K standard normal draws,
``(K, N, latent_dim)``, or ``(K, 1, latent_dim)`` where all rows share them.

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from vae_anomaly.model.memo import remembered
from vae_anomaly.model.priors.standard_normal import kl_divergence
from vae_anomaly.model.vae import VAE


@remembered("likelihood", "prior")
def elbo_terms(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of the ELBO, each ``(N,)``: reconstruction and KL; the ELBO is their difference."""
    return vae.prior.elbo_terms(vae, x, noise)


def importance_weighted_bound(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The importance-weighted bound on log p(x), ``(N,)``: on average tighter with more draws."""
    return vae.prior.importance_weighted_bound(vae, x, noise)


def training_terms(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms, each ``(N,)``, whose difference training maximises."""
    posterior = vae.encode(x)
    log_prob = partial(vae.likelihood.training_log_prob, x)
    return vae.expected_log_prob(log_prob, posterior, noise), kl_divergence(posterior)
