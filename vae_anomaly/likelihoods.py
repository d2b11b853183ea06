r"""Likelihoods :math:`p(x|z)`: one object, used by training and by scoring alike.

A likelihood reads a decoder's output ``(N, D)`` as its parameters and gives

- ``log_prob(x, decoded) -> (N,)``: the log-density of each row, in nats, summed over its features;
- ``mean(decoded) -> (N, D)``: the expected row;
- ``observe(x, decoded, weight)``: fits what the likelihood itself learns (a Gaussian's variance).

``support`` is the closed interval the data must lie in, or None.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Likelihood(nn.Module):
    """The contract above. Laws: ``exp(log_prob)`` integrates to one, and its mean is ``mean``."""

    support: tuple[float, float] | None = None

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of each row, ``(N,)``, in nats."""
        raise NotImplementedError

    def mean(self, decoded: Tensor) -> Tensor:
        """Expected value of each feature, ``(N, D)``."""
        return decoded

    def observe(self, x: Tensor, decoded: Tensor, weight: float) -> None:
        """Move what is learned towards this batch's optimum by ``weight`` in (0, 1]."""


class Gaussian(Likelihood):
    r"""Normal with the decoded mean and one shared, learned variance.

    For given means the variance that maximises the likelihood is the mean squared residual, so it is set
    rather than descended to: a running mean over the batches. This spares the weight between
    reconstruction and KL that a fixed variance would need.

    References
    ----------
    Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021),
    https://arxiv.org/abs/2006.13202
    """

    floor = 1e-6  # near the quantisation noise of 8-bit pixels, 1 / 255^2 / 12

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(()))
        self.variance: Tensor

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        squared = (x - decoded).square().sum(dim=-1)
        return -0.5 * (squared / self.variance + x.shape[-1] * torch.log(2 * math.pi * self.variance))

    @torch.no_grad()
    def observe(self, x: Tensor, decoded: Tensor, weight: float) -> None:
        residual = (x - decoded).square().mean().clamp(min=self.floor)
        self.variance.lerp_(residual.to(self.variance.dtype), weight)


class SquaredError(Likelihood):
    r"""The introductory article's likelihood: :math:`-\lVert x - \hat x \rVert^2`.

    A Gaussian of variance 1/2 without its constant :math:`-\frac{D}{2}\log\pi`, so that the negative ELBO,
    divided by D, is the article's loss to the letter: mean squared error + KL / D.
    """

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return -(x - decoded).square().sum(dim=-1)


class Bernoulli(Likelihood):
    """Independent binary features; the decoder gives logits.

    Values inside [0, 1] make it a cross-entropy and no density: for grey values there is `ContinuousBernoulli`.
    """

    support = (0.0, 1.0)

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return (x * decoded - functional.softplus(decoded)).sum(dim=-1)

    def mean(self, decoded: Tensor) -> Tensor:
        return torch.sigmoid(decoded)


class ContinuousBernoulli(Likelihood):
    r"""The density on [0, 1] proportional to :math:`\lambda^x (1-\lambda)^{1-x}`; the decoder gives logits.

    With the logit l the density is :math:`\exp(x l) \, l / (e^l - 1)`. Written around h = l/2, its logarithm is
    :math:`(2x - 1) h - \log(\sinh h / h)` and its mean :math:`\tfrac12 + \tfrac12(\coth h - 1/h)`; both have
    removable singularities at 0, where their Taylor series take over.

    References
    ----------
    The continuous Bernoulli: fixing a pervasive error in variational autoencoders
    (Loaiza-Ganem & Cunningham, 2019), https://arxiv.org/abs/1907.06845
    """

    support = (0.0, 1.0)
    taylor_below = 0.1

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        h = 0.5 * decoded
        small = h.abs() < self.taylor_below
        safe = torch.where(small, torch.ones_like(h), h).abs()
        log_sinhc = safe + torch.log(-torch.expm1(-2 * safe)) - torch.log(2 * safe)
        h2 = h.square()
        taylor = h2 * (1 / 6 - h2 * (1 / 180 - h2 * (1 / 2835 - h2 / 37800)))
        return ((2 * x - 1) * h - torch.where(small, taylor, log_sinhc)).sum(dim=-1)

    def mean(self, decoded: Tensor) -> Tensor:
        h = 0.5 * decoded
        small = h.abs() < self.taylor_below
        safe = torch.where(small, torch.ones_like(h), h)
        h2 = h.square()
        taylor = h * (1 / 3 - h2 * (1 / 45 - h2 * (2 / 945 - h2 / 4725)))
        return 0.5 + 0.5 * torch.where(small, taylor, 1 / torch.tanh(safe) - 1 / safe)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
}
