r"""The evidence lower bound, per sample, in nats.

.. math::

    \log p(x) \ge \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, N(0, I))

All functions return ``(N,)``: reducing over a batch is the training loss's business alone. ``noise`` holds K
standard normal draws, ``(K, N, latent_dim)``, or ``(K, 1, latent_dim)`` where all rows share them.

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_anomaly.networks import Posterior
from vae_anomaly.vae import VAE


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) in closed form, ``(N,)``, in nats."""
    mu, sigma, log_var = posterior
    return 0.5 * (mu.square() + sigma.square() - log_var - 1).sum(dim=-1)


def reconstruction_term(vae: VAE, x: Tensor, posterior: Posterior, noise: Tensor) -> Tensor:
    """E_q[log p(x|z)] as the mean over the draws, ``(N,)``, in nats."""
    log_p = [vae.likelihood.log_prob(x, vae.decode(vae.rsample(posterior, eps))) for eps in noise]
    return torch.stack(log_p).mean(dim=0)


def elbo_terms(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of the ELBO, each ``(N,)``: reconstruction and KL; the ELBO is their difference."""
    posterior = vae.encode(x)
    return reconstruction_term(vae, x, posterior, noise), kl_divergence(posterior)


def importance_weighted_bound(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    r"""Bound :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k|x)` on log p(x), ``(N,)``: tighter with more draws."""
    posterior = vae.encode(x)
    log_w = []
    for eps in noise:
        z = vae.rsample(posterior, eps)
        log_ratio = 0.5 * (eps.square() - z.square() + posterior.log_var).sum(dim=-1)  # log p(z) - log q(z|x)
        log_w.append(vae.likelihood.log_prob(x, vae.decode(z)) + log_ratio)
    return torch.logsumexp(torch.stack(log_w), dim=0) - math.log(len(noise))
