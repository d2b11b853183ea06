"""The network of an introductory article on anomaly detection with a VAE, kept as published for comparison.

It is not the default, for what its last ReLU costs: mu cannot be negative, so only one orthant of the latent space is
used and the aggregated posterior cannot match N(0, I); sigma can be exactly zero, where log(sigma^2) needs the guard
1e-8 and no gradient reaches sigma.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_anomaly.model.networks.base import Encoder, Linear, Posterior, dense
from vae_anomaly.registry import ARCHITECTURES


class ArticleEncoder(Encoder):
    """D-256-64-(mu, sigma), a ReLU after *every* layer."""

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden = dense([n_features, 256, 64])
        self.mu = dense([64, latent_dim])
        self.sigma = dense([64, latent_dim])

    @property
    def hidden_layers(self) -> nn.Sequential:
        return self.hidden

    def forward(self, x: Tensor) -> Posterior:
        h = self.hidden(x)
        mu, sigma = (layer(h).to(x.dtype) for layer in (self.mu, self.sigma))
        return Posterior(mu, sigma, torch.log(1e-8 + sigma**2))


class ArticleDecoder(nn.Module):
    """latent_dim-64-256-D, a ReLU after each hidden layer and a sigmoid at the end."""

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden = dense([latent_dim, 64, 256])
        self.output = Linear(256, n_features)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.output(self.hidden(z)))


@ARCHITECTURES.register(
    "article",
    brings={
        "likelihood": "squared_error",
        "prior": "normal",
        "preprocessing": "unit_range",
        "latent_dim": 10,
        "input_noise": 0.0,
    },
)
def article(shape: tuple[int, ...], latent_dim: int) -> tuple[Encoder, nn.Module]:
    """The introductory article's network for any input width."""
    n = math.prod(shape)
    return ArticleEncoder(n, latent_dim), ArticleDecoder(n, latent_dim)
