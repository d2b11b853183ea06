r"""The evidence lower bound, per sample, in nats.

.. math::

    \log p(x) \ge \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z))

Training maximises it with p(z) = N(0, I), and with what the likelihood says for training; scores use the prior and the
likelihood that were settled afterwards.

All functions return ``(N,)``: reducing over a batch is the training loss's business alone. ``noise`` holds K
standard normal draws, ``(K, N, latent_dim)``, or ``(K, 1, latent_dim)`` where all rows share them.

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vae_anomaly.model.likelihoods import Gaussian
from vae_anomaly.model.networks import Posterior
from vae_anomaly.model.priors import Exemplars, kl_divergence
from vae_anomaly.model.vae import VAE


def reconstruction_term(vae: VAE, x: Tensor, posterior: Posterior, noise: Tensor) -> Tensor:
    """E_q[log p(x|z)] as the mean over the draws, ``(N,)``, in nats."""
    return expectation(vae, vae.likelihood.given(x), posterior, noise)


def expectation(vae: VAE, log_prob: Callable[[Tensor], Tensor], posterior: Posterior, noise: Tensor) -> Tensor:
    """`reconstruction_term` of rows whose ``vae.likelihood.given(x)`` is at hand."""
    return torch.stack([log_prob(vae.decode(vae.rsample(posterior, eps))) for eps in noise]).mean(dim=0)


def elbo_terms(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of the ELBO, each ``(N,)``: reconstruction and KL; the ELBO is their difference."""
    if isinstance(vae.prior, Exemplars):
        return vae.prior.elbo_terms(log_prob_of_exemplars(vae, vae.prior, x))
    posterior = vae.prior.posterior(vae.encode(x))
    return reconstruction_term(vae, x, posterior, noise), vae.prior.kl(posterior)


def training_terms(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms that training maximises the difference of, each ``(N,)``."""
    posterior = vae.encode(x)
    log_p = [vae.likelihood.training_log_prob(x, vae.decode(vae.rsample(posterior, eps))) for eps in noise]
    return torch.stack(log_p).mean(dim=0), kl_divergence(posterior)


def importance_weighted_bound(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    r"""Bound :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k|x)` on log p(x), ``(N,)``: tighter with more draws.

    With exemplars as the prior log p(x) itself is at hand.
    """
    if isinstance(vae.prior, Exemplars):
        log_p = log_prob_of_exemplars(vae, vae.prior, x)
        return torch.logsumexp(log_p, dim=1) - math.log(log_p.shape[1])
    posterior = vae.prior.posterior(vae.encode(x))
    latents = [vae.rsample(posterior, eps) for eps in noise]
    log_q = [-0.5 * (eps.square() + posterior.log_var + math.log(2 * math.pi)).sum(dim=-1) for eps in noise]
    log_w = torch.stack([vae.prior.log_prob(z) for z in latents]) - torch.stack(log_q)
    log_w = log_w + torch.stack(list(map(vae.likelihood.given(x), map(vae.decode, latents))))
    return torch.logsumexp(log_w, dim=0) - math.log(len(noise))


def log_prob_of_exemplars(vae: VAE, prior: Exemplars, x: Tensor) -> Tensor:
    """Log p(x|z_i) for every exemplar, ``(N, n)``, in double precision."""
    if not isinstance(vae.likelihood, Gaussian):
        raise TypeError(f"exemplars need a Gaussian likelihood, not {type(vae.likelihood).__name__}")
    return vae.likelihood.log_prob_of_pairs(x, prior.decoded)
