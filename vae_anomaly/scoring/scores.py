"""Named scores, ``(vae, x, noise) -> (N,)``: higher is more normal.

A score is a function of its row alone: ``x`` holds scaled rows ``(N, D)``, ``noise`` one fixed set of latent draws
``(K, 1, L)``, which is stored with the model and shared by all rows. None needs anomalies, and choosing another never
trains anything again. Several scores of the same rows share what they begin with (`vae_anomaly.model.memo`), so none
changes a tensor that it did not make.

Some compare a row with statistics of normal rows, which are fitted after training; they are registered with
``needs_statistics=True``. Those that optimise for every row are registered with ``slow=True``. Those that a training
row has as a new row has it, if the prior leaves out a row's own exemplar, with ``leaves_out_own_row=True``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from vae_anomaly.model.elbo import elbo_terms, importance_weighted_bound
from vae_anomaly.model.scaling import filled
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import SCORES
from vae_anomaly.scoring.activations import path_difference
from vae_anomaly.scoring.normal_statistics import NormalStatistics, neighbour_distance, path_distance, statistics_of
from vae_anomaly.scoring.regret import elbo_before_and_after

Score: TypeAlias = Callable[[VAE, Tensor, Tensor], Tensor]


@SCORES.register("elbo", leaves_out_own_row=True)
def elbo(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Reconstruction term minus KL term: a lower bound on log p(x), if the likelihood is normalised.

    Subtracted in double precision, so that it equals the difference of the two terms as a model reports them.

    References
    ----------
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
    """
    reconstruction, kl = elbo_terms(vae, x, noise)
    return reconstruction.double() - kl.double()


@SCORES.register("log_density", leaves_out_own_row=True)
def log_density(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """A lower bound on log p(x) under any likelihood: the ELBO of one that integrates to one.

    It is ``elbo`` if the model's likelihood is normalised. If not, ``elbo`` is the negative of an energy, and this is
    the ELBO with the density that comes nearest to it.
    """
    return elbo(vae.as_density(), x, noise)


@SCORES.register("reconstruction", leaves_out_own_row=True)
def reconstruction(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The ELBO's first term alone, E_q[log p(x|z)]."""
    return elbo_terms(vae, x, noise)[0]


@SCORES.register("kl", leaves_out_own_row=True)
def negative_kl(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The ELBO's second term alone, the negative KL divergence of the posterior from the prior."""
    return -elbo_terms(vae, x, noise[:1])[1]


@SCORES.register("importance_weighted", leaves_out_own_row=True)
def importance_weighted(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The importance-weighted bound on log p(x), from all draws of the model.

    Its mean over the draws is at least the ELBO. From the few draws of a model it is not for every row, since the
    ELBO's KL term is exact: with two, it lies below the ELBO for a few per cent of rows. With exemplars as a prior it
    is log p(x), which is at least the ELBO.

    References
    ----------
    Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    """
    return importance_weighted_bound(vae, x, noise)


@SCORES.register("reconstruction_probability", needs_statistics=True)
def reconstruction_probability(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    r"""Log of the mean over draws of p(x|z) under a decoder with a variance of its own for each feature.

    Those variances are the decoder's mean squared errors on held-out normals, whatever the model's likelihood.

    References
    ----------
    Variational Autoencoder based Anomaly Detection using Reconstruction Probability (An & Cho, 2015),
    SNU Data Mining Center, Special Lecture on IE
    """
    variance = statistics_of(vae).residual_variance
    posterior = vae.encode(x)
    log_p = []
    for eps in noise:
        residual = x - vae.generate(vae.rsample(posterior, eps))
        log_p.append(filled(-0.5 * (residual.square() / variance + torch.log(2 * math.pi * variance))).sum(dim=-1))
    return torch.logsumexp(torch.stack(log_p), dim=0) - math.log(len(noise))


@SCORES.register("activation_path", needs_statistics=True)
def activation_path(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """How far hidden activations move when the reconstruction is encoded, in units of their spread for normals (NAP).

    References
    ----------
    RaPP: Novelty Detection with Reconstruction along Projection Pathway (Kim et al., ICLR 2020),
    https://openreview.net/forum?id=HkgeGeBYDB
    """
    return -path_distance(vae, statistics_of(vae), x)


@SCORES.register("activation_path_sum")
def activation_path_sum(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """How far hidden activations move when the reconstruction is encoded, as a plain sum of squares (SAP).

    References
    ----------
    RaPP: Novelty Detection with Reconstruction along Projection Pathway (Kim et al., ICLR 2020),
    https://openreview.net/forum?id=HkgeGeBYDB
    """
    return -path_difference(vae, x).double().square().sum(dim=-1)


@SCORES.register("latent_distance", needs_statistics=True)
def latent_distance(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mahalanobis distance of the latent mean from the centre of the normals' latent means.

    References
    ----------
    A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks (Lee et al., 2018),
    https://arxiv.org/abs/1807.03888; here with one class and in the latent space
    """
    return -statistics_of(vae).latent_distance(vae.codes(x))


@SCORES.register("latent_neighbours", needs_statistics=True, leaves_out_own_row=True)
def latent_neighbours(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mean distance of the latent mean, whitened, to the five nearest latent means of normals.

    References
    ----------
    Out-of-Distribution Detection with Deep Nearest Neighbors (Sun et al., 2022), https://arxiv.org/abs/2204.06507
    """
    return -neighbour_distance(vae, statistics_of(vae), x)


@SCORES.register("likelihood_regret", slow=True)
def likelihood_regret(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """What a row's ELBO gains when its posterior is optimised for it alone: what the encoder never learned.

    References
    ----------
    Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder (Xiao et al., 2020),
    https://arxiv.org/abs/2003.02977; `vae_anomaly.scoring.regret` says how this variant searches
    """
    before, after = elbo_before_and_after(vae, x, noise)
    return before - after


@SCORES.register("typicality", needs_statistics=True, leaves_out_own_row=True)
def typicality(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """How far the ELBO is from that of held-out normals, in either direction, in their standard deviations.

    References
    ----------
    Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (Nalisnick et al., 2019),
    https://arxiv.org/abs/1906.02994; here for one row at a time
    """
    statistics = statistics_of(vae)
    return -((elbo(vae, x, noise) - statistics.component_mean[0]) / statistics.component_std[0]).abs()


@SCORES.register("combined", needs_statistics=True)
def combined(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mean of ELBO, activation path and latent neighbours, each standardised on held-out normals.

    An inverse hyperbolic sine, the identity for small values and a logarithm for large ones, lets no term drown the
    others. It rises in each term; weights are equal, so that neither labels nor anomalies chose them.
    """
    statistics = statistics_of(vae)
    standardised = (components(vae, statistics, x, noise) - statistics.component_mean) / statistics.component_std
    return torch.asinh(standardised).mean(dim=-1)


def components(vae: VAE, statistics: NormalStatistics, x: Tensor, noise: Tensor) -> Tensor:
    """ELBO, negative activation-path distance and negative neighbour distance, ``(N, 3)``: higher is more normal."""
    path, neighbours = path_distance(vae, statistics, x), neighbour_distance(vae, statistics, x)
    return torch.stack([elbo(vae, x, noise), -path, -neighbours], dim=-1)


def antithetic_noise(n_draws: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    """Latent draws ``(n_draws, 1, latent_dim)`` in pairs of opposite sign, which cancel every odd error term."""
    half = torch.randn((n_draws + 1) // 2, 1, latent_dim, generator=generator, dtype=torch.float64)
    return torch.cat([half, -half])[:n_draws]
