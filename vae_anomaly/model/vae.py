"""The variational autoencoder as a module: scaling, encoder, decoder, likelihood and prior.

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_anomaly.model.likelihoods import Likelihood
from vae_anomaly.model.networks import Posterior
from vae_anomaly.model.priors import Prior, StandardNormal
from vae_anomaly.model.scaling import Scaling


class VAE(nn.Module):
    """An encoder q(z|x), a decoder, a likelihood p(x|z), and a prior p(z).

    Parameters
    ----------
    encoder
        Maps scaled rows ``(N, D)`` to a `Posterior` over ``(N, latent_dim)``.
    decoder
        Maps ``(N, latent_dim)`` to the likelihood's parameters, ``(N, D)``.
    likelihood
        Reads the decoder's output as a distribution over rows.
    scaling
        Maps raw rows to the units the networks work in; all other methods take and give scaled rows.

    Attributes
    ----------
    prior
        N(0, I), until another is fitted after training.
    normals
        None, until `vae_anomaly.scoring.normal_statistics` fits what further scores need to know about the normals.

    Notes
    -----
    No layer behaves otherwise in training than in scoring, so ``train()`` and ``eval()`` make no difference.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, scaling: Scaling) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.scaling = scaling
        self.prior: Prior = StandardNormal()
        self.register_module("normals", None)

    def encode(self, x: Tensor) -> Posterior:
        """Posterior of each row; fields ``(N, latent_dim)``."""
        posterior: Posterior = self.encoder(x)
        return posterior

    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's parameters, ``(N, D)``."""
        decoded: Tensor = self.decoder(z)
        return decoded.to(z.dtype)

    def rsample(self, posterior: Posterior, noise: Tensor) -> Tensor:
        """Latents mu + sigma * noise; ``noise`` is standard normal and broadcasts to ``(N, latent_dim)``."""
        return torch.addcmul(posterior.mu, posterior.sigma, noise)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Expected rows given the posterior means, ``(N, D)``."""
        return self.generate(self.encode(x).mu)

    def generate(self, z: Tensor) -> Tensor:
        """Expected rows given latents, ``(N, D)``; with z from the prior, samples of the model's means."""
        return self.likelihood.mean(self.decode(z))


def reset_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew: uniform in ±1/sqrt(fan-in), PyTorch's own default, from the given generator."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                fan_in = layer.weight[0].numel()
                for parameter in (layer.weight, layer.bias):
                    if parameter is not None:
                        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                        parameter.copy_((2 * drawn - 1) / math.sqrt(fan_in))
