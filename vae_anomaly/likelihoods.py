r"""Likelihoods :math:`p(x|z)`: one object, used by training and by scoring alike.

A likelihood reads a decoder's output ``(N, D)`` as its parameters and gives

- ``log_prob(x, decoded) -> (N,)``: the log-density of each row, in nats, summed over its features;
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
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_anomaly.products import affine

NEIGHBOURS = 20
CHUNK_ROWS = 512
MAX_PASSES = 16  # of the smoothing of images: from 112 pixels a side up it spreads no further


class Likelihood(nn.Module):
    """The contract above. Laws: ``exp(log_prob)`` integrates to one, and its mean and variance are what they say."""

    support: tuple[float, float] | None = None

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of each row, ``(N,)``, in nats."""
        return self.log_prob_of_features(x, decoded).sum(dim=-1)

    def log_probs(self, x: Tensor, decodings: Iterable[Tensor]) -> Tensor:
        """``log_prob`` for each of K decoder outputs, ``(K, N)``."""
        return torch.stack([self.log_prob(x, decoded) for decoded in decodings])

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
        """Log-density of each row under each of n decoded means: ``(N, D)`` and ``(n, D)`` to ``(N, n)``."""
        return self.log_prob_of_norms(squared_distances(x, decoded), x.shape[-1])


class CorrelatedGaussian(Gaussian):
    r"""Normal noise for images, correlated over about a pixel, its variance growing with the image's signal.

    .. math::

        x \mid z \sim N(\hat x, \; v \, s(x) \, (K^T K)^{-1}), \qquad
        s(x) = \tfrac1D \textstyle\sum_d |x_d - \mathrm{median}(x)| + s_0

    K smooths along both axes, with weights 1/4, 1/2, 1/4 for images of 28 pixels a side, and a spread in proportion to
    the shorter side for others: a residual of alternating sign, as an edge displaced by a
    fraction of a pixel leaves, is likelier than one of the same size and a single sign. A sample with more signal may
    err more; the signal is the mean distance from the image's own median, so neither the brightness of the
    background nor the polarity enters.

    ``log_prob`` is the log-density of the contrast-scaled image :math:`x / \sqrt{s(x)}`, s being given. So a faint
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

        \log \frac{\lVert (I - K)^2 (x - \mathrm{median}(x)) \rVert^2}
                  {\lVert (I - K) (x - \mathrm{median}(x)) \rVert^2} \sim N(m, \tau^2),

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
        self.register_buffer("signal_floor", torch.ones(()))
        self.register_buffer("sharpness_mean", torch.zeros(()))
        self.register_buffer("sharpness_std", torch.ones(()))
        self.scaled_variance: Tensor
        self.signal_floor: Tensor
        self.sharpness_mean: Tensor
        self.sharpness_std: Tensor
        height, width, channels = image_shape
        variance = min(MAX_PASSES, (min(height, width) / 28) ** 2) / 2  # of the smoothing, in squared pixels
        self.passes = math.ceil(2 * variance)
        self.weight = variance / (2 * self.passes)
        per_pass = width * log_det_smoothing(height, self.weight) + height * log_det_smoothing(width, self.weight)
        self.log_det = self.passes * channels * per_pass

    def training_log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return super().log_prob(x, decoded)

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.log_probs(x, [decoded])[0]

    def log_probs(self, x: Tensor, decodings: Iterable[Tensor]) -> Tensor:
        squared = [self.smooth(x - decoded).square().sum(dim=-1) for decoded in decodings]
        return self.log_prob_of(torch.stack(squared), x)  # what concerns x alone is dear, and done once

    def log_prob_of_pairs(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.log_prob_of(squared_distances(self.smooth(x), self.smooth(decoded)).T, x).T

    def log_prob_of(self, squared: Tensor, x: Tensor) -> Tensor:
        """Log-density from the squared norm of the smoothed residual, ``(..., N)``."""
        image = self.centred(x)
        squared = squared / (self.signal(image) + self.signal_floor)
        v = self.scaled_variance
        log_density = self.log_det - 0.5 * (squared / v + x.shape[-1] * torch.log(2 * math.pi * v))
        return log_density + self.log_prob_of_sharpness(image)

    def log_prob_of_squares(self, squared: Tensor, x: Tensor) -> Tensor:
        image = self.centred(x)
        squared = squared / (self.signal(image) + self.signal_floor)[:, None]
        even = (self.log_det + self.log_prob_of_sharpness(image)) / x.shape[-1]
        return even[:, None] - 0.5 * (squared / self.scaled_variance + torch.log(2 * math.pi * self.scaled_variance))

    def log_prob_of_sharpness(self, centred: Tensor) -> Tensor:
        """Log-density of each image's sharpness, ``(N,)``."""
        deviation = (self.sharpness(centred) - self.sharpness_mean) / self.sharpness_std
        return -0.5 * deviation.square() - torch.log(math.sqrt(2 * math.pi) * self.sharpness_std)

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        r"""The diagonal of :math:`v \, s(x) \, (K^T K)^{-1}`, ``(N, D)``, in double precision.

        Mostly what pixels of alternating sign can add up to, which K takes away: it is far wider than the residuals of
        real images, and says little about a single pixel. The bound only acts on images of over 300 pixels a side.
        """
        height, width, channels = self.image_shape
        rows, columns = (inverse_diagonal(n, self.weight, 2 * self.passes) for n in (height, width))
        of_pixels = torch.outer(rows, columns).clamp(max=1e290).flatten().repeat_interleave(channels)
        scale = (self.scaled_variance * (self.signal(self.centred(x)) + self.signal_floor)).double()
        return scale[:, None] * of_pixels.to(scale.device)

    def smooth(self, residual: Tensor) -> Tensor:
        """K times each row, ``(N, D)``; beyond the border the residual counts as zero."""
        r = residual.reshape(-1, *self.image_shape)
        for axis in (1, 2) * self.passes:
            n = r.shape[axis]
            padded = functional.pad(r, (0, 0) * (3 - axis) + (1, 1))
            before, at, after = (padded.narrow(axis, start, n) for start in range(3))
            r = (1 - 2 * self.weight) * at + self.weight * (before + after)
        return r.reshape(residual.shape)

    def signal(self, centred: Tensor) -> Tensor:
        """Mean distance of a centred image's pixels from zero, ``(N,)``."""
        return centred.abs().mean(dim=1)

    def centred(self, x: Tensor) -> Tensor:
        """Images less their median, channel by channel, ``(N, D)``."""
        pixels = x.reshape(len(x), -1, self.image_shape[-1])
        return (pixels - pixels.median(dim=1, keepdim=True).values).reshape(x.shape)

    def sharpness(self, centred: Tensor) -> Tensor:
        """Logarithm of the share of an image's detail that is detail of its detail, ``(N,)``; about -14 without any."""
        detail = centred - self.smooth(centred)
        finer = (detail - self.smooth(detail)).square().sum(dim=1)
        return torch.log(finer / detail.square().sum(dim=1).clamp(min=torch.finfo(centred.dtype).tiny) + 1e-6)

    @torch.no_grad()
    def settle(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        super().settle(x, decoded, codes)
        image = self.centred(x)
        signal = self.signal(image)
        self.signal_floor.copy_((0.05 * signal.mean()).clamp(min=math.sqrt(self.floor)))
        sharpness = self.sharpness(image)
        self.sharpness_mean.copy_(sharpness.mean())
        self.sharpness_std.copy_(sharpness.std(correction=0).clamp(min=0.05))
        residual = self.smooth(x - decoded) / (signal + self.signal_floor).sqrt()[:, None]
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
        scale = self.signal(self.centred(x)) + self.signal_floor
        energy, energy_before = (
            (self.smooth(x - decoded).square().sum(dim=1) / scale).mean() for decoded in (after, before)
        )
        self.scaled_variance.mul_((energy / energy_before).nan_to_num(1.0)).clamp_(min=self.floor)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """``(N, D)`` and ``(n, D)`` to ``(N, n)``, in double precision inside: differences of large numbers."""
    a2, b2 = a.double(), b.double()
    squared = affine(a2, b2).mul_(-2).add_(a2.square().sum(dim=1)[:, None]).add_(b2.square().sum(dim=1))
    return squared.clamp_(min=0).to(a.dtype)


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


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "correlated_gaussian": CorrelatedGaussian,
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
}


def name_of(likelihood: Likelihood) -> str:
    """Its name in `LIKELIHOODS`; the article's, which is none of them, has one too."""
    names = {kind: name for name, kind in LIKELIHOODS.items()} | {SquaredError: "squared_error"}
    return names[type(likelihood)]
