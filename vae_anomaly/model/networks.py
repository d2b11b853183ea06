r"""Encoders :math:`q(z|x)` and decoders :math:`x \mid z`.

Every network takes and gives flat rows, ``(N, D)``: a convolutional one folds them into images itself,
so nothing else has to know about shapes. An encoder returns a diagonal Gaussian `Posterior`; a decoder
returns the parameters that a likelihood turns into a distribution.

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_anomaly.model.affine import affine
from vae_anomaly.registry import ARCHITECTURES

LOG_VAR_BOUND = 10.0


class Posterior(NamedTuple):
    """A diagonal Gaussian q(z|x); each field is ``(N, latent_dim)``."""

    mu: Tensor
    sigma: Tensor
    log_var: Tensor


class Linear(nn.Linear):
    """An affine map whose every row is computed alike."""

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


class GaussianHead(nn.Module):
    """Hidden units to a `Posterior`: unconstrained mean, log-variance bounded smoothly to ±10."""

    def __init__(self, in_features: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = Linear(in_features, 2 * latent_dim)

    def forward(self, h: Tensor) -> Posterior:
        mu, raw = self.linear(h).to(self.linear.weight.dtype).chunk(2, dim=-1)  # products may be of fewer bits
        log_var = LOG_VAR_BOUND * torch.tanh(raw / LOG_VAR_BOUND)
        return Posterior(mu, torch.exp(0.5 * log_var), log_var)


def dense(sizes: Sequence[int]) -> nn.Sequential:
    """Affine layers of the given widths, each followed by a ReLU."""
    return nn.Sequential(*(layer for pair in pairwise(sizes) for layer in (Linear(*pair), nn.ReLU())))


class MLPEncoder(nn.Module):
    """Dense layers, then a Gaussian head."""

    def __init__(self, n_features: int, latent_dim: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.hidden = dense([n_features, *hidden_sizes])
        self.head = GaussianHead(hidden_sizes[-1], latent_dim)

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


class ConvEncoder(nn.Module):
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

    def forward(self, x: Tensor) -> Posterior:
        image = x.reshape(-1, *self.image_shape).permute(0, 3, 1, 2).contiguous()
        posterior: Posterior = self.head(self.convolutions(image).flatten(1))
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


class ArticleEncoder(nn.Module):
    r"""The introductory article's encoder: D-256-64-(mu, sigma), a ReLU after *every* layer.

    What the last ReLU costs: mu cannot be negative, so only one orthant of the latent space is used and
    the aggregated posterior cannot match N(0, I); sigma can be exactly zero, where log(sigma^2) needs the
    guard 1e-8 and the gradient through sigma dies. Kept as published, for comparison: not the default.
    """

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden = dense([n_features, 256, 64])
        self.mu = dense([64, latent_dim])
        self.sigma = dense([64, latent_dim])

    def forward(self, x: Tensor) -> Posterior:
        h = self.hidden(x)
        mu, sigma = (layer(h).to(x.dtype) for layer in (self.mu, self.sigma))
        return Posterior(mu, sigma, torch.log(1e-8 + sigma**2))


class ArticleDecoder(nn.Module):
    """The introductory article's decoder: latent-64-256-D, ReLU inside, sigmoid at the end."""

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden = dense([latent_dim, 64, 256])
        self.output = Linear(256, n_features)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.output(self.hidden(z)))


def halvings(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """Image sizes before and after each stride-2 convolution."""
    sizes = [(height, width)]
    for _ in range(times):
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return sizes


@ARCHITECTURES.register("mlp")
def mlp(shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """Dense networks for rows of any kind: 512-256 for images, 256-128 for tables."""
    hidden = (512, 256) if len(shape) > 1 else (256, 128)
    n = math.prod(shape)
    return MLPEncoder(n, latent_dim, hidden), MLPDecoder(n, latent_dim, hidden)


@ARCHITECTURES.register("conv")
def conv(shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
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
def article(shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """The introductory article's network for any input width."""
    n = math.prod(shape)
    return ArticleEncoder(n, latent_dim), ArticleDecoder(n, latent_dim)
