"""Likelihood regret: the divergence from the true posterior where that is known, and never negative."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from random_models import fixed_noise, random_vae
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.networks.base import Linear, Posterior
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE
from vae_anomaly.scoring.regret import LEARNING_RATE, STEPS, Adam, elbo_before_and_after


class LinearGaussian(nn.Module):
    """q(z|x) = N(slope * M x, spread * S): the true posterior of x = W z + noise where both are 1."""

    def __init__(self, W: Tensor, variance: float, slope: float, spread: float) -> None:
        super().__init__()
        precision = 1 + W.square().sum(dim=0) / variance  # W has orthogonal columns
        self.matrix = slope * (W / variance / precision).T
        self.log_var = -torch.log(precision) + math.log(spread)

    def forward(self, x: Tensor) -> Posterior:
        log_var = self.log_var.expand(len(x), -1)
        return Posterior(x @ self.matrix.T, torch.exp(0.5 * log_var), log_var)


def linear_gaussian(slope: float, spread: float, dtype: torch.dtype) -> tuple[VAE, Tensor]:
    generator = torch.Generator().manual_seed(0)
    W = torch.linalg.qr(torch.randn(6, 2, generator=generator, dtype=torch.float64))[0] * torch.tensor([1.5, 0.7])
    likelihood = Gaussian()
    likelihood.variance.fill_(0.3)
    decoder = Linear(2, 6, bias=True)
    decoder.weight.data, decoder.bias.data = W, torch.zeros(6)
    vae = VAE(LinearGaussian(W, 0.3, slope, spread), decoder, likelihood, Scaling(torch.tensor(0.0), torch.tensor(1.0)))
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64) @ W.T
    x += math.sqrt(0.3) * torch.randn(40, 6, generator=generator, dtype=torch.float64)
    vae.encoder.matrix, vae.encoder.log_var = vae.encoder.matrix.to(dtype), vae.encoder.log_var.to(dtype)
    return vae.to(dtype), x.to(dtype)


def regret(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
    before, after = elbo_before_and_after(vae, x, noise)
    return after - before


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_nothing_is_gained_where_the_posterior_is_true(dtype: torch.dtype, tolerance: float) -> None:
    vae, x = linear_gaussian(1.0, 1.0, dtype)
    gained = regret(vae, x, fixed_noise(2, 2, dtype))
    assert gained.dtype == torch.float64
    assert gained.min() >= 0
    assert gained.max() < tolerance


@pytest.mark.parametrize(("slope", "spread"), [(0.8, 1.0), (1.0, 1.5), (0.7, 2.0)])
def test_the_gain_is_the_divergence_from_the_true_posterior(slope: float, spread: float) -> None:
    vae, x = linear_gaussian(slope, spread, torch.float64)
    true, _ = linear_gaussian(1.0, 1.0, torch.float64)
    p, q = true.encode(x), vae.encode(x)
    expected = 0.5 * ((q.sigma**2 + (q.mu - p.mu) ** 2) / p.sigma**2 - 1 + p.log_var - q.log_var).sum(-1)
    gained = regret(vae, x, fixed_noise(4, 2))
    assert (gained <= expected + 1e-9).all()
    assert gained.mean() > 0.9 * expected.mean()


def test_no_row_loses_and_no_weight_changes() -> None:
    vae, x = random_vae((5,)), 10 * torch.randn(50, 5, dtype=torch.float64)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    with torch.inference_mode():
        assert (regret(vae, x, fixed_noise(2, 3)) >= 0).all()
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vae.parameters())


def test_its_steps_are_those_of_pytorch() -> None:
    start = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone(), start.clone().requires_grad_()
    optimizer, oracle = Adam(ours), torch.optim.Adam([theirs], maximize=True)
    for step in range(STEPS):
        gradient = torch.sin(3 * ours)
        ours = ours + optimizer.change(gradient)
        oracle.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
        theirs.grad = torch.sin(3 * theirs.detach())
        oracle.step()
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ours, start)
