"""A VAE of patches: what its ELBO is, and that places far from the edges see the same patch alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from random_models import fixed_noise, random_vae
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.likelihoods.patches_gaussian import PatchesGaussian
from vae_anomaly.model.networks.mlp import MLPDecoder, MLPEncoder
from vae_anomaly.model.networks.patches import HIDDEN, PatchesDecoder, PatchesEncoder, patches
from vae_anomaly.model.places import Grid
from vae_anomaly.model.priors.normal_places import NormalPlaces
from vae_anomaly.model.priors.standard_normal import StandardNormal
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.scoring.scores import elbo, importance_weighted, log_density

LATENTS = 2


def vae_of_patches(grid: Grid, latents: int = LATENTS) -> VAE:
    """Random weights, large enough for posteriors that differ from place to place."""
    scaling = Scaling(torch.zeros(()), torch.ones(()))
    vae = VAE(PatchesEncoder(grid, latents), PatchesDecoder(grid, latents), PatchesGaussian(grid), scaling)
    reset_parameters(vae, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in vae.parameters():
            weight.mul_(2)
    vae.prior = NormalPlaces(vae.encoder.weights_of_places(torch.zeros(())))
    return vae.double()


def images(shape: tuple[int, int, int], n: int = 5, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, *shape)))


def noise_at(grid: Grid, latents: int = LATENTS) -> Tensor:
    return fixed_noise(2, latents).repeat(1, 1, grid.n_places)


@torch.no_grad()
def elbos_of_places(vae: VAE, grid: Grid, x: Tensor) -> np.ndarray:
    """The ELBO of the patch at each place, ``(N, tops, lefts)``."""
    posterior, log_p = vae.encode(x), []
    for eps in noise_at(grid):
        log_p.append(vae.likelihood.log_prob_of_patches(x, vae.decode(vae.rsample(posterior, eps))).sum(dim=2))
    kl = StandardNormal().kl_of_latents(posterior).unflatten(1, (grid.n_places, -1)).sum(dim=2)
    return (torch.stack(log_p).mean(dim=0) - kl).reshape(len(x), len(grid.tops), len(grid.lefts)).numpy()


@torch.no_grad()
def test_a_patch_that_holds_the_whole_image_makes_an_ordinary_vae() -> None:
    shape = (12, 9, 2)
    of_patches = random_vae(shape, LATENTS, architecture="patches", likelihood="patches_gaussian")
    of_patches.likelihood.variance.fill_(0.7)
    of_patches.prior = NormalPlaces(of_patches.encoder.weights_of_places(torch.zeros(1, dtype=torch.float64)))
    n = math.prod(shape)
    ordinary = VAE(MLPEncoder(n, LATENTS, HIDDEN), MLPDecoder(n, LATENTS, HIDDEN), Gaussian(), of_patches.scaling)
    ordinary = ordinary.double()
    ordinary.encoder.load_state_dict(of_patches.encoder.patch.state_dict())
    ordinary.decoder.load_state_dict(of_patches.decoder.patch.state_dict())
    ordinary.likelihood.variance.fill_(0.7)
    x, noise = images(shape).flatten(1), fixed_noise(2, LATENTS)
    for score in (elbo, log_density, importance_weighted):
        torch.testing.assert_close(score(of_patches, x, noise), score(ordinary, x, noise))
    torch.testing.assert_close(of_patches.reconstruct(x), ordinary.reconstruct(x))


@torch.no_grad()
def test_the_elbo_of_patches_that_do_not_overlap_lies_below_log_p() -> None:
    grid = Grid.with_stride((6, 6, 1), 3, 3)
    vae = vae_of_patches(grid, latents=1)
    x, noise = images((6, 6, 1), 20).flatten(1), noise_at(grid, latents=1)
    z = torch.linspace(-8, 8, 2_001, dtype=torch.float64)[:, None]
    means = vae.decoder.patch(z)
    log_prior = -0.5 * (z[:, 0].square() + math.log(2 * math.pi)) + math.log(16 / 2_000)
    residual = grid.cut(x)[:, :, None] - means
    log_p = -0.5 * (residual.square() + math.log(2 * math.pi)).sum(dim=-1)
    log_p = torch.logsumexp(log_p + log_prior, dim=2).sum(dim=1)
    assert (elbo(vae, x, noise) < log_p).all()
    torch.testing.assert_close(elbo(vae, x, noise), log_density(vae, x, noise))


@torch.no_grad()
def test_inside_the_elbo_is_the_sum_over_places_divided_by_how_often_a_pixel_is_covered() -> None:
    grid = Grid.with_stride((1, 60, 1), 4, 2)
    vae, x = vae_of_patches(grid), images((1, 60, 1)).flatten(1)
    of_places = elbos_of_places(vae, grid, x)[:, 0]
    other = x.clone()
    other[:, 28:32] += 1  # held by three places, whose pixels are all covered twice
    change = elbo(vae, other, noise_at(grid)) - elbo(vae, x, noise_at(grid))
    np.testing.assert_allclose(change, (elbos_of_places(vae, grid, other)[:, 0] - of_places).sum(axis=1) / 2)


@torch.no_grad()
def test_an_image_moved_by_the_stride_has_the_costs_of_its_inner_places_moved() -> None:
    grid = Grid.with_stride((20, 20, 3), 6, 2)
    vae, x = vae_of_patches(grid), images((20, 20, 3))
    moved = x.roll((2, -4), dims=(1, 2))
    here, there = (elbos_of_places(vae, grid, rows.flatten(1)) for rows in (x, moved))
    np.testing.assert_allclose(there[:, 1:, :-2], here[:, :-1, 2:], rtol=1e-9)
    assert not np.allclose(there, here)


@torch.no_grad()
def test_parts_sum_to_the_terms_and_the_density_bounds_less_than_the_energy() -> None:
    grid = Grid.with_stride((9, 8, 1), 4, 2)
    vae, x, noise = vae_of_patches(grid), images((9, 8, 1)).flatten(1), noise_at(grid)
    parts, (reconstruction, kl) = vae.prior.parts(vae, x, noise), vae.prior.elbo_terms(vae, x, noise)
    torch.testing.assert_close(parts.reconstruction.sum(dim=1), reconstruction)
    torch.testing.assert_close(parts.kl.sum(dim=1), kl)
    assert (vae.as_density().prior.kl(vae.encode(x)) > kl).all()  # every place pays its whole KL there


def test_codes_are_the_mean_over_the_places() -> None:
    grid = Grid.with_stride((9, 8, 1), 4, 2)
    vae, x = vae_of_patches(grid), images((9, 8, 1)).flatten(1)
    torch.testing.assert_close(vae.codes(x), vae.encode(x).mu.reshape(5, grid.n_places, LATENTS).mean(dim=1))


def test_rows_that_are_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="needs images, got rows of 30 features"):
        patches((30,), 4)
