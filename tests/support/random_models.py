"""VAEs with random weights, for laws that hold whatever was learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_anomaly.columns import Column, Columns
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.priors.exemplars import Exemplars
from vae_anomaly.model.priors.mixture import Mixture
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS
from vae_anomaly.scoring.scores import antithetic_noise


def columns_of(n_units: int) -> Columns:
    """Columns that have so many units: numbers and, from ten units on, categories of three, four and three units."""
    sizes = (3, 4, 3) if n_units >= 10 else ()
    numbers = (Column(name=f"n{i}", kind="number") for i in range(n_units - sum(sizes)))
    categories = (
        Column(name=f"c{i}", kind="category", levels=tuple("abcd"[: size - 1])) for i, size in enumerate(sizes)
    )
    return Columns([*numbers, *categories])


def likelihood_of(name: str, image_shape: tuple[int, ...]) -> Likelihood:
    """A likelihood for samples of this shape, or for a table of as many units; nothing fitted yet."""
    likelihood: Likelihood = LIKELIHOODS[name].for_samples(image_shape, columns_of(math.prod(image_shape)))
    return likelihood


def random_vae(
    shape: tuple[int, ...],
    latent_dim: int = 3,
    dtype: torch.dtype = torch.float64,
    *,
    architecture: str = "mlp",
    likelihood: str = "gaussian",
    prior: str = "normal",
) -> VAE:
    """The same weights each time; without statistics of normals."""
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = ARCHITECTURES[architecture](shape, latent_dim)
    p = likelihood_of(likelihood, (*shape, 1, 1)[:3])
    vae = VAE(encoder, decoder, p, Scaling(torch.tensor(0.0), torch.tensor(1.0)))
    reset_parameters(vae, generator)
    if prior == "mixture":
        k = 20
        vae.prior = Mixture(
            torch.full((k,), -math.log(k)),
            torch.randn(k, latent_dim, generator=generator),
            torch.randn(k, latent_dim, latent_dim, generator=generator).tril(-1) + torch.eye(latent_dim),
            torch.rand(latent_dim, generator=generator) + 0.1,
        )
    elif prior == "exemplars":
        latents = torch.randn(57, latent_dim, generator=generator)
        decoded = decoder(latents).detach()
        own = (p.exemplar_parameters or decoded.shape[1]) - decoded.shape[1]
        vae.prior = Exemplars(latents, torch.cat([decoded, torch.randn(57, own, generator=generator)], dim=1))
    return vae.to(dtype)


def fixed_noise(n_draws: int, latent_dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same latent draws each time."""
    return antithetic_noise(n_draws, latent_dim, torch.Generator().manual_seed(1)).to(dtype)
