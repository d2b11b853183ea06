"""A VAE with linear maps, whose best spread, variance and means are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.networks.base import Posterior
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE


class Projection(torch.nn.Module):
    """Encodes rows by an orthonormal basis ``(D, L)``, with a small spread; its transpose decodes."""

    n_places = 1

    def __init__(self, basis: torch.Tensor) -> None:
        super().__init__()
        self.basis = basis

    def forward(self, x: torch.Tensor) -> Posterior:
        mu = x @ self.basis
        return Posterior(mu, torch.full_like(mu, 0.01), torch.full_like(mu, 2 * np.log(0.01)))


class Injection(Projection):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z @ self.basis.T


def make_linear_vae(basis: torch.Tensor) -> VAE:
    scaling = Scaling(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))
    return VAE(Projection(basis), Injection(basis), Gaussian().double(), scaling)


@pytest.fixture(scope="session")
def linear_vae() -> Callable[[torch.Tensor], VAE]:
    return make_linear_vae


def make_rows_near_a_plane(n: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 2, generator=generator, dtype=torch.float64)).Q
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 0.5])
    return z @ basis.T + noise * torch.randn(n, 8, generator=generator, dtype=torch.float64), basis


@pytest.fixture(scope="session")
def rows_near_a_plane() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    return make_rows_near_a_plane
