"""The plain likelihoods against PyTorch's distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from vae_anomaly.model.likelihoods.bernoulli import Bernoulli
from vae_anomaly.model.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.likelihoods.squared_error import SquaredError


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
