"""Convolutional networks for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from vae_anomaly.model.networks.base import Encoder, GaussianHead, Posterior, dense
from vae_anomaly.registry import ARCHITECTURES


class ConvEncoder(Encoder):
    """Strided 3x3 convolutions, each halving the image (rounded up), then a Gaussian head.

    Rows are images of shape ``(height, width, channels)``, flattened in that order.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, filters: Sequence[int]) -> None:
        super().__init__()
        self.image_shape = image_shape
        height, width, channels = image_shape
        self.convolutions = nn.Sequential(
            *(
                layer
                for a, b in pairwise([channels, *filters])
                for layer in (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())
            )
        )
        height, width = halvings(height, width, len(filters))[-1]
        self.head = GaussianHead(filters[-1] * height * width, latent_dim)

    @property
    def hidden_layers(self) -> nn.Sequential:
        return self.convolutions

    def as_input(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.image_shape).permute(0, 3, 1, 2).contiguous()

    def forward(self, x: Tensor) -> Posterior:
        posterior: Posterior = self.head(self.convolutions(self.as_input(x)).flatten(1))
        return posterior


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: transposed convolutions that retrace its sizes exactly."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, filters: Sequence[int]) -> None:
        super().__init__()
        height, width, channels = image_shape
        sizes = halvings(height, width, len(filters))[::-1]
        self.fold = (filters[-1], *sizes[0])
        self.hidden = dense([latent_dim, math.prod(self.fold)])
        layers: list[nn.Module] = []
        for (a, b), before, after in zip(pairwise([*reversed(filters), channels]), sizes[:-1], sizes[1:], strict=True):
            padding = (after[0] - 2 * before[0] + 1, after[1] - 2 * before[1] + 1)
            layers += [nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=padding), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.convolutions(self.hidden(z).reshape(-1, *self.fold))
        return image.permute(0, 2, 3, 1).flatten(1)


def halvings(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """Image sizes before and after each stride-2 convolution."""
    sizes = [(height, width)]
    for _ in range(times):
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return sizes


@ARCHITECTURES.register("conv")
def conv(shape: tuple[int, ...], latent_dim: int) -> tuple[Encoder, nn.Module]:
    """Convolutional networks for images ``(height, width, channels)`` of at least 8 x 8.

    Raises
    ------
    ValueError
        If the rows are not images, are smaller than 8 x 8, or have other than 1 or 3 channels.
    """
    if len(shape) != 3 or min(shape[:2]) < 8 or shape[2] not in (1, 3):
        seen = " x ".join(map(str, shape)) if len(shape) > 1 else f"rows of {shape[0]} features"
        raise ValueError(
            f"architecture='conv' needs images of at least 8 x 8 pixels with 1 or 3 channels, got {seen}: "
            "pass images as (N, H, W) or (N, H, W, C), give image_shape=, or use architecture='mlp'"
        )
    height, width, channels = shape
    filters = (32, 64)
    image = (height, width, channels)
    return ConvEncoder(image, latent_dim, filters), ConvDecoder(image, latent_dim, filters)
