r"""Gaussian patches at all places of an image, put together as a composite likelihood.

The decoder gives a mean :math:`\hat x_i` for the q numbers of the patch at each place i, and each of those numbers,
j, has a variance :math:`v_j` of its own, the same at all places: near a patch's edge less is known than at its centre.
With :math:`c_d` the number of places that cover pixel d,

.. math::

    \log p(x|z) = \sum_d \frac{1}{c_d} \sum_{i \ni d} \log N(x_d; \hat x_{id}, v_{j(i, d)}),

each pixel's mean over the patches that hold it. A patch is what one place's VAE has a density of; several that overlap
are not independent, so their product counts a pixel :math:`c_d` times, and the weights :math:`1 / c_d` undo that. The
prior divides a place's KL term in the same way (`vae_anomaly.model.priors.normal_places`). So away from the image's
edges, where all pixels of a patch are covered alike, the ELBO is the sum of the patches' own ELBOs divided by c: a
lower bound on the sum of their log-densities divided by c, which is a composite log-likelihood. Near the edges the
pixels of one patch weigh differently. It bounds log p(x) of the whole image only where no two patches overlap.

*Normalised?* Given z it is, for each pixel, a geometric mean of Gaussian densities. That integrates to at most one, and
to one only where the patches agree (by Hölder's inequality), so it is registered as an energy. The Gaussian in
proportion to it, of precision :math:`1/\bar v_d = \mathrm{mean}_i \, 1/v_{j(i,d)}` and mean
:math:`\bar x_d = \bar v_d \, \mathrm{mean}_i \, \hat x_{id} / v_{j(i,d)}`, is its density, from which rows are drawn.
If one patch holds the whole image, both are the Gaussian of an ordinary VAE.

References
----------
An overview of composite likelihood methods (Varin, Reid & Firth, 2011), Statistica Sinica 21
From Learning Models of Natural Image Patches to Whole Image Restoration (Zoran & Weiss, ICCV 2011): the expected log
likelihood of an image's patches
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from vae_anomaly.columns import Columns
from vae_anomaly.model.likelihoods.base import Likelihood
from vae_anomaly.model.likelihoods.gaussian import SMALLEST_VARIANCE
from vae_anomaly.model.places import Grid
from vae_anomaly.registry import LIKELIHOODS

OF_AVERAGE = 100  # patches, whose mean square is that of all pixels together, added to what each pixel of a patch has


@LIKELIHOODS.register(
    "patches_gaussian", brought_by="patches", stands_for="gaussian", normalised=False, needs_images=True
)
class PatchesGaussian(Likelihood):
    """Gaussian patches, each pixel's log-density averaged over the places that cover it."""

    positive_buffers: ClassVar[frozenset[str]] = frozenset({"variance"})

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("variance", torch.ones(grid.n_patch_features))
        self.variance: Tensor

    @classmethod
    def for_samples(cls, image_shape: tuple[int, ...] | None, columns: Columns | None = None) -> Self:
        assert image_shape is not None, "the registry says that it is for images"
        return cls(Grid.of(image_shape))

    def as_density(self) -> PatchesDensity:
        density = PatchesDensity(self.grid)
        density.variance = self.variance
        return density

    def of_patches(self, flat: Tensor) -> Tensor:
        """Numbers for all patches one after the other, ``(N, P q)``, as ``(N, P, q)``."""
        return flat.reshape(len(flat), self.grid.n_places, -1)

    def log_prob_of_patches(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of the numbers in each patch, ``(N, P, q)``, in nats."""
        squared = (self.grid.cut(x) - self.of_patches(decoded)).square()
        return -0.5 * (squared / self.variance + torch.log(2 * math.pi * self.variance))

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return (self.log_prob_of_patches(x, decoded) * self.grid.weights(x)).sum(dim=(1, 2))

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.grid.mean_over_places(self.log_prob_of_patches(x, decoded))

    def mean(self, decoded: Tensor) -> Tensor:
        """The patches' means, by their precision: ``(N, D)``."""
        return self.grid.mean_over_places(self.of_patches(decoded) / self.variance) * self.pixel_variance()

    def pixel_variance(self) -> Tensor:
        """The harmonic mean of the variances at each pixel, ``(1, D)``."""
        precision = (1 / self.variance).expand(1, self.grid.n_places, -1)
        return 1 / self.grid.mean_over_places(precision)

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.pixel_variance().double().expand_as(x)

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        # the mean of a squared distance from a patch's mean is that of the pixel's own mean, plus the variance
        at_the_mean = self.log_prob_of_features(self.mean(decoded), decoded)
        return 0.5 - at_the_mean

    @torch.no_grad()
    def fit_after_training(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        total = torch.zeros_like(self.variance, dtype=torch.float64)
        for row, of_row in zip(x, decoded, strict=True):
            residual = self.grid.cut(row[None]) - self.of_patches(of_row[None])
            total += residual.double().square().sum(dim=(0, 1))
        n = len(x) * self.grid.n_places
        variance = (total + OF_AVERAGE * total.mean() / n) / (n + OF_AVERAGE)
        self.variance.copy_(variance.clamp(min=SMALLEST_VARIANCE))


class PatchesDensity(PatchesGaussian):
    """The Gaussian in proportion to a `PatchesGaussian`, which integrates to one."""

    @property
    def support(self) -> None:
        return None

    @property
    def normalised(self) -> bool:
        return True

    def as_density(self) -> Self:
        return self

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        return self.log_prob_of_features(x, decoded).sum(dim=-1)

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        variance = self.pixel_variance()
        squared = (x - self.mean(decoded)).square()
        return -0.5 * (squared / variance + torch.log(2 * math.pi * variance))
