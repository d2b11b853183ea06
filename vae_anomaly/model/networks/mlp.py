"""Dense networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from vae_anomaly.model.networks.base import Encoder, GaussianHead, Linear, Posterior, dense
from vae_anomaly.registry import ARCHITECTURES


class MLPEncoder(Encoder):
    """Dense layers, then a Gaussian head."""

    def __init__(self, n_features: int, latent_dim: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.hidden = dense([n_features, *hidden_sizes])
        self.head = GaussianHead(hidden_sizes[-1], latent_dim)

    @property
    def hidden_layers(self) -> nn.Sequential:
        return self.hidden

    def forward(self, x: Tensor) -> Posterior:
        posterior: Posterior = self.head(self.hidden(x))
        return posterior


class MLPDecoder(nn.Module):
    """The encoder's layers in reverse, ending in one number a feature."""

    def __init__(self, n_features: int, latent_dim: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.hidden = dense([latent_dim, *reversed(hidden_sizes)])
        self.output = Linear(hidden_sizes[0], n_features)

    def forward(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.output(self.hidden(z))
        return decoded


@ARCHITECTURES.register("mlp")
def mlp(shape: tuple[int, ...], latent_dim: int) -> tuple[Encoder, nn.Module]:
    """Dense networks for rows of any kind: 512-256 for images, 256-128 for tables."""
    hidden = (512, 256) if len(shape) > 1 else (256, 128)
    n = math.prod(shape)
    return MLPEncoder(n, latent_dim, hidden), MLPDecoder(n, latent_dim, hidden)
