"""The ELBO is one: against a model whose log p(x) is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from vae_anomaly.model.elbo import elbo_terms, importance_weighted_bound
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.standard_normal import kl_divergence
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE

D, LATENT, VARIANCE = 5, 2, 0.3


class FixedGaussian(nn.Module):
    """q(z|x) = N(M x + b, diag(s^2))."""

    def __init__(self, matrix: Tensor, bias: Tensor, sigma: Tensor) -> None:
        super().__init__()
        self.matrix, self.bias, self.sigma = matrix, bias, sigma

    def forward(self, x: Tensor) -> Posterior:
        mu = x @ self.matrix.T + self.bias
        return Posterior(mu, self.sigma.expand_as(mu), 2 * torch.log(self.sigma).expand_as(mu))


class Affine(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weight.T + self.bias


def linear_gaussian(*, exact: bool, dtype: torch.dtype) -> tuple[VAE, Tensor, np.ndarray]:
    """A VAE with linear maps, some data, and its true log p(x); its posterior is the true one or a wrong one.

    The columns of W are orthogonal, so that the true posterior is diagonal.
    """
    rng = np.random.default_rng(0)
    W = np.linalg.qr(rng.normal(size=(D, LATENT)))[0] * np.array([1.5, 0.7])
    b = rng.normal(size=D)
    x = rng.normal(size=(40, LATENT)) @ W.T + b + math.sqrt(VARIANCE) * rng.normal(size=(40, D))
    precision = 1 + (W**2).sum(0) / VARIANCE
    M = (W / VARIANCE / precision).T
    sigma = 1 / np.sqrt(precision)
    if not exact:
        M, sigma = M * 0.8, sigma * 1.4
    likelihood = Gaussian()
    likelihood.variance.fill_(VARIANCE)
    tensors = [torch.tensor(a, dtype=dtype) for a in (M, -M @ b, sigma, W, b)]
    vae = VAE(
        FixedGaussian(*tensors[:3]), Affine(*tensors[3:]), likelihood, Scaling(torch.tensor(0.0), torch.tensor(1.0))
    ).to(dtype)
    log_p = multivariate_normal(b, W @ W.T + VARIANCE * np.eye(D)).logpdf(x)
    return vae, torch.tensor(x, dtype=dtype), log_p


def noise(k: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(k, 1, LATENT, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_bounds_are_tight_with_the_true_posterior(dtype: torch.dtype, tolerance: float) -> None:
    vae, x, log_p = linear_gaussian(exact=True, dtype=dtype)
    # every importance weight is then p(x) itself, whatever the draw
    for k in (1, 7):
        np.testing.assert_allclose(importance_weighted_bound(vae, x, noise(k, dtype)), log_p, atol=tolerance)


def test_elbo_lies_below_log_p_and_the_gap_is_the_posterior_error() -> None:
    vae, x, log_p = linear_gaussian(exact=False, dtype=torch.float64)
    reconstruction, kl = elbo_terms(vae, x, noise(4000, torch.float64))
    gap = log_p - (reconstruction - kl).numpy()
    assert (gap > 0).all()
    true, _, _ = linear_gaussian(exact=True, dtype=torch.float64)
    p, q = true.encode(x), vae.encode(x)
    expected = 0.5 * ((q.sigma**2 + (q.mu - p.mu) ** 2) / p.sigma**2 - 1 + p.log_var - q.log_var).sum(-1)
    np.testing.assert_allclose(gap, expected, atol=0.25)  # 4,000 draws


def test_importance_weighted_bound_rises_to_log_p() -> None:
    vae, x, log_p = linear_gaussian(exact=False, dtype=torch.float64)
    means = []
    for k in (1, 4, 32, 4096):
        repeats = 4096 // k
        eps = noise(4096, torch.float64).reshape(repeats, k, 1, LATENT)
        means.append(float(np.mean([importance_weighted_bound(vae, x, e).mean().item() for e in eps])))
    assert means[0] < means[1] < means[2] < means[3] + 1e-3
    assert means[3] == pytest.approx(log_p.mean(), abs=0.02)


def test_one_importance_weight_is_an_elbo_draw_in_expectation() -> None:
    vae, x, _ = linear_gaussian(exact=False, dtype=torch.float64)
    eps = noise(4000, torch.float64)
    single = torch.stack([importance_weighted_bound(vae, x, e[None]) for e in eps]).mean(0)
    reconstruction, kl = elbo_terms(vae, x, eps)
    np.testing.assert_allclose(single, reconstruction - kl, atol=0.3)


def test_kl_agrees_with_monte_carlo() -> None:
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    log_var = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    sigma = torch.exp(0.5 * log_var)
    eps = torch.randn(200_000, 1, 3, generator=generator, dtype=torch.float64)
    z = mu + sigma * eps
    estimate = (0.5 * (z**2 - eps**2) - torch.log(sigma)).sum(-1)
    error = estimate.std(0) / math.sqrt(len(eps))
    assert ((kl_divergence(Posterior(mu, sigma, log_var)) - estimate.mean(0)).abs() < 5 * error).all()


def test_kl_is_zero_at_the_prior_and_positive_elsewhere() -> None:
    zero, one = torch.zeros(1, 4), torch.ones(1, 4)
    assert kl_divergence(Posterior(zero, one, zero)).item() == 0.0
    assert kl_divergence(Posterior(zero + 0.1, one, zero)).item() > 0
