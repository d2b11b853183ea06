"""A likelihood is a density whose mean is what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal

from vae_anomaly.likelihoods import LIKELIHOODS, Bernoulli, ContinuousBernoulli, Gaussian, SquaredError

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
    likelihood.observe(x, decoded, 1.0)
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
    likelihood.observe(x, x, 1.0)
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
    likelihood = LIKELIHOODS[name]()
    x, decoded = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0))
    together = likelihood.log_prob(x, decoded)
    assert together.shape == (6,)
    alone = torch.cat([likelihood.log_prob(x[i : i + 1], decoded[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert likelihood.mean(decoded).shape == x.shape
