"""The mixture prior: its density is that of SciPy, and its KL a bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.priors.mixture import Mixture
from vae_anomaly.model.priors.standard_normal import StandardNormal, kl_divergence

LATENT = 3


def posterior(n: int = 6, dtype: torch.dtype = torch.float64) -> Posterior:
    generator = torch.Generator().manual_seed(0)
    mu, log_var = torch.randn(2, n, LATENT, generator=generator, dtype=torch.float64).to(dtype)
    return Posterior(mu, torch.exp(0.5 * log_var), log_var)


def mixture(k: int = 4) -> tuple[Mixture, list[tuple[float, np.ndarray, np.ndarray]]]:
    """A mixture, and its weights, means and covariances."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(k))
    means = 2 * rng.normal(size=(k, LATENT))
    factors = np.tril(0.4 * rng.normal(size=(k, LATENT, LATENT))) + np.eye(LATENT)
    whitening = np.stack([np.linalg.inv(factor) for factor in factors])
    parts = [(float(w), m, f @ f.T) for w, m, f in zip(weights, means, factors, strict=True)]
    tensors = (np.log(weights), means, whitening, np.full(LATENT, 0.3))
    return Mixture(*(torch.from_numpy(tensor) for tensor in tensors)), parts


def test_mixture_density_matches_scipy() -> None:
    prior, parts = mixture()
    z = np.random.default_rng(1).normal(size=(50, LATENT))
    oracle = np.log(sum(w * multivariate_normal(m, c).pdf(z) for w, m, c in parts))
    np.testing.assert_allclose(prior.log_prob(torch.from_numpy(z)), oracle)


@pytest.mark.parametrize("k", [1, 4])
def test_kl_to_a_mixture_is_an_upper_bound_and_exact_for_one_component(k: int) -> None:
    prior, _ = mixture(k)
    q = posterior()
    eps = torch.randn(200_000, 1, LATENT, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = q.mu + q.sigma * eps
    log_q = -0.5 * (eps.square() + q.log_var + math.log(2 * math.pi)).sum(-1)
    draws = log_q - prior.log_prob(z.reshape(-1, LATENT)).reshape(log_q.shape)
    error = 5 * draws.std(0) / math.sqrt(len(eps))
    assert (prior.kl(q) > draws.mean(0) - error).all()
    if k == 1:
        assert ((prior.kl(q) - draws.mean(0)).abs() < error).all()


def test_the_kl_of_one_spread_is_the_kl() -> None:
    prior, _ = mixture()
    mu, sigma = posterior().mu, torch.tensor([0.1, 2.0, 0.7, 0.3, 1.5]).double()[:LATENT]
    q = Posterior(mu, sigma.expand_as(mu), 2 * sigma.log().expand_as(mu))
    torch.testing.assert_close(prior.kl_of_one_spread(prior.components(mu), sigma), prior.kl(q))


def test_one_standard_component_is_the_standard_normal() -> None:
    prior = Mixture(torch.zeros(1), torch.zeros(1, LATENT), torch.eye(LATENT)[None], torch.ones(LATENT))
    q = posterior(dtype=torch.float32)
    np.testing.assert_allclose(prior.kl(q), kl_divergence(q), rtol=1e-5)
    np.testing.assert_allclose(prior.log_prob(q.mu), StandardNormal().log_prob(q.mu), rtol=1e-5)


@pytest.mark.parametrize("prior", ["normal", "one component", "mixture", "far"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shares_of_latents_sum_to_the_kl(prior: str, dtype: torch.dtype) -> None:
    q = posterior(40, dtype)
    if prior == "far":
        q = q._replace(mu=1e3 * q.mu)
    p = StandardNormal() if prior == "normal" else mixture(1 if prior == "one component" else 4)[0].to(dtype)
    shares = p.kl_of_latents(q)
    assert shares.shape == q.mu.shape
    rounding = (1e-12 if dtype == torch.float64 else 1e-5) * (shares.abs().sum(dim=1) + 1)
    assert ((shares.sum(dim=1) - p.kl(q)).abs() <= rounding).all()


def test_shares_to_independent_latents_are_their_own_divergences() -> None:
    q, scale, mean = posterior(), torch.tensor([0.5, 1.0, 2.0]).double(), torch.tensor([1.0, 0.0, -3.0]).double()
    prior = Mixture(torch.zeros(1).double(), mean[None], torch.diag(1 / scale)[None], torch.ones(LATENT).double())
    oracle = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mu, q.sigma), torch.distributions.Normal(mean, scale)
    )
    np.testing.assert_allclose(prior.kl_of_latents(q), oracle)


def test_the_mixture_gives_all_samples_one_spread() -> None:
    prior, _ = mixture()
    q = prior.posterior(posterior())
    np.testing.assert_array_equal(q.mu, posterior().mu)
    np.testing.assert_allclose(q.sigma, np.full((6, LATENT), 0.3))
    np.testing.assert_allclose(torch.exp(0.5 * q.log_var), q.sigma)


def test_samples_have_the_moments_of_the_prior() -> None:
    prior, parts = mixture()
    generator = torch.Generator().manual_seed(0)
    n = 100_000
    noise = torch.randn(n, LATENT, generator=generator, dtype=torch.float64)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    z = prior.sample(noise, uniform).numpy()
    mean = sum(w * m for w, m, _ in parts)
    second = sum(w * (c + np.outer(m, m)) for w, m, c in parts)
    np.testing.assert_allclose(z.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(z.T @ z / n, second, atol=0.1)
    assert torch.isfinite(prior.sample(noise[:2], torch.tensor([0.0, 1.0], dtype=torch.float64))).all()
