r"""Scores of images that a small defect cannot hide from: the worst place, and three p-values in one.

The ELBO sums over all pixels, so a defect of a few pixels drowns in the noise of the rest, and an image with more ink
or edges is allowed more noise by its likelihood. Here a residual is compared with one number for all pixels and images,
so no defect raises its own allowance.

*Energies.* For the residual :math:`r = x - \hat x` at the posterior mean, the smoothing S with weights 1/4, 1/2, 1/4
along both axes, and the sum over channels c,

.. math::

    e_{0k} = S \sum_c (S^k r_c)^2, \quad k = 0, 1, \qquad
    e_{lk} = \text{the same of } r \text{ averaged over blocks of } 2^l \times 2^l ,

for as many levels l as leave 28 pixels a side, so that defects of several sizes stand out (`energies`). With k = 1
noise averages out, but so does a defect in which bright and dark lie side by side; that one stands out with k = 0.

*Tails.* Of held-out normals, a statistic t has the median m and a mean excess b of the values above it. An exponential
tail, :math:`P(t) = \tfrac12 e^{-(t - m)/b}`, gives any value :math:`-\log P(t) = \log 2 + (t - m)/b`, also beyond all
that were seen. By the largest energy of an image for each l and k, the energies of a place become such numbers, and the
largest of them is its *heat*: the p-value, in nats, that a normal image whose worst place is this would have.

*Signs.* An image is odd if the whole of it costs too much (the negative ELBO), if one place does (the largest heat), or
if it costs too little: on textures a changed weave can be *more normal than normal*. Each of these signs has a p-value
:math:`p_i`, and a share :math:`w_i` of the false alarms that it may cause. ``smallest_p`` is their weighted harmonic
mean, in nats,

.. math:: -\log \frac{1}{\sum_i w_i / p_i} = \log \sum_i e^{s_i}, \qquad s_i = -\log \frac{p_i}{w_i} ,

which the smallest :math:`p_i / w_i` rules: it is above the largest :math:`s_i`, by at most log 3 nats. What is odd by
two signs is odder than by either. Thresholds are set by the same score of other held-out normals, so they keep their
promise however well the tails fit and whatever the signs have in common.

Model files of earlier versions have one energy of each level, with k = 1, and their ``smallest_p`` is the largest
:math:`s_i`, with the shares of then: they score as they did.

References
----------
The harmonic mean p-value for combining dependent tests (Wilson, 2019), PNAS 116
False discovery control with p-value weighting (Genovese, Roeder & Wasserman, 2006), Biometrika 93
Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (Nalisnick et al., 2019),
https://arxiv.org/abs/1906.02994
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from vae_anomaly.model.scaling import filled
from vae_anomaly.model.vae import VAE
from vae_anomaly.model.validity import check_shapes
from vae_anomaly.registry import SCORES
from vae_anomaly.scoring.scores import elbo

SIGNS = ("whole", "too regular", "place")
SHARES = (0.89, 0.01, 0.1)  # of the false alarms, for each sign
EARLIER_SHARES = (0.94, 0.01, 0.05)  # of model files with one energy of each level
SHARES_OF_PATCHES = (0.3, 0.3, 0.4)  # of patches the sum over all, high or low, says no more than the worst
SMALLEST_SIDE = 28  # of the coarsest level
SMOOTHINGS = (0, 1)  # of a residual before it is squared, one for each energy of a level
EARLIER_SMOOTHINGS = (1,)
LARGEST_POWER = 2.0**120  # of two by which residuals are divided; it and its inverse are normal in single precision
CACHE_VALUES = 1 << 17  # of residuals at a time, whose energies stay in the cache of a CPU


class ImageStatistics(nn.Module):
    """Tails of what is computed of an image among held-out normals; a model file has them under ``tails.``.

    Parameters
    ----------
    image_shape
        Height, width and channels.
    location, tail : Tensor
        ``(3 + 2 n_levels,)`` each: median and mean excess above it, of the three signs and then of each level's largest
        energies; in model files of earlier versions ``(3 + n_levels,)``.
    """

    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {"location": ("n",), "tail": ("n",)}
    positive_buffers: ClassVar[frozenset[str]] = frozenset({"tail"})

    def __init__(self, image_shape: tuple[int, ...], *, location: Tensor, tail: Tensor) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.location: Tensor
        self.tail: Tensor
        self.register_buffer("location", location)
        self.register_buffer("tail", tail)

    @classmethod
    def from_buffers(cls, buffers: dict[str, Tensor], image_shape: tuple[int, ...]) -> ImageStatistics:
        """The statistics that a model file holds, their names and shapes checked.

        Raises
        ------
        ValueError
            If there are others.
        """
        earlier = n_statistics(image_shape, EARLIER_SMOOTHINGS)
        n = earlier if len(buffers.get("location", ())) == earlier else n_statistics(image_shape)
        check_shapes(buffers, cls.shapes, "a model's statistics of images", {}, n=n)
        return cls(image_shape, **buffers)

    @property
    def earlier(self) -> bool:
        """Whether they are as model files of earlier versions have them."""
        return len(self.location) == n_statistics(self.image_shape, EARLIER_SMOOTHINGS)

    @property
    def smoothings(self) -> tuple[int, ...]:
        """How often a residual is smoothed before it is squared, for each energy of a level."""
        return EARLIER_SMOOTHINGS if self.earlier else SMOOTHINGS

    def in_nats(self, values: Tensor, which: slice) -> Tensor:
        """Values ``(..., n)`` of these statistics as the negative logarithms of their p-values, double precision."""
        location, tail = self.location[which].double(), self.tail[which].double()
        return (values.double() - location) / tail + math.log(2)


def n_levels(image_shape: tuple[int, ...]) -> int:
    """How many levels `energies` has: one, and one more for each halving that leaves 28 pixels a side."""
    return max(1, 1 + int(math.log2(max(1, min(image_shape[:2]) / SMALLEST_SIDE))))


def n_statistics(image_shape: tuple[int, ...], smoothings: tuple[int, ...] = SMOOTHINGS) -> int:
    """How many values `ImageStatistics` has a median of: the signs, and each level's energies."""
    return len(SIGNS) + n_levels(image_shape) * len(smoothings)


def smoothed(padded: Tensor) -> Tensor:
    """Sixteen times images smoothed by 1/4, 1/2, 1/4 along both axes, ``(..., H, W)``.

    ``padded``, ``(..., H + 2, W + 2)``, has the zeros that pixels beyond the border count as.
    """
    sums = padded
    for _ in range(2):  # over two pixels, in a fraction of the time of avg_pool2d
        sums = sums[..., :-1, :] + sums[..., 1:, :]
    for _ in range(2):
        sums = sums[..., :-1] + sums[..., 1:]
    return sums


def energies(
    residual: Tensor, image_shape: tuple[int, ...], smoothings: tuple[int, ...] = SMOOTHINGS
) -> tuple[list[list[Tensor]], Tensor]:
    """Smoothed squares of residuals ``(N, D)``, summed over channels.

    Each image is divided by a power of two near its largest value, so that no square of a finite number overflows.

    Returns
    -------
    levels, units
        Of each level l the energies ``(N, H / 2^l, W / 2^l)`` of each smoothing, in ``units`` of their own:
        ``(N, n_smoothings)`` float64.
    """
    largest = torch.maximum(residual.amax(dim=1), -residual.amin(dim=1)).clamp(1 / LARGEST_POWER, LARGEST_POWER)
    power = largest / torch.frexp(largest).mantissa
    r = (residual / power[:, None]).reshape(-1, *image_shape).permute(0, 3, 1, 2)
    levels = []
    for level in range(n_levels(image_shape)):
        r = avg_pool2d(r, 2, ceil_mode=True) if level else r
        padded = pad(r, (1, 1, 1, 1))
        by_smoothing = {0: padded, 1: pad(smoothed(padded), (1, 1, 1, 1))}
        squares = [by_smoothing[k].square_() for k in smoothings]
        levels.append([smoothed(some.sum(dim=1) if some.shape[1] > 1 else some[:, 0]) for some in squares])
    unit = power.double().square()
    return levels, torch.stack([unit * 16.0 ** -(1 + 2 * k) for k in smoothings], dim=1)


def residuals(vae: VAE, x: Tensor) -> Tensor:
    """Scaled rows less what the model expects at their posterior means, ``(N, D)``."""
    return filled(x - vae.reconstruct(x))


def statistics_of(vae: VAE) -> ImageStatistics:
    """The model's statistics of images.

    Raises
    ------
    ValueError
        If it has none.
    """
    statistics = getattr(vae, "tails", None)
    if not isinstance(statistics, ImageStatistics):
        raise ValueError("this score is for images, and needs statistics of them that this model lacks: fit it to some")
    return statistics


def largest_energies(vae: VAE, x: Tensor, statistics: ImageStatistics) -> Tensor:
    """The largest energies, ``(N, n_levels * n_smoothings)``, those of a level side by side."""
    r = residuals(vae, x)
    slices = torch.split(r, max(1, CACHE_VALUES // r.shape[1])) if r.device.type == "cpu" else (r,)
    return torch.cat(
        [largest_of_levels(*energies(some, statistics.image_shape, statistics.smoothings)) for some in slices]
    )


def largest_of_levels(levels: list[list[Tensor]], units: Tensor) -> Tensor:
    """The largest of what `energies` gives, ``(N, n_levels * n_smoothings)`` float64."""
    largest = [torch.stack([energy.flatten(1).amax(dim=1) for energy in level], dim=1) for level in levels]
    return torch.cat([of_level * units for of_level in largest], dim=1)


def largest_heat(vae: VAE, x: Tensor, statistics: ImageStatistics) -> Tensor:
    """Heat of the worst place of each image, ``(N,)``, in nats, double precision."""
    largest = largest_energies(vae, x, statistics)
    return statistics.in_nats(largest, slice(len(SIGNS), None)).amax(dim=-1)


def heat_maps(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor]:
    """Heat of every pixel of scaled rows ``(N, D)``, ``(N, H, W)``, in nats: the module's docstring defines it."""
    statistics = statistics_of(vae)
    height, width = statistics.image_shape[:2]
    heat = torch.full((len(x), height, width), -math.inf, dtype=torch.float64, device=x.device)
    start, n = len(SIGNS), len(statistics.smoothings)
    levels, units = energies(residuals(vae, x), statistics.image_shape, statistics.smoothings)
    for level, of_level in enumerate(levels):
        energy = torch.stack(of_level, dim=-1) * units[:, None, None]
        places = statistics.in_nats(energy, slice(start + level * n, start + (level + 1) * n)).amax(dim=-1)
        fine = interpolate(places[:, None], scale_factor=2**level, mode="nearest") if level else places[:, None]
        heat = torch.maximum(heat, fine[:, 0, :height, :width])
    return (heat,)


def raw_signs(vae: VAE, x: Tensor, noise: Tensor, statistics: ImageStatistics) -> Tensor:
    """Cost of the whole in nats, its negative, and the largest heat, ``(N, 3)``: higher is odder."""
    cost = -elbo(vae, x, noise)
    return torch.stack([cost, -cost, largest_heat(vae, x, statistics)], dim=-1)


def signs(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor]:
    """How odd each sign of `SIGNS` is, ``(N, 3)``, in nats: minus the logarithm of its p-value over its share."""
    statistics = statistics_of(vae)
    nats = statistics.in_nats(raw_signs(vae, x, noise, statistics), slice(len(SIGNS)))
    shares = EARLIER_SHARES if statistics.earlier else SHARES
    if vae.encoder.n_places > 1:
        shares = SHARES_OF_PATCHES
    of_signs = zip(nats.unbind(dim=-1), shares, strict=True)
    return (torch.stack([sign + math.log(share) for sign, share in of_signs], dim=-1),)


@SCORES.register("local", needs_images=True)
def local(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """The worst place of an image: minus its heat, the p-value in nats that a normal's worst place has."""
    return -largest_heat(vae, x, statistics_of(vae))


@SCORES.register("smallest_p", needs_images=True)
def smallest_p(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """One p-value, in nats, of three: of the whole image, of its worst place, and of costing too little."""
    three = signs(vae, x, noise)[0]
    return -(three.amax(dim=-1) if statistics_of(vae).earlier else three.logsumexp(dim=-1))
