"""Patches that overlap: what their composite likelihood is, beside the laws that all likelihoods keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_anomaly.model.likelihoods.patches_gaussian import PatchesGaussian
from vae_anomaly.model.places import Grid

GRID = Grid.with_stride((3, 7, 2), 3, 2)
D = math.prod(GRID.image_shape)


def likelihood_and_decoded(n: int = 1) -> tuple[PatchesGaussian, Tensor]:
    generator = torch.Generator().manual_seed(0)
    likelihood = PatchesGaussian(GRID).double()
    likelihood.variance.copy_(0.5 + torch.rand(GRID.n_patch_features, generator=generator))
    decoded = torch.randn(n, GRID.n_places * GRID.n_patch_features, generator=generator, dtype=torch.float64)
    return likelihood, decoded


def test_a_pixels_log_density_is_the_mean_over_the_patches_that_hold_it() -> None:
    likelihood, decoded = likelihood_and_decoded()
    x = torch.randn(1, D, dtype=torch.float64)
    means, variances = decoded.reshape(GRID.n_places, *GRID.patch_shape), likelihood.variance.reshape(GRID.patch_shape)
    image, seen = x.reshape(GRID.image_shape), likelihood.log_prob_of_features(x, decoded).reshape(GRID.image_shape)
    for column in range(7):
        holding = [(place, column - left) for place, left in enumerate(GRID.lefts) if left <= column < left + 3]
        log_p = [
            torch.distributions.Normal(means[place, 1, at, 0], variances[1, at, 0].sqrt()).log_prob(image[1, column, 0])
            for place, at in holding
        ]
        assert seen[1, column, 0].item() == pytest.approx(torch.stack(log_p).mean().item())
    assert likelihood.log_prob(x, decoded).item() == pytest.approx(seen.sum().item())


def test_where_patches_disagree_it_integrates_to_less_than_one_and_its_density_to_one() -> None:
    likelihood, decoded = likelihood_and_decoded()
    axis = torch.linspace(-15, 15, 4_001, dtype=torch.float64)[:, None].expand(-1, D)
    step = 30 / 4_000
    several = decoded.expand(len(axis), -1)
    integrals = likelihood.log_prob_of_features(axis, several).exp().sum(dim=0) * step
    shared = GRID.n_covering(integrals) > 1
    assert (integrals[shared] < 0.999).all()
    torch.testing.assert_close(integrals[~shared], torch.ones_like(integrals[~shared]))
    of_density = likelihood.as_density().log_prob_of_features(axis, several).exp().sum(dim=0) * step
    torch.testing.assert_close(of_density, torch.ones_like(of_density))


def test_mean_variance_and_entropy_are_those_of_the_rows_that_its_density_draws() -> None:
    likelihood, decoded = likelihood_and_decoded()
    mean, variance = likelihood.mean(decoded), likelihood.variance_of_features(torch.zeros(1, D), decoded)
    n = 40_000
    x = mean + variance.sqrt() * torch.randn(n, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    of_density = likelihood.as_density().log_prob_of_features(x, decoded.expand(n, -1)).mean(dim=0)
    np.testing.assert_allclose(of_density, -0.5 * torch.log(2 * math.pi * math.e * variance[0]), atol=0.02)
    seen = -likelihood.log_prob_of_features(x, decoded.expand(n, -1)).mean(dim=0)
    np.testing.assert_allclose(seen, likelihood.entropy_of_features(x[:1], decoded)[0], atol=0.03)


def test_each_pixel_of_a_patch_gets_the_variance_of_its_residuals() -> None:
    likelihood, decoded = likelihood_and_decoded(n=2_000)
    grid = Grid.with_stride((3, 3, 2), 3, 2)  # one place, so that residuals can be of any variance
    of_one = PatchesGaussian(grid).double()
    decoded = decoded[:, : grid.n_patch_features]
    x = decoded + likelihood.variance.sqrt() * torch.randn(decoded.shape, dtype=torch.float64)
    of_one.fit_after_training(x, decoded, decoded)
    np.testing.assert_allclose(of_one.variance, likelihood.variance, rtol=0.2)
