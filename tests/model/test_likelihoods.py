"""A likelihood is a density whose mean is what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal

from vae_anomaly.model.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    CorrelatedGaussian,
    Gaussian,
    Likelihood,
    SquaredError,
)
from vae_anomaly.registry import LIKELIHOODS

LOGITS = [-60.0, -8.0, -0.21, -0.2, -0.19, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 0.15, 0.2, 0.21, 3.0, 60.0]


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_integrates_to_one_with_its_mean(logit: float) -> None:
    # after x = t^power the integrand is smooth even where the density piles up at one end
    edges = np.concatenate([[0], np.logspace(-6, np.log10(0.5), 4000)])
    x = np.unique(np.concatenate([edges, 1 - edges]))
    density = ContinuousBernoulli().log_prob(
        torch.tensor(x)[:, None], torch.full((len(x), 1), logit, dtype=torch.float64)
    )
    weights = np.exp(density.numpy())
    assert np.trapezoid(weights, x) == pytest.approx(1, abs=1e-4)
    mean = ContinuousBernoulli().mean(torch.tensor([[logit]], dtype=torch.float64)).item()
    assert np.trapezoid(weights * x, x) == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_matches_torch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(50, 7, generator=generator, dtype=torch.float64)
    logits = 4 * torch.randn(50, 7, generator=generator, dtype=torch.float64)
    oracle = TorchContinuousBernoulli(logits=logits)
    ours = ContinuousBernoulli()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-5  # torch's own series is good to about 1e-6
    np.testing.assert_allclose(
        ours.log_prob(x.to(dtype), logits.to(dtype)), oracle.log_prob(x).sum(-1), atol=tolerance, rtol=1e-5
    )
    np.testing.assert_allclose(ours.mean(logits.to(dtype)), oracle.mean, atol=tolerance)


@pytest.mark.parametrize("at", [-0.2, 0.2])
def test_continuous_bernoulli_is_smooth_where_the_series_takes_over(at: float) -> None:
    logits = torch.tensor([[at - 1e-12], [at + 1e-12]], dtype=torch.float64, requires_grad=True)
    x = torch.full((2, 1), 0.3, dtype=torch.float64)
    log_p = ContinuousBernoulli().log_prob(x, logits)
    (gradient,) = torch.autograd.grad(log_p.sum(), logits)
    assert log_p[0].item() == pytest.approx(log_p[1].item(), abs=1e-11)
    assert gradient[0].item() == pytest.approx(gradient[1].item(), abs=1e-9)


def test_gradients_are_finite_at_zero() -> None:
    for likelihood in (Bernoulli(), ContinuousBernoulli()):
        logits = torch.tensor([[0.0, 80.0, -80.0]], requires_grad=True)
        likelihood.log_prob(torch.tensor([[0.2, 1.0, 0.0]]), logits).sum().backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


def test_gaussian_matches_torch_and_learns_the_mean_squared_residual() -> None:
    generator = torch.Generator().manual_seed(0)
    x, decoded = torch.randn(2, 30, 4, generator=generator, dtype=torch.float64)
    likelihood = Gaussian().double()
    likelihood.learn(x, decoded, 1.0)
    residual = (x - decoded).square().mean()
    assert likelihood.variance.item() == pytest.approx(residual.item())
    oracle = Normal(decoded, residual.sqrt()).log_prob(x).sum(-1)
    np.testing.assert_allclose(likelihood.log_prob(x, decoded), oracle)
    best = likelihood.log_prob(x, decoded).mean()
    for factor in (0.9, 1.1):
        likelihood.variance.mul_(factor)
        assert likelihood.log_prob(x, decoded).mean() < best
        likelihood.variance.div_(factor)


def test_gaussian_variance_never_vanishes() -> None:
    likelihood = Gaussian()
    x = torch.ones(3, 2)
    likelihood.learn(x, x, 1.0)
    assert torch.isfinite(likelihood.log_prob(x, x)).all()


def test_bernoulli_matches_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 3, generator=generator)
    x = (torch.rand(20, 3, generator=generator) < 0.5).float()
    np.testing.assert_allclose(
        Bernoulli().log_prob(x, logits), TorchBernoulli(logits=logits).log_prob(x).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(Bernoulli().mean(logits), torch.sigmoid(logits))


def test_squared_error_is_a_gaussian_of_variance_one_half_without_its_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    x, decoded = torch.randn(2, 10, 4, generator=generator, dtype=torch.float64)
    gaussian = Gaussian().double()
    gaussian.variance.fill_(0.5)
    difference = gaussian.log_prob(x, decoded) - SquaredError().log_prob(x, decoded)
    np.testing.assert_allclose(difference, np.full(10, -2 * math.log(math.pi)))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_each_row_has_its_own_log_prob(name: str) -> None:
    likelihood = CorrelatedGaussian((5, 1, 1)) if name == "correlated_gaussian" else LIKELIHOODS[name]()
    x, decoded = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0))
    together = likelihood.log_prob(x, decoded)
    assert together.shape == (6,)
    alone = torch.cat([likelihood.log_prob(x[i : i + 1], decoded[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert likelihood.mean(decoded).shape == x.shape


def settled(
    shape: tuple[int, int, int] = (5, 4, 2), n: int = 60
) -> tuple[CorrelatedGaussian, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    decoded = torch.rand(n, math.prod(shape), generator=generator, dtype=torch.float64)
    x = decoded + 0.1 * torch.randn(decoded.shape, generator=generator, dtype=torch.float64)
    likelihood = CorrelatedGaussian(shape).double()
    likelihood.settle(x, decoded, torch.randn(n, 3, generator=generator, dtype=torch.float64))
    return likelihood, x, decoded


@pytest.mark.parametrize(
    ("side", "passes", "weight"), [(28, 1, 1 / 4), (14, 1, 1 / 16), (56, 4, 1 / 4), (300, 16, 1 / 4)]
)
def test_smoothing_is_in_proportion_to_the_image(side: int, passes: int, weight: float) -> None:
    likelihood = CorrelatedGaussian((side, side + 9, 3))
    assert (likelihood.passes, likelihood.weight) == (passes, weight)


@pytest.mark.parametrize("size", [(5, 4), (40, 3), (33, 35)])
def test_smoothing_is_a_matrix_of_known_determinant(size: tuple[int, int]) -> None:
    likelihood = CorrelatedGaussian((*size, 2))
    w = likelihood.weight
    axis = lambda n: (1 - 2 * w) * np.eye(n) + w * (np.eye(n, k=1) + np.eye(n, k=-1))  # noqa: E731
    once = np.kron(np.kron(axis(size[0]), axis(size[1])), np.eye(2))
    matrix = np.linalg.matrix_power(once, likelihood.passes)
    rows = torch.rand(3, len(matrix), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(likelihood.smooth(rows), rows.numpy() @ matrix.T, rtol=1e-9)
    assert likelihood.log_det == pytest.approx(np.linalg.slogdet(matrix)[1])


def test_correlated_gaussian_matches_scipy() -> None:
    likelihood, x, decoded = settled()
    d = x.shape[1]
    smoothing = likelihood.smooth(torch.eye(d, dtype=torch.float64)).numpy()
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
    likelihood, x, decoded = settled()
    log_p = likelihood.log_prob(x, decoded)
    np.testing.assert_allclose(likelihood.log_prob(x + 3, decoded + 3), log_p, rtol=1e-9)
    odd = CorrelatedGaussian((5, 3, 1)).double()  # with an even number of pixels the median is the lower of two
    x, decoded = x[:, :15], decoded[:, :15]
    np.testing.assert_allclose(odd.log_prob(1 - x, 1 - decoded), odd.log_prob(x, decoded), rtol=1e-9)


def test_contrast_moves_all_scores_by_the_same() -> None:
    _, x, decoded = settled()
    codes = torch.randn(60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_p = []
    for contrast in (1, 7):
        likelihood = CorrelatedGaussian((5, 4, 2)).double()
        likelihood.settle(contrast * x, contrast * decoded, codes)
        log_p.append(likelihood.log_prob(contrast * x, contrast * decoded).numpy())
    np.testing.assert_allclose(log_p[1] - log_p[1].mean(), log_p[0] - log_p[0].mean(), rtol=1e-9)


def test_settling_weighs_reconstruction_by_independent_observations() -> None:
    generator = torch.Generator().manual_seed(0)
    n, d = 900, 144
    image = torch.rand(n, d, generator=generator, dtype=torch.float64)
    directions, codes = torch.eye(d, dtype=torch.float64), torch.arange(3.0, dtype=torch.float64).repeat(300)[:, None]
    size = torch.randn(n, 1, generator=generator, dtype=torch.float64)

    def degrees(residual: torch.Tensor, codes: torch.Tensor) -> float:
        likelihood = CorrelatedGaussian((12, 12, 1)).double()
        x = image + 0.1 * residual
        likelihood.settle(x, image, codes)
        scale, _ = likelihood.scale_and_constant(x)
        return (likelihood.smooth(x - image).square().sum(1) / scale).mean().item()

    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    smoothing = CorrelatedGaussian((12, 12, 1)).double().smooth(directions).numpy()
    covariance = smoothing @ smoothing.T
    assert degrees(noise, codes) == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum(), rel=0.15)
    # a direction for each of three codes: one observation given the code, three where it is not known
    by_code = size * directions[[0, 66, 143]].repeat(300, 1)
    assert degrees(by_code, codes + 1e-3 * noise[:, :1]) == pytest.approx(1, rel=0.1)
    assert degrees(by_code, noise[:, :3]) == pytest.approx(3, rel=0.3)


def test_widening_follows_the_residuals_and_keeps_what_they_count_for() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, 300, 144, generator=generator, dtype=torch.float64)
    before, after = x + 0.1 * noise, x + 0.3 * noise
    plain = Gaussian().double()
    plain.settle(x, before, x[:, :3])
    plain.widen(x, before, after)
    assert plain.variance.item() == pytest.approx((0.3 * noise).square().mean().item())
    correlated = CorrelatedGaussian((12, 12, 1)).double()
    correlated.settle(x, before, x[:, :3])
    settled = correlated.scaled_variance.item()
    correlated.widen(x, before, after)
    assert correlated.scaled_variance.item() == pytest.approx(9 * settled)
    correlated.widen(x, x, x)
    assert correlated.scaled_variance.item() == pytest.approx(9 * settled)


def test_blurred_and_constant_images_are_unlikely() -> None:
    generator = torch.Generator().manual_seed(0)
    decoded = torch.rand(50, 784, generator=generator)
    likelihood = CorrelatedGaussian((28, 28, 1))
    likelihood.settle(decoded + 0.01 * torch.randn(50, 784, generator=generator), decoded, decoded[:, :4])
    normal = likelihood.log_prob(decoded, decoded)
    smooth = decoded
    for _ in range(4):
        smooth = likelihood.smooth(smooth)
    assert likelihood.log_prob(smooth, smooth).max() < normal.min() - 100
    constant = torch.full((1, 784), 0.3)
    assert torch.isfinite(likelihood.log_prob(constant, constant)).all()
    assert likelihood.log_prob(constant, constant).item() < normal.min() - 100


@pytest.mark.parametrize("n", [1, 2])
def test_settling_on_few_or_blank_images_stays_finite(n: int) -> None:
    blank = torch.zeros(n, 35)
    likelihood = CorrelatedGaussian((7, 5, 1))
    likelihood.settle(blank, blank, blank[:, :2])
    assert torch.isfinite(likelihood.log_prob(blank, blank)).all()
    assert torch.isfinite(likelihood.log_prob(blank + 1e6, blank)).all()


@pytest.mark.parametrize("name", ["gaussian", "correlated_gaussian"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pairs_agree_with_one_at_a_time(name: str, dtype: torch.dtype) -> None:
    likelihood, x, decoded = settled((5, 3, 1))
    if name == "gaussian":
        likelihood = Gaussian().double()
        likelihood.settle(x, decoded, decoded)
    likelihood, x, decoded = likelihood.to(dtype), x.to(dtype), decoded[:7].to(dtype)
    pairs = likelihood.log_prob_of_pairs(x, decoded)
    oracle = torch.stack([likelihood.log_prob(x, mean.expand_as(x)) for mean in decoded], dim=1)
    np.testing.assert_allclose(pairs, oracle, rtol=1e-4 if dtype == torch.float32 else 1e-9)


FEATURE_LIKELIHOODS = {
    "gaussian": Gaussian,
    "correlated": lambda: CorrelatedGaussian((5, 3, 2)),
    "squared error": SquaredError,
    "bernoulli": Bernoulli,
    "continuous": ContinuousBernoulli,
}


def fitted_likelihood(name: str, dtype: torch.dtype) -> Likelihood:
    _, x, decoded = settled((5, 3, 2))
    likelihood = FEATURE_LIKELIHOODS[name]().double()
    likelihood.settle(x, decoded, decoded[:, :3])
    return likelihood.to(dtype)


@pytest.mark.parametrize("name", FEATURE_LIKELIHOODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 10_000), size=st.sampled_from([1e-6, 0.3, 3.0, 60.0]))
@settings(max_examples=20, deadline=None)
def test_shares_of_features_sum_to_the_log_density(name: str, dtype: torch.dtype, seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(7, 30, generator=generator).to(dtype)
    decoded = (size * torch.randn(7, 30, generator=generator)).to(dtype)
    likelihood = fitted_likelihood(name, dtype)
    shares = likelihood.log_prob_of_features(x, decoded)
    assert shares.shape == x.shape
    rounding = (1e-12 if dtype == torch.float64 else 2e-6) * (shares.abs().sum(dim=1) + 1)
    assert ((shares.sum(dim=1) - likelihood.log_prob(x, decoded)).abs() <= rounding).all()
    if isinstance(likelihood, Gaussian):
        weights = torch.softmax(torch.randn(7, 7, generator=generator, dtype=torch.float64), dim=1)
        pairs = torch.stack([likelihood.log_prob_of_features(x, d.expand_as(x)) for d in decoded], dim=1)
        np.testing.assert_allclose(
            likelihood.mean_log_prob_of_features(x, decoded, weights),
            (weights[..., None] * pairs).sum(dim=1),
            rtol=1e-4 if dtype == torch.float32 else 1e-9,
            atol=1e-4 if dtype == torch.float32 else 1e-9,
        )


def test_a_pixel_at_fault_takes_its_share() -> None:
    likelihood = fitted_likelihood("correlated", torch.float64)
    _, x, _ = settled((5, 3, 2))
    decoded = x.clone()
    decoded[:, 14] += 1.0
    shares = likelihood.log_prob_of_features(x, decoded)
    assert (shares.argmin(dim=1) == 14).all()
    assert (shares[:, 15::2] == shares[:, 1:2]).all()  # the other channel


@pytest.mark.parametrize("logit", LOGITS)
def test_variance_of_the_continuous_bernoulli_is_its_densitys(logit: float) -> None:
    edges = np.concatenate([[0], np.logspace(-6, np.log10(0.5), 4000)])
    x = np.unique(np.concatenate([edges, 1 - edges]))
    likelihood, logits = ContinuousBernoulli(), torch.full((len(x), 1), logit, dtype=torch.float64)
    density = likelihood.log_prob(torch.tensor(x)[:, None], logits).exp().numpy()
    mean = np.trapezoid(density * x, x)
    for dtype in (torch.float32, torch.float64):
        variance = likelihood.variance_of_features(torch.zeros(1, 1), logits[:1].to(dtype)).item()
        assert variance == pytest.approx(np.trapezoid(density * (x - mean) ** 2, x), rel=2e-3)
    entropy = likelihood.entropy_of_features(torch.zeros(1, 1), logits[:1]).item()
    assert entropy == pytest.approx(-np.trapezoid(density * np.log(density), x), abs=1e-3)


def test_variance_of_the_continuous_bernoulli_is_its_means_derivative_to_the_last_digits() -> None:
    logits = torch.tensor(LOGITS + list(np.linspace(-1, 1, 101)), dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(ContinuousBernoulli().mean(logits).sum(), logits)
    variance = ContinuousBernoulli().variance_of_features(logits, logits).detach()
    np.testing.assert_allclose(variance, derivative, rtol=3e-11)


def test_moments_of_the_others_are_their_densitys() -> None:
    generator = torch.Generator().manual_seed(0)
    decoded = torch.rand(1, 30, generator=generator, dtype=torch.float64).expand(200_000, -1)
    noise = torch.randn(decoded.shape, generator=generator, dtype=torch.float64)
    gaussian = fitted_likelihood("gaussian", torch.float64)
    drawn = {
        "gaussian": decoded + gaussian.variance.sqrt() * noise,
        "squared error": decoded + math.sqrt(0.5) * noise,
        "bernoulli": torch.bernoulli(torch.sigmoid(decoded), generator=generator),
    }
    for name, x in drawn.items():
        likelihood = fitted_likelihood(name, torch.float64)
        variance = likelihood.variance_of_features(x, decoded)[:1]
        assert variance.dtype == torch.float64
        np.testing.assert_allclose(variance[0], x.var(dim=0), rtol=0.03)
        costs = -likelihood.log_prob_of_features(x, decoded).mean(dim=0)
        np.testing.assert_allclose(likelihood.entropy_of_features(x, decoded)[0], costs, atol=0.02)


@pytest.mark.parametrize("shape", [(5, 4, 2), (40, 6, 1), (33, 35, 3)])
def test_variance_of_correlated_noise_is_the_diagonal_of_its_covariance(shape: tuple[int, int, int]) -> None:
    d, likelihood = math.prod(shape), CorrelatedGaussian(shape).double()
    likelihood.scaled_variance.fill_(0.03)
    x = torch.rand(3, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = shape[0] * shape[1]
    smoothing = CorrelatedGaussian((*shape[:2], 1)).double().smooth(torch.eye(one, dtype=torch.float64)).numpy()
    diagonal = np.diag(np.linalg.inv(smoothing.T @ smoothing)).repeat(shape[2])
    scale = 0.03 * likelihood.signal(*likelihood.aspects(x)[:2]).numpy()
    np.testing.assert_allclose(likelihood.variance_of_features(x, x), scale[:, None] * diagonal, rtol=1e-5)


def test_noise_of_correlated_images_costs_its_entropy() -> None:
    likelihood = fitted_likelihood("correlated", torch.float64)
    _, x, _ = settled((5, 3, 2))
    x = x[:1]
    smoothing = likelihood.smooth(torch.eye(30, dtype=torch.float64))
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
