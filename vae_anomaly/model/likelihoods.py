r"""Likelihoods :math:`p(x|z)`: one object, used by training and by scoring alike.

A likelihood reads a decoder's output ``(N, D)`` as its parameters and gives

- ``log_prob(x, decoded) -> (N,)``: the log-density of each row, in nats, summed over its features;
- ``given(x)``: the same as a function of the decoder's output alone, for rows that meet many of those;
- ``mean(decoded) -> (N, D)``: the expected row;
- ``log_prob_of_features(x, decoded) -> (N, D)``: each feature's share of the log-density; what belongs to no single
  one is spread evenly over all;
- ``variance_of_features(x, decoded) -> (N, D)``: how far features vary around that mean;
- ``entropy_of_features(x, decoded) -> (N, D)``: what each share costs on average, for rows that the likelihood itself
  draws;
- ``training_log_prob(x, decoded) -> (N,)``: what training maximises; the log-density, unless it says otherwise;
- ``learn(x, decoded, weight) -> (N,)``: a training step's log-density, after fitting to its rows what the likelihood
  itself learns (a Gaussian's variance);
- ``settle(x, decoded, codes)``: fits it for good, once the networks are trained;
- ``widen(x, before, after)``: follows a posterior whose spread was fitted after that.

``support`` is the closed interval the data must lie in, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_anomaly.errors import DataError
from vae_anomaly.model.affine import affine
from vae_anomaly.registry import LIKELIHOODS

NEIGHBOURS = 20
CHUNK_ROWS = 512
MAX_PASSES = 16  # of the smoothing of images: from 112 pixels a side up it spreads no further


class Likelihood(nn.Module):
    """The contract above. Laws: ``exp(log_prob)`` integrates to one, and its mean and variance are what they say."""

    support: tuple[float, float] | None = None

    @classmethod
    def for_samples(cls, image_shape: tuple[int, ...] | None) -> Self:
        """The likelihood of samples, images of that height, width and channels or other rows; nothing fitted yet.

        Raises
        ------
        DataError
            If it is not for such samples.
        """
        return cls()

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of each row, ``(N,)``, in nats."""
        return self.log_prob_of_features(x, decoded).sum(dim=-1)

    def given(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """``log_prob`` as a function of the decoder's output: what concerns x alone is computed but once."""
        return lambda decoded: self.log_prob(x, decoded)

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Each feature's share of the log-density, ``(N, D)``, in nats: rows sum to ``log_prob``."""
        raise NotImplementedError

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Variance of each feature around its mean, ``(N, D)``, in double precision."""
        raise NotImplementedError

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Mean of ``-log_prob_of_features`` over the likelihood's own rows, ``(N, D)``, in nats.

        Here for log-densities that are linear in each feature, and so reach their mean at its mean.
        """
        return -self.log_prob_of_features(self.mean(decoded), decoded)

    def mean(self, decoded: Tensor) -> Tensor:
        """Expected value of each feature, ``(N, D)``."""
        return decoded

    def training_log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """What training maximises, ``(N,)``, in nats."""
        return self.log_prob(x, decoded)

    def learn(self, x: Tensor, decoded: Tensor, weight: float) -> Tensor:
        """``training_log_prob``, once what is learned has moved to this batch's optimum by ``weight`` in (0, 1]."""
        return self.training_log_prob(x, decoded)

    def settle(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        """Fit what is learned, after training; ``codes`` are latent means in units of the posterior's spread."""

    def widen(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        """Rescale what was settled from decoded latents ``before`` to suit those ``after`` they were spread anew."""


@LIKELIHOODS.register("gaussian", gaussian=True)
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
        return self.log_prob_of_norms((x - decoded).square().sum(dim=-1), x.shape[-1])

    def log_prob_of_norms(self, squared: Tensor, n_features: int) -> Tensor:
        """Log-density of rows from the squared norms of their residuals."""
        return -0.5 * (squared / self.variance + n_features * torch.log(2 * math.pi * self.variance))

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.log_prob_of_squares(self.smooth(x - decoded).square(), x)

    def mean_log_prob_of_features(self, x: Tensor, decoded: Tensor, weights: Tensor) -> Tensor:
        """``log_prob_of_features`` averaged over n decoded means ``(n, D)`` by ``weights`` ``(N, n)``: ``(N, D)``.

        In double precision: the mean square distance is that to the mean, plus the variance around it.
        """
        mean, variance = weighted_moments(self.smooth(decoded), weights)
        return self.log_prob_of_squares((self.smooth(x) - mean).square() + variance, x)

    def log_prob_of_squares(self, squared: Tensor, x: Tensor) -> Tensor:
        """Each feature's share from its squared (and smoothed) residual, ``(N, D)``."""
        return -0.5 * (squared / self.variance + torch.log(2 * math.pi * self.variance))

    def smooth(self, residual: Tensor) -> Tensor:
        """What the noise is white after: here the residual itself, ``(N, D)``."""
        return residual

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.variance.double().expand_as(x)

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return 0.5 - self.log_prob_of_squares(torch.zeros_like(x), x)

    def learn(self, x: Tensor, decoded: Tensor, weight: float) -> Tensor:
        squared = functional.mse_loss(decoded, x, reduction="none").sum(dim=-1)  # of few passes, backward too
        mean = squared.detach().mean() / x.shape[-1]
        self.variance.lerp_(mean.clamp(min=self.floor), weight)
        return self.log_prob_of_norms(squared, x.shape[-1])

    @torch.no_grad()
    def settle(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        self.learn(x, decoded, 1.0)

    @torch.no_grad()
    def widen(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        ratio = (x - after).square().mean() / (x - before).square().mean()
        self.variance.mul_(ratio.nan_to_num(1.0)).clamp_(min=self.floor)

    def log_prob_of_pairs(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of each row under each of n decoded means: ``(N, D)`` and ``(n, D)`` to ``(N, n)`` float64."""
        constant = -0.5 * x.shape[-1] * torch.log(2 * math.pi * self.variance)
        return log_prob_of_pairs(x, decoded, self.variance, constant)


@LIKELIHOODS.register("correlated_gaussian", gaussian=True, needs_images=True)
class CorrelatedGaussian(Gaussian):
    r"""Normal noise for images, correlated over about a pixel, its variance growing with the image's signal.

    .. math::

        x \mid z \sim N(\hat x, \; v \, s(x) \, (K^T K)^{-1}), \qquad
        s(x) = \left(\tfrac1D \lVert y \rVert_1 + a\right) \sqrt{\tfrac1D \lVert (I - K) \, y \rVert_1 + b},
        \quad y = x - \mathrm{median}(x)

    K smooths along both axes, with weights 1/4, 1/2, 1/4 for images of 28 pixels a side, and a spread in proportion to
    the shorter side for others: a residual of alternating sign, as an edge displaced by a
    fraction of a pixel leaves, is likelier than one of the same size and a single sign. A sample with more signal may
    err more. The signal is ink, how far pixels are on average from the image's own median, so that neither the
    brightness of the background nor the polarity enters; and edges, how far they are from their surroundings, since
    it is there that reconstructions err. By ink alone, an image of few strokes is too easily explained. Small a
    and b, a twentieth of what normals have on average, bound both below.

    ``log_prob`` is the log-density of the scaled image :math:`x / \sqrt{s(x)}`, s being given. So a faint
    image gains nothing from the small volume of its noise, which is what makes plain likelihoods prefer empty
    images to the normal ones.

    Residuals of other pixels stay correlated, so that D pixels hold fewer independent observations: with the
    covariance :math:`\Sigma(z)` of the smoothed, scaled residuals,
    :math:`\nu = (\mathrm{tr}\Sigma)^2 / \mathrm{tr}\Sigma^2` (Satterthwaite's effective degrees of freedom). For two
    independent residuals of one z, :math:`E(r_1 \cdot r_2)^2 = \mathrm{tr}\Sigma^2` and
    :math:`E\lVert r_1\rVert^2\lVert r_2\rVert^2 = (\mathrm{tr}\Sigma)^2`, so each row and its 20 neighbours in
    the latent space estimate it. The variance is its maximum-likelihood value times :math:`D/\nu`, which weighs
    reconstruction against KL as if there were :math:`\nu` pixels.

    No density of residuals finds fault with an image that is too smooth: there is less to explain. So an image's
    sharpness, how much of its fine detail is finer still, has a log-normal factor of its own,

    .. math::

        \log \frac{\lVert (I - K)^2 \, y \rVert^2}{\lVert (I - K) \, y \rVert^2} \sim N(m, \tau^2),

    which tells a blurred image, or one of pure noise, and costs a normal one half a nat on average.

    All of these come from held-out rows in ``settle``; training maximises the plain `Gaussian`, with which the
    networks end up better.

    Parameters
    ----------
    image_shape
        Height, width and channels of a row.

    References
    ----------
    An Approximate Distribution of Estimates of Variance Components (Satterthwaite, 1946), https://doi.org/10.2307/3002019
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.register_buffer("scaled_variance", torch.ones(()))
        self.register_buffer("ink_floor", torch.ones(()))
        self.register_buffer("edge_floor", torch.ones(()))
        self.register_buffer("sharpness_mean", torch.zeros(()))
        self.register_buffer("sharpness_std", torch.ones(()))
        self.scaled_variance: Tensor
        self.ink_floor: Tensor
        self.edge_floor: Tensor
        self.sharpness_mean: Tensor
        self.sharpness_std: Tensor
        height, width, channels = image_shape
        variance = min(MAX_PASSES, (min(height, width) / 28) ** 2) / 2  # of the smoothing, in squared pixels
        self.passes = math.ceil(2 * variance)
        self.weight = variance / (2 * self.passes)
        per_pass = width * log_det_smoothing(height, self.weight) + height * log_det_smoothing(width, self.weight)
        self.log_det = self.passes * channels * per_pass

    @classmethod
    def for_samples(cls, image_shape: tuple[int, ...] | None) -> Self:
        if image_shape is None:
            raise DataError(
                "likelihood='correlated_gaussian' needs images: pass them as (N, H, W) or (N, H, W, C), give "
                "image_shape=, or use likelihood='gaussian'"
            )
        height, width, channels = image_shape
        return cls((height, width, channels))

    def training_log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return super().log_prob(x, decoded)

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.given(x)(decoded)

    def given(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        scale, constant = self.scale_and_constant(x)
        return lambda decoded: constant - 0.5 * self.smooth(x - decoded).square().sum(dim=-1) / scale

    def log_prob_of_pairs(self, x: Tensor, decoded: Tensor) -> Tensor:
        scale, constant = self.scale_and_constant(x)
        return log_prob_of_pairs(self.smooth(x), self.smooth(decoded), scale, constant)

    def log_prob_of_squares(self, squared: Tensor, x: Tensor) -> Tensor:
        scale, constant = self.scale_and_constant(x)
        return (constant / x.shape[-1])[:, None] - 0.5 * squared / scale[:, None]

    def scale_and_constant(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What divides the squared norm of each row's smoothed residual, and the rest of its log-density, ``(N,)``.

        In double precision, as is then what they are part of.
        """
        ink, edges, sharpness = self.aspects(x)
        deviation = (sharpness - self.sharpness_mean) / self.sharpness_std
        log_p = -0.5 * deviation.square() - torch.log(math.sqrt(2 * math.pi) * self.sharpness_std)
        v = self.scaled_variance.double()
        constant = self.log_det - 0.5 * x.shape[-1] * torch.log(2 * math.pi * v)
        return v * self.signal(ink, edges), constant + log_p

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        r"""The diagonal of :math:`v \, s(x) \, (K^T K)^{-1}`, ``(N, D)``, in double precision.

        Mostly what pixels of alternating sign can add up to, which K takes away: it is far wider than the residuals of
        real images, and says little about a single pixel. The bound only acts on images of over 300 pixels a side.
        """
        height, width, channels = self.image_shape
        rows, columns = (inverse_diagonal(n, self.weight, 2 * self.passes) for n in (height, width))
        of_pixels = torch.outer(rows, columns).clamp(max=1e290).flatten().repeat_interleave(channels)
        scale, _ = self.scale_and_constant(x)
        return scale[:, None] * of_pixels.to(scale.device)

    def smooth(self, residual: Tensor) -> Tensor:
        """K times each row, ``(N, D)``; beyond the border the residual counts as zero."""
        r = residual.reshape(-1, *self.image_shape)
        for axis in (1, 2) * self.passes:
            n = r.shape[axis] - 1
            smoothed = (1 - 2 * self.weight) * r
            smoothed.narrow(axis, 1, n).add_(r.narrow(axis, 0, n), alpha=self.weight)
            smoothed.narrow(axis, 0, n).add_(r.narrow(axis, 1, n), alpha=self.weight)
            r = smoothed
        return r.reshape(residual.shape)

    def signal(self, ink: Tensor, edges: Tensor) -> Tensor:
        """s(x) by the formula above, ``(N,)``."""
        return (ink + self.ink_floor).double() * (edges + self.edge_floor).double().sqrt()

    def aspects(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ink, edges and sharpness, ``(N,)`` each; the last is about -14 where there is no detail at all.

        The median is that of each channel.
        """
        pixels = x.reshape(len(x), -1, self.image_shape[-1])
        image = (pixels - pixels.median(dim=1, keepdim=True).values).reshape(x.shape)
        detail = image - self.smooth(image)
        finer = (detail - self.smooth(detail)).square().sum(dim=1)
        sharpness = torch.log(finer / detail.square().sum(dim=1).clamp(min=torch.finfo(x.dtype).tiny) + 1e-6)
        return image.abs().mean(dim=1), detail.abs().mean(dim=1), sharpness

    @torch.no_grad()
    def settle(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        super().settle(x, decoded, codes)
        ink, edges, sharpness = self.aspects(x)
        self.ink_floor.copy_((0.05 * ink.mean()).clamp(min=self.floor))
        self.edge_floor.copy_((0.05 * edges.mean()).clamp(min=self.floor))
        self.sharpness_mean.copy_(sharpness.mean())
        self.sharpness_std.copy_(sharpness.std(correction=0).clamp(min=0.05))
        residual = self.smooth(x - decoded) / self.signal(ink, edges).sqrt().to(x)[:, None]
        energy = residual.square().sum(dim=1)
        overlap, products = torch.zeros(2, dtype=energy.dtype, device=energy.device)
        for rows in torch.split(torch.arange(len(x), device=x.device), CHUNK_ROWS):
            distances = torch.cdist(codes[rows], codes)
            distances[torch.arange(len(rows), device=x.device), rows] = math.inf
            near = distances.topk(min(NEIGHBOURS, len(x) - 1), largest=False).indices
            overlap += (residual[rows] @ residual.T).gather(1, near).square().sum()
            products += (energy[rows, None] * energy[near]).sum()
        degrees = (products / overlap).nan_to_num(1.0).clamp(1, x.shape[-1])
        self.scaled_variance.copy_((energy.mean() / degrees).clamp(min=self.floor))

    @torch.no_grad()
    def widen(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        super().widen(x, before, after)
        scale, _ = self.scale_and_constant(x)
        energy, energy_before = (
            (self.smooth(x - decoded).square().sum(dim=1) / scale).mean() for decoded in (after, before)
        )
        self.scaled_variance.mul_((energy / energy_before).nan_to_num(1.0)).clamp_(min=self.floor)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """``(N, D)`` and ``(n, D)`` to ``(N, n)``, in double precision inside: differences of large numbers."""
    a2, b2 = a.double(), b.double()
    squared = affine(a2, b2).mul_(-2).add_(a2.square().sum(dim=1)[:, None]).add_(b2.square().sum(dim=1))
    return squared.clamp_(min=0).to(a.dtype)


def log_prob_of_pairs(a: Tensor, b: Tensor, scale: Tensor, constant: Tensor) -> Tensor:
    """``constant - ||a - b||^2 / (2 scale)`` of rows ``(N, D)`` and ``(n, D)``: ``(N, n)``, in double precision.

    ``scale`` and ``constant`` are of shape ``()`` or ``(N,)``.
    """
    a2, b2 = a.double(), b.double()
    norms = -0.5 * b2.square().sum(dim=1)
    inverse = torch.broadcast_to(1 / scale.double(), (len(a),))[:, None]
    of_rows = constant.double()[..., None] - 0.5 * a2.square().sum(dim=1, keepdim=True) * inverse
    products = affine(a2, b2, norms)
    return torch.addcmul(of_rows, products, inverse, out=products)


def weighted_moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``(n, D)`` by weights ``(N, n)``, ``(N, D)`` each, in double precision."""
    weights, columns = weights.double(), values.double().T.contiguous()
    mean = affine(weights, columns)
    return mean, (affine(weights, columns.square()) - mean.square()).clamp(min=0)


def log_det_smoothing(n: int, weight: float) -> float:
    """log|det| of the n x n tridiagonal matrix with rows w, 1 - 2w, w."""
    return sum(math.log(1 - 2 * weight * (1 - math.cos(math.pi * k / (n + 1)))) for k in range(1, n + 1))


def inverse_diagonal(n: int, weight: float, power: int) -> Tensor:
    """Diagonal of the inverse of that matrix to a power, ``(n,)`` float64, from its eigenvectors, which are sines."""
    k = torch.arange(1, n + 1, dtype=torch.float64) * math.pi / (n + 1)
    eigenvalues = 1 - 2 * weight * (1 - torch.cos(k))
    return 2 / (n + 1) * torch.sin(torch.outer(torch.arange(1, n + 1), k)).square() @ eigenvalues.pow(-power)


@LIKELIHOODS.register("squared_error", brought_by="article", stands_for="gaussian")
class SquaredError(Likelihood):
    r"""The introductory article's likelihood: :math:`-\lVert x - \hat x \rVert^2`.

    A Gaussian of variance 1/2 without its constant :math:`-\frac{D}{2}\log\pi`, so that the negative ELBO,
    divided by D, is the article's loss to the letter: mean squared error + KL / D.
    """

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return -(x - decoded).square()

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return torch.full_like(decoded, 0.5, dtype=torch.float64)

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return torch.full_like(decoded, 0.5)


@LIKELIHOODS.register("bernoulli", on_unit_interval=True)
class Bernoulli(Likelihood):
    """Independent binary features; the decoder gives logits.

    Values inside [0, 1] make it a cross-entropy and no density: for grey values there is `ContinuousBernoulli`.
    """

    support = (0.0, 1.0)

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return x * decoded - functional.softplus(decoded)

    def mean(self, decoded: Tensor) -> Tensor:
        return torch.sigmoid(decoded)

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return torch.sigmoid(decoded.double()) * torch.sigmoid(-decoded.double())


@LIKELIHOODS.register("continuous_bernoulli", on_unit_interval=True)
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

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        h = 0.5 * decoded
        small = h.abs() < self.taylor_below
        safe = torch.where(small, torch.ones_like(h), h).abs()
        log_sinhc = safe + torch.log(-torch.expm1(-2 * safe)) - torch.log(2 * safe)
        h2 = h.square()
        taylor = h2 * (1 / 6 - h2 * (1 / 180 - h2 * (1 / 2835 - h2 / 37800)))
        return (2 * x - 1) * h - torch.where(small, taylor, log_sinhc)

    def mean(self, decoded: Tensor) -> Tensor:
        h = 0.5 * decoded
        small = h.abs() < self.taylor_below
        safe = torch.where(small, torch.ones_like(h), h)
        h2 = h.square()
        taylor = h * (1 / 3 - h2 * (1 / 45 - h2 * (2 / 945 - h2 / 4725)))
        return 0.5 + 0.5 * torch.where(small, taylor, 1 / torch.tanh(safe) - 1 / safe)

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """The mean's derivative with respect to the logit, as in every exponential family."""
        h = 0.5 * decoded.double()
        small = h.abs() < self.taylor_below
        safe = torch.where(small, torch.ones_like(h), h)
        h2 = h.square()
        taylor = 1 / 3 - h2 * (1 / 15 - h2 * (2 / 189 - h2 / 675))
        return 0.25 * torch.where(small, taylor, safe.pow(-2) - torch.sinh(safe).pow(-2))


def name_of(likelihood: Likelihood) -> str:
    """Its name in the registry."""
    return LIKELIHOODS.name_of(type(likelihood))
