r"""Encoders :math:`q(z|x)` and decoders of :math:`p(x|z)`: their contract, and the layers that they share.

An encoder maps scaled rows ``(N, D)`` to a diagonal Gaussian `Posterior`; a decoder maps latents ``(N, latent_dim)`` to
``(N, D)``, the parameters that a likelihood turns into a distribution. Rows are flat on both sides: a convolutional
network folds them into images itself, so nothing else has to know about shapes.

An architecture is a function ``(shape, latent_dim) -> (encoder, decoder)``; ``shape`` is ``(D,)``, or height, width and
channels of an image. It draws no weights (`vae_anomaly.model.vae.reset_parameters` does). Its entry in the registry may
hold the fact ``brings``: parameters of `VAEDetector` that come with it where a user leaves them open.

The encoder's hidden layers are its first child of type `torch.nn.Sequential`; some scores compare their activations.

References
----------
Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_anomaly.model.affine import affine

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
        mu, raw = self.linear(h).to(self.linear.weight.dtype).chunk(2, dim=-1)  # products may have fewer bits
        log_var = LOG_VAR_BOUND * torch.tanh(raw / LOG_VAR_BOUND)
        return Posterior(mu, torch.exp(0.5 * log_var), log_var)


class Encoder(nn.Module):
    """Scaled rows ``(N, D)`` to a `Posterior`; its hidden layers can be taken one by one.

    An encoder that takes a row place by place has a map of latents: those of the first place, then of the next one.
    """

    @property
    def n_places(self) -> int:
        """Places that the networks take one by one; most networks take a row whole."""
        return 1

    def weights_of_places(self, like: Tensor) -> Tensor:
        """What each place counts in the ELBO, ``(n_places,)``, in the type and on the device of a tensor."""
        return like.new_ones(1)

    @property
    def hidden_layers(self) -> nn.Sequential:
        """Those between the input and the posterior's own."""
        raise NotImplementedError

    def as_input(self, x: Tensor) -> Tensor:
        """What the first hidden layer takes for rows ``(N, D)``: the rows, unless an encoder folds or cuts them."""
        return x


def dense(sizes: Sequence[int]) -> nn.Sequential:
    """Affine layers of the given widths, each followed by a ReLU."""
    return nn.Sequential(*(layer for pair in pairwise(sizes) for layer in (Linear(*pair), nn.ReLU())))
