"""Named scores, ``(vae, x, noise) -> (N,)``: higher is more normal.

A score is a function of its row alone. The latent draws are one fixed set of vectors, stored with the model and
shared by all rows; and rows go through the networks in blocks of one constant size, since the rounding of a
matrix product may depend on how many rows it has.

Some compare a row with what `scoring.normal_statistics` learned about the normals after training; so no score needs
anomalies, and choosing another never retrains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.errors import DeviceMemoryError
from vae_anomaly.model.elbo import elbo_terms, importance_weighted_bound
from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.standard_normal import kl_divergence
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import SCORES
from vae_anomaly.scoring.normal_statistics import Normals, components, path_difference
from vae_anomaly.storage.rows import Rows

BLOCK_ROWS = 512
REGRET_STEPS = 10
REGRET_RATE = 0.2

Score: TypeAlias = Callable[[VAE, Tensor, Tensor], Tensor]


@SCORES.register("elbo")
def elbo(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Reconstruction term minus KL term: a lower bound on log p(x) (https://arxiv.org/abs/1312.6114).

    Subtracted in double precision, so that it equals the difference of the terms as anyone computes it.
    """
    reconstruction, kl = elbo_terms(vae, x, noise)
    return reconstruction.double() - kl.double()


@SCORES.register("reconstruction")
def reconstruction(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The ELBO's first term alone, E_q[log p(x|z)]."""
    return elbo_terms(vae, x, noise)[0]


@SCORES.register("kl")
def negative_kl(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The ELBO's second term alone, with the sign that makes higher more normal."""
    return -elbo_terms(vae, x, noise[:1])[1]


@SCORES.register("importance_weighted")
def importance_weighted(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The importance-weighted bound on log p(x) of as many draws as the model keeps (https://arxiv.org/abs/1509.00519)."""
    return importance_weighted_bound(vae, x, noise)


@SCORES.register("reconstruction_probability")
def reconstruction_probability(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    r"""Log of the mean over draws of p(x|z) under a decoder with a variance of its own for each feature.

    Those variances are the decoder's mean squared errors on held-out normals, whatever the model's likelihood.

    References
    ----------
    Variational Autoencoder based Anomaly Detection using Reconstruction Probability (An & Cho, 2015),
    SNU Data Mining Center, Special Lecture on IE
    """
    variance = normals_of(vae).residual_variance
    posterior = vae.encode(x)
    log_p = []
    for eps in noise:
        residual = x - vae.generate(vae.rsample(posterior, eps))
        log_p.append(-0.5 * (residual.square() / variance + torch.log(2 * math.pi * variance)).sum(dim=-1))
    return torch.logsumexp(torch.stack(log_p), dim=0) - math.log(len(noise))


@SCORES.register("activation_path")
def activation_path(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Encode the reconstruction again: how far hidden activations move, whitened as they move for normals (NAP).

    The pathway is that of the hidden layers; the input and the latent space have scores of their own.

    References
    ----------
    RaPP: Novelty Detection with Reconstruction along Projection Pathway (Kim et al., ICLR 2020),
    https://openreview.net/forum?id=HkgeGeBYDB
    """
    return -normals_of(vae).path_distance(path_difference(vae, x))


@SCORES.register("activation_path_sum")
def activation_path_sum(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The same movement of hidden activations, squared and summed as it is (SAP).

    References
    ----------
    RaPP: Novelty Detection with Reconstruction along Projection Pathway (Kim et al., ICLR 2020),
    https://openreview.net/forum?id=HkgeGeBYDB
    """
    return -path_difference(vae, x).double().square().sum(dim=-1)


@SCORES.register("latent_distance")
def latent_distance(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mahalanobis distance of the latent mean from those of the normals.

    References
    ----------
    A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks (Lee et al., 2018),
    https://arxiv.org/abs/1807.03888; here with one class and in the latent space
    """
    return -normals_of(vae).latent_distance(vae.encode(x).mu)


@SCORES.register("latent_neighbours")
def latent_neighbours(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mean distance of the latent mean, whitened, to its five nearest among the normals.

    References
    ----------
    Out-of-Distribution Detection with Deep Nearest Neighbors (Sun et al., 2022), https://arxiv.org/abs/2204.06507
    """
    return -normals_of(vae).neighbour_distance(vae.encode(x).mu)


@SCORES.register("likelihood_regret", slow=True)
def likelihood_regret(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """What a row's ELBO gains when its posterior is optimised for it alone: what the encoder never learned.

    The variant that starts at the encoder's mean and log-variance and moves these, by ten steps of Adam; the best
    value seen counts, so no row has a negative regret. The draws are rescaled to unit second moment in each latent
    dimension: few draws would otherwise let every row gain by a variance that suits those draws.

    References
    ----------
    Likelihood Regret: An Out-of-Distribution Detection Score For Variational Auto-encoder (Xiao et al., 2020),
    https://arxiv.org/abs/2003.02977
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, noise = x.clone(), noise.clone()  # of tensors made in inference mode, only copies can enter a graph
        noise = noise / noise.square().mean(dim=0).clamp(min=1e-12).sqrt()
        log_prob = vae.likelihood.bind(x)

        def value(parameters: Tensor) -> Tensor:
            mu, log_var = parameters.to(x.dtype).chunk(2, dim=-1)
            posterior = Posterior(mu, torch.exp(0.5 * log_var), log_var)
            return vae.expected_log_prob(log_prob, posterior, noise) - kl_divergence(posterior)

        mu, _, log_var = vae.encode(x)
        # double precision, where squares of no gradient overflow
        parameters = torch.cat([mu, log_var], dim=-1).detach().double()
        first = second = torch.zeros_like(parameters)
        start = best = torch.full_like(parameters[:, 0], -math.inf)
        for step in range(REGRET_STEPS + 1):
            parameters.requires_grad_(step < REGRET_STEPS)
            reached = value(parameters)
            best = torch.fmax(best, reached.detach().double())
            start = best if step == 0 else start
            if step < REGRET_STEPS:
                (gradient,) = torch.autograd.grad(reached.sum(), parameters)
                first = torch.lerp(gradient, first, 0.9)
                second = torch.lerp(gradient.square(), second, 0.999)
                rate = REGRET_RATE * (1 - step / REGRET_STEPS)
                towards = first / (1 - 0.9 ** (step + 1))
                scale = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                parameters = parameters.detach() + rate * towards / scale
    return start - best


@SCORES.register("typicality")
def typicality(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """How far the ELBO is from that of held-out normals, either way, in their standard deviations.

    References
    ----------
    Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (Nalisnick et al., 2019),
    https://arxiv.org/abs/1906.02994; here for one row at a time
    """
    normals = normals_of(vae)
    return -((elbo(vae, x, noise) - normals.component_mean[0]) / normals.component_std[0]).abs()


@SCORES.register("combined")
def combined(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mean of ELBO, activation path and latent neighbours, each standardised on held-out normals.

    An inverse hyperbolic sine, the identity for small values and a logarithm for large ones, lets no term drown the
    others. It rises in each term; weights are equal, so that neither labels nor anomalies chose them.
    """
    normals = normals_of(vae)
    standardised = (components(vae, normals, x, noise) - normals.component_mean) / normals.component_std
    return torch.asinh(standardised).mean(dim=-1)


def normals_of(vae: VAE) -> Normals:
    """What the model knows about the normals.

    Raises
    ------
    ValueError
        If nothing was fitted.
    """
    normals = getattr(vae, "normals", None)
    if not isinstance(normals, Normals):
        raise ValueError(
            "this score needs statistics of the normals, which this model lacks: set vae.normals, or fit anew"
        )
    return normals


def antithetic_noise(n_draws: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    """Latent draws ``(n_draws, 1, latent_dim)`` in pairs of opposite sign, which cancel every odd error term."""
    half = torch.randn((n_draws + 1) // 2, 1, latent_dim, generator=generator, dtype=torch.float64)
    return torch.cat([half, -half])[:n_draws]


@torch.inference_mode()
def by_block(
    vae: VAE,
    X: Rows,
    function: Callable[[Tensor], tuple[Tensor, ...]],
    block_rows: int = BLOCK_ROWS,
) -> tuple[np.ndarray, ...]:
    """Apply ``function``, scaled rows to per-row tensors, to all of ``X``, a block at a time, and gather its results.

    ``vae`` gives the scaling, the precision and the device. Only with the default ``block_rows`` does a row's result
    not depend on how many there are. Where the device runs out of memory (torch reports it for CUDA alone), the rows
    left go in blocks of half the size, as often as need be: the last bits of their results may then differ.

    Raises
    ------
    DeviceMemoryError
        If the device's memory does not hold a block of one row.
    """
    dtype, device = vae.scaling.loc.dtype, vae.scaling.loc.device
    gathered: list[np.ndarray] = []
    buffer, start = np.zeros((block_rows, X.shape[1]), X.dtype), 0
    while start < len(X):
        rows = X[start : start + len(buffer)]
        buffer[: len(rows)] = rows
        buffer[len(rows) :] = 0
        try:
            results = [
                result.cpu().numpy() for result in function(vae.scaling(torch.from_numpy(buffer).to(device, dtype)))
            ]
        except torch.OutOfMemoryError as error:
            if len(buffer) == 1:
                raise DeviceMemoryError(
                    f"{device} has too little free memory for even one row of {X.shape[1]:,} features: free some, or "
                    "use device='cpu'"
                ) from error
            buffer = buffer[: len(buffer) // 2]
        else:
            # copied: small results that stay where large blocks were freed would keep those from being used again
            gathered = gathered or [np.empty((len(X), *result.shape[1:]), result.dtype) for result in results]
            for whole, result in zip(gathered, results, strict=True):
                whole[start : start + len(rows)] = result[: len(rows)]
            start += len(rows)
    return tuple(gathered)
