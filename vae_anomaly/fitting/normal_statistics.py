r"""Fit the statistics of normal rows that scores need, once training is over; no weight changes.

*Latent means.* Their sample covariance S, of N rows in L dimensions, is shrunk towards a multiple of the identity,

.. math::

    \Sigma = (1 - \rho)\, S + \rho\, \frac{\operatorname{tr} S}{L}\, I,

with the share :math:`\rho` of the least expected squared error, which Ledoit and Wolf estimate from the same rows. The
whitening is its symmetric inverse root: with :math:`\Sigma = U \Lambda U^T`, :math:`W = U \Lambda^{-1/2} U^T`.

*Activation differences.* Of :math:`S = U \Lambda U^T` only those directions are kept in which rows vary, more than
rounding errors do and more than a thousandth of the largest spread: :math:`W = \Lambda_R^{-1/2} U_R^T`. This is the
whitening of RaPP's normalised distance, whose singular values of the centred differences are
:math:`\sqrt{N \Lambda}`.

*Residuals.* The mean square :math:`s_d` of feature d over M rows, with ten rows of the features' average :math:`\bar s`
added, and at least a hundredth of it: :math:`\max\big((M s_d + 10 \bar s) / (M + 10), \bar s / 100\big)`.

*Components* of the combined score: mean and standard deviation over held-out rows.

Few rows give poor estimates, so each spread is moved towards a common one or bounded below by it: no score divides by
zero, nor by the spread of a feature that happens not to vary in the rows at hand.

References
----------
A well-conditioned estimator for large-dimensional covariance matrices (Ledoit & Wolf, 2004), Journal of Multivariate
Analysis 88
RaPP: Novelty Detection with Reconstruction along Projection Pathway (Kim et al., ICLR 2020),
https://openreview.net/forum?id=HkgeGeBYDB
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_anomaly.model.scaling import filled
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.scoring.activations import hidden_activations, path_difference
from vae_anomaly.scoring.normal_statistics import BANK_ROWS, NormalStatistics
from vae_anomaly.scoring.scores import components

MAX_ROWS = 10_000
COMPONENT_ROWS = 1_000
AVERAGE_ROWS = 10  # of the features' average, added to the residuals of each


@torch.no_grad()
def fit_normal_statistics(
    vae: VAE, x: Tensor, x_held_out: Tensor, noise: Tensor, generator: torch.Generator
) -> NormalStatistics:
    """Statistics of normal rows under a trained model.

    Parameters
    ----------
    vae
        Trained.
    x
        Scaled training rows ``(N, D)``; of more than 10,000, as many at random are used.
    x_held_out
        Scaled rows ``(M, D)`` that no weight was fitted to: statistics in nats and in units of the data are fitted to
        these.
    noise
        Latent draws ``(K, 1, latent_dim)`` of the scores.
    generator
        Picks the rows; on any device.

    Returns
    -------
    NormalStatistics
        On the device and in the precision of ``x``.
    """
    chosen = torch.randperm(len(x), generator=generator, device=generator.device)[:MAX_ROWS]
    x = x[chosen.to(x.device)]
    blocks = [codes_and_path(vae.remembering(), rows) for rows in torch.split(x, rows_at_a_time(vae))]
    mu, difference = (torch.cat(parts).cpu().double() for parts in zip(*blocks, strict=True))
    activations = hidden_activations(vae.encoder, filled(x[: rows_at_a_time(vae)])).double()
    rounding = 1e-6 * float(activations.square().mean().sqrt())
    latent_mean, latent_whitening = mu.mean(dim=0), shrunk_whitening(mu)
    statistics = NormalStatistics(
        latent_mean=latent_mean,
        latent_whitening=latent_whitening,
        bank=(mu[:BANK_ROWS] - latent_mean) @ latent_whitening,
        path_mean=difference.mean(dim=0),
        path_whitening=path_whitening(difference, rounding),
        residual_variance=residual_variance(vae, x_held_out, noise),
        component_mean=torch.zeros(3),
        component_std=torch.ones(3),
    ).to(x)
    mean, std = component_moments(vae, statistics, x_held_out, noise)
    statistics.component_mean.copy_(mean)
    statistics.component_std.copy_(std)
    return statistics


def rows_at_a_time(vae: VAE) -> int:
    """512, or fewer rows of a map of latents, which hold as much."""
    return max(1, BLOCK_ROWS // vae.encoder.n_places)


def codes_and_path(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Latent means of scaled rows ``(N, D)``, and their `path_difference`."""
    return vae.codes(x), path_difference(vae, x)


def component_moments(vae: VAE, statistics: NormalStatistics, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, ``(3,)`` each, of the combined score's components over about 1,000 scaled rows."""
    some = x[:: math.ceil(len(x) / COMPONENT_ROWS)]
    blocks = torch.split(some, rows_at_a_time(vae))
    values = torch.cat([components(vae.remembering(), statistics, rows, noise) for rows in blocks])
    mean = values.mean(dim=0)
    # one row has no spread: its own size replaces it, or rounding errors would decide the scores of similar rows
    std = values.std(dim=0) if len(values) > 1 else mean.abs()
    return mean, torch.maximum(std, 1e-3 * mean.abs()).clamp(min=1e-6)


def shrunk_whitening(mu: Tensor) -> Tensor:
    """The symmetric ``(L, L)`` matrix that whitens latent means ``(N, L)``, their covariance shrunk.

    Where the rows do not vary at all, their covariance is taken to be the prior's, the identity.
    """
    from sklearn.covariance import ledoit_wolf  # takes a second to import, which scoring does without

    centred = mu - mu.mean(dim=0)
    mean_variance = float(centred.square().mean())
    if mean_variance < 1e-12:
        return torch.eye(mu.shape[1], dtype=mu.dtype)
    covariance, _ = ledoit_wolf(centred.numpy(), assume_centered=True)
    variances, directions = torch.linalg.eigh(torch.from_numpy(covariance))
    whitening: Tensor = directions * variances.clamp(min=1e-6 * mean_variance).rsqrt() @ directions.T
    return whitening


def path_whitening(difference: Tensor, rounding: float) -> Tensor:
    """Directions in which rows ``(N, C)`` vary, each divided by its spread: ``(R, C)``.

    Directions are left out whose spread is below a thousandth of the largest, or below ``rounding``, the size of
    rounding errors in activations. Where nothing varies, one row of zeros remains.
    """
    centred = (difference - difference.mean(dim=0)).numpy()
    covariance = torch.from_numpy(centred.T @ centred / len(centred))  # NumPy computes half of what is symmetric
    nothing = torch.zeros(1, len(covariance), dtype=difference.dtype)
    if float(covariance.trace()) <= rounding**2:  # where only rounding errors vary, eigh may find no eigenvalues
        return nothing
    variances, directions = torch.linalg.eigh(covariance)
    kept = variances > max(1e-6 * float(variances[-1]), rounding**2)
    if not kept.any():
        return nothing
    whitening: Tensor = directions[:, kept] * variances[kept].rsqrt()
    return whitening.T.contiguous()


def residual_variance(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of each feature of generated rows, moved towards their average: ``(D,)``, double precision."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for rows in torch.split(x, rows_at_a_time(vae)):
        posterior = vae.encode(rows)
        for eps in noise:
            residual = filled(rows - vae.generate(vae.rsample(posterior, eps)))
            total += residual.double().square().sum(dim=0) / len(noise)
    average = (total.mean() / len(x)).clamp(min=1e-6)
    return ((total + AVERAGE_ROWS * average) / (len(x) + AVERAGE_ROWS)).clamp(min=float(0.01 * average))
