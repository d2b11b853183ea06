"""The continuous Bernoulli is a density whose series agree with its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli

from vae_anomaly.model.likelihoods.continuous_bernoulli import ContinuousBernoulli

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
