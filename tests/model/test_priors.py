"""Priors: the KL term bounds what it says, and nothing that a file brings is taken unchecked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from vae_anomaly.model.networks import Posterior
from vae_anomaly.model.priors import (
    COMPONENTS,
    ROWS_A_COMPONENT,
    Exemplars,
    Mixture,
    StandardNormal,
    fit_mixture,
    kl_divergence,
    prior_of,
)

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


def test_shares_of_exemplars_sum_to_the_kl() -> None:
    log_p = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    prior = Exemplars(torch.zeros(5, 2).double(), torch.zeros(5, 3).double())
    r, shares = prior.responsibilities(log_p)
    np.testing.assert_allclose(r.sum(dim=1), 1)
    np.testing.assert_allclose(shares.sum(dim=1), prior.elbo_terms(log_p)[1])
    np.testing.assert_allclose(shares, r * torch.log(5 * r))


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
    exemplars = Exemplars(torch.arange(4.0)[:, None], torch.zeros(4, 2))
    assert exemplars.sample(torch.zeros(4, 1), torch.tensor([0.0, 0.3, 0.99, 1.0])).ravel().tolist() == [0, 1, 3, 3]


def test_terms_of_exemplars_are_the_evidence() -> None:
    log_p = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30
    reconstruction, kl = Exemplars(torch.zeros(5, 2), torch.zeros(5, 3)).elbo_terms(log_p)
    np.testing.assert_allclose(reconstruction - kl, torch.logsumexp(log_p, dim=1) - math.log(5))
    assert (kl >= 0).all()
    assert (kl <= math.log(5) + 1e-12).all()
    far = torch.full((1, 5), -1e30)
    assert all(torch.isfinite(term).all() for term in Exemplars(torch.zeros(5, 2), torch.zeros(5, 3)).elbo_terms(far))


def clusters(n: int, k: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 12 * np.array([[i % 3, i // 3] for i in range(k)])[rng.integers(0, k, n)]


def test_held_out_rows_choose_the_number_of_components() -> None:
    n = 5 * ROWS_A_COMPONENT * 4
    spread = np.full((n, 2), 0.1)
    one = fit_mixture(clusters(n, 1, 0), clusters(300, 1, 1), spread, seed=0)
    several = fit_mixture(clusters(n, 5, 0), clusters(300, 5, 1), spread, seed=0)
    assert len(one.means) == COMPONENTS[0]
    assert len(several.means) == COMPONENTS[1]
    np.testing.assert_allclose(several.sigma, [0.1, 0.1])
    few = fit_mixture(clusters(100, 5, 0), clusters(300, 5, 1), spread[:100], seed=0)
    assert len(few.means) == 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_or_equal_latent_means_make_a_prior(n: int) -> None:
    prior = fit_mixture(np.zeros((n, LATENT)), np.zeros((1, LATENT)), np.ones((n, LATENT)), seed=0)
    assert torch.isfinite(prior.kl(prior.posterior(posterior()))).all()


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("normal", {"latents": (4, 2)}),
        ("exemplars", {}),
        ("exemplars", {"latents": (4, 2)}),
        ("exemplars", {"latents": (4, 2), "decoded": (3, 5)}),
        ("exemplars", {"latents": (4, 3), "decoded": (4, 5)}),
        ("exemplars", {"log_weights": (4,), "means": (4, 2), "whitening": (4, 2, 2), "sigma": (2,)}),
        ("mixture", {"log_weights": (4,), "means": (4, 2), "whitening": (4, 2, 3), "sigma": (2,)}),
        ("mixture", {"log_weights": (5,), "means": (4, 2), "whitening": (4, 2, 2), "sigma": (2,)}),
        ("mixture", {"log_weights": (), "means": (), "whitening": (), "sigma": ()}),
        ("other", {}),
    ],
)
def test_buffers_that_fit_no_prior_are_refused(kind: str, shapes: dict[str, tuple[int, ...]]) -> None:
    buffers: dict[str, Tensor] = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match="has no buffers of shapes"):
        prior_of(kind, buffers, latent_dim=2, n_features=5)
