"""VAEs with random weights, for laws that hold whatever was learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_anomaly.model.priors.exemplars import Exemplars
from vae_anomaly.model.priors.mixture import Mixture
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS
from vae_anomaly.scoring.scores import antithetic_noise


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
    p = LIKELIHOODS[likelihood].for_samples((*shape, 1, 1)[:3])
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
        vae.prior = Exemplars(latents, decoder(latents).detach())
    return vae.to(dtype)


def fixed_noise(n_draws: int, latent_dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same latent draws each time."""
    return antithetic_noise(n_draws, latent_dim, torch.Generator().manual_seed(1)).to(dtype)
