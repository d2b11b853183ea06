"""Correlated noise of images: a known covariance, and what a fit after training makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from vae_anomaly.model.likelihoods.correlated_gaussian import CorrelatedGaussian
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.likelihoods.signal import medians, signal_of


def fitted(
    shape: tuple[int, int, int] = (5, 4, 2), n: int = 60
) -> tuple[CorrelatedGaussian, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    decoded = torch.rand(n, math.prod(shape), generator=generator, dtype=torch.float64)
    x = decoded + 0.1 * torch.randn(decoded.shape, generator=generator, dtype=torch.float64)
    likelihood = CorrelatedGaussian(shape).double()
    likelihood.fit_after_training(x, decoded, torch.randn(n, 3, generator=generator, dtype=torch.float64))
    return likelihood, x, decoded


def test_correlated_gaussian_matches_scipy() -> None:
    likelihood, x, decoded = fitted()
    d = x.shape[1]
    smoothing = likelihood.smoothing(torch.eye(d, dtype=torch.float64)).numpy()
    covariance = likelihood.scaled_variance.item() * np.linalg.inv(smoothing.T @ smoothing)
    image = x.reshape(len(x), -1, 2)
    middle = image.sort(dim=1).values[:, (image.shape[1] - 1) // 2]
    y = (image - middle[:, None]).reshape(x.shape).numpy()
    detail = y - y @ smoothing.T
    ink, edges = np.abs(y).mean(axis=1), np.abs(detail).mean(axis=1)
    signal = (ink + likelihood.ink_floor.item()) * np.sqrt(edges + likelihood.edge_floor.item())
    assert likelihood.ink_floor == pytest.approx(0.05 * ink.mean())
    assert likelihood.edge_floor == pytest.approx(0.05 * edges.mean())
    scaled = (x - decoded).numpy() / np.sqrt(signal)[:, None]
    finer = np.square(detail - detail @ smoothing.T).sum(axis=1)
    sharpness = np.log(finer / np.square(detail).sum(axis=1) + 1e-6)
    oracle = multivariate_normal(np.zeros(d), covariance).logpdf(scaled)
    oracle += norm(likelihood.sharpness_mean, likelihood.sharpness_std).logpdf(sharpness)
    np.testing.assert_allclose(likelihood.log_prob(x, decoded), oracle, rtol=1e-9)


def test_correlated_gaussian_ignores_brightness_and_polarity() -> None:
    likelihood, x, decoded = fitted()
    log_p = likelihood.log_prob(x, decoded)
    np.testing.assert_allclose(likelihood.log_prob(x + 3, decoded + 3), log_p, rtol=1e-9)
    odd = CorrelatedGaussian((5, 3, 1)).double()  # with an even number of pixels the median is the lower of two
    x, decoded = x[:, :15], decoded[:, :15]
    np.testing.assert_allclose(odd.log_prob(1 - x, 1 - decoded), odd.log_prob(x, decoded), rtol=1e-9)


def test_contrast_moves_all_scores_by_the_same() -> None:
    _, x, decoded = fitted()
    codes = torch.randn(60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_p = []
    for contrast in (1, 7):
        likelihood = CorrelatedGaussian((5, 4, 2)).double()
        likelihood.fit_after_training(contrast * x, contrast * decoded, codes)
        log_p.append(likelihood.log_prob(contrast * x, contrast * decoded).numpy())
    np.testing.assert_allclose(log_p[1] - log_p[1].mean(), log_p[0] - log_p[0].mean(), rtol=1e-9)


def test_the_variance_weighs_reconstruction_by_independent_observations() -> None:
    generator = torch.Generator().manual_seed(0)
    n, d = 900, 144
    image = torch.rand(n, d, generator=generator, dtype=torch.float64)
    directions, codes = torch.eye(d, dtype=torch.float64), torch.arange(3.0, dtype=torch.float64).repeat(300)[:, None]
    size = torch.randn(n, 1, generator=generator, dtype=torch.float64)

    def degrees(residual: torch.Tensor, codes: torch.Tensor) -> float:
        likelihood = CorrelatedGaussian((12, 12, 1)).double()
        x = image + 0.1 * residual
        likelihood.fit_after_training(x, image, codes)
        scale, _ = likelihood.scale_and_constant(x)
        return (likelihood.smoothing(x - image).square().sum(1) / scale).mean().item()

    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    smoothing = CorrelatedGaussian((12, 12, 1)).double().smoothing(directions).numpy()
    covariance = smoothing @ smoothing.T
    assert degrees(noise, codes) == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum(), rel=0.15)
    # a direction for each of three codes: one observation given the code, three where it is not known
    by_code = size * directions[[0, 66, 143]].repeat(300, 1)
    assert degrees(by_code, codes + 1e-3 * noise[:, :1]) == pytest.approx(1, rel=0.1)
    assert degrees(by_code, noise[:, :3]) == pytest.approx(3, rel=0.3)


def test_rescaled_noise_follows_the_residuals_and_keeps_what_they_count_for() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, 300, 144, generator=generator, dtype=torch.float64)
    before, after = x + 0.1 * noise, x + 0.3 * noise
    plain = Gaussian().double()
    plain.fit_after_training(x, before, x[:, :3])
    plain.rescale_noise(x, before, after)
    assert plain.variance.item() == pytest.approx((0.3 * noise).square().mean().item())
    correlated = CorrelatedGaussian((12, 12, 1)).double()
    correlated.fit_after_training(x, before, x[:, :3])
    fitted_variance = correlated.scaled_variance.item()
    correlated.rescale_noise(x, before, after)
    assert correlated.scaled_variance.item() == pytest.approx(9 * fitted_variance)
    correlated.rescale_noise(x, x, x)
    assert correlated.scaled_variance.item() == pytest.approx(9 * fitted_variance)


def test_blurred_and_constant_images_are_unlikely() -> None:
    generator = torch.Generator().manual_seed(0)
    decoded = torch.rand(50, 784, generator=generator)
    likelihood = CorrelatedGaussian((28, 28, 1))
    likelihood.fit_after_training(decoded + 0.01 * torch.randn(50, 784, generator=generator), decoded, decoded[:, :4])
    normal = likelihood.log_prob(decoded, decoded)
    smooth = decoded
    for _ in range(4):
        smooth = likelihood.smoothing(smooth)
    assert likelihood.log_prob(smooth, smooth).max() < normal.min() - 100
    constant = torch.full((1, 784), 0.3)
    assert torch.isfinite(likelihood.log_prob(constant, constant)).all()
    assert likelihood.log_prob(constant, constant).item() < normal.min() - 100


@pytest.mark.parametrize("n", [1, 2])
def test_a_fit_to_few_or_blank_images_stays_finite(n: int) -> None:
    blank = torch.zeros(n, 35)
    likelihood = CorrelatedGaussian((7, 5, 1))
    likelihood.fit_after_training(blank, blank, blank[:, :2])
    assert torch.isfinite(likelihood.log_prob(blank, blank)).all()
    assert torch.isfinite(likelihood.log_prob(blank + 1e6, blank)).all()


def test_a_pixel_at_fault_takes_its_share() -> None:
    likelihood, x, _ = fitted((5, 3, 2))
    decoded = x.clone()
    decoded[:, 14] += 1.0
    shares = likelihood.log_prob_of_features(x, decoded)
    assert (shares.argmin(dim=1) == 14).all()
    assert (shares[:, 15::2] == shares[:, 1:2]).all()  # the other channel


@pytest.mark.parametrize("shape", [(5, 4, 2), (40, 6, 1), (33, 35, 3)])
def test_variance_of_correlated_noise_is_the_diagonal_of_its_covariance(shape: tuple[int, int, int]) -> None:
    d, likelihood = math.prod(shape), CorrelatedGaussian(shape).double()
    likelihood.scaled_variance.fill_(0.03)
    x = torch.rand(3, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = shape[0] * shape[1]
    smoothing = CorrelatedGaussian((*shape[:2], 1)).double().smoothing(torch.eye(one, dtype=torch.float64)).numpy()
    diagonal = np.diag(np.linalg.inv(smoothing.T @ smoothing)).repeat(shape[2])
    scale = 0.03 * signal_of(x, likelihood.smoothing).size(likelihood.ink_floor, likelihood.edge_floor).numpy()
    np.testing.assert_allclose(likelihood.variance_of_features(x, x), scale[:, None] * diagonal, rtol=1e-5)


def test_noise_of_correlated_images_costs_its_entropy() -> None:
    likelihood, x, _ = fitted((5, 3, 2))
    x = x[:1]
    smoothing = likelihood.smoothing(torch.eye(30, dtype=torch.float64))
    white = torch.randn(100_000, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    std = likelihood.scale_and_constant(x)[0].sqrt()
    residual = torch.linalg.solve(smoothing, std * white.T).T
    np.testing.assert_allclose(residual.var(dim=0), likelihood.variance_of_features(x, x)[0], rtol=0.03)
    costs = -likelihood.log_prob_of_features(x, x - residual).mean(dim=0)
    np.testing.assert_allclose(costs, likelihood.entropy_of_features(x, x)[0], atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_variance_stays_finite_on_large_images(dtype: torch.dtype) -> None:
    likelihood = CorrelatedGaussian((600, 700, 1)).to(dtype)
    x = torch.rand(1, 600 * 700, dtype=dtype)
    assert torch.isfinite(likelihood.variance_of_features(x, x)).all()


@pytest.mark.parametrize("n", [1, 2, 7, 8, 100])
def test_medians_are_those_of_pytorch_however_many_pixels_are_dark(n: int) -> None:
    pixels = torch.randint(0, 3, (200, n, 3), generator=torch.Generator().manual_seed(n)).float()
    pixels[:50] = (pixels[:50] > 1.5).float()
    assert torch.equal(medians(pixels), pixels.median(dim=1).values)
