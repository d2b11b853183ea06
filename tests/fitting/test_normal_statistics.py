"""What is fitted for the scores after training: against independent oracles, and never undefined however few rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import TABLE_SCORES
from random_models import fixed_noise, random_vae
from vae_anomaly.fitting.image_statistics import fit_image_statistics
from vae_anomaly.fitting.normal_statistics import MAX_ROWS, fit_normal_statistics
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS, SCORES
from vae_anomaly.scoring.activations import path_difference
from vae_anomaly.scoring.normal_statistics import BANK_ROWS, NormalStatistics
from vae_anomaly.scoring.scores import components
from vae_anomaly.storage.rows import RowsInMemory

DTYPES = [torch.float32, torch.float64]


def rows(n: int, n_features: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(n, n_features)) @ rng.normal(size=(n_features, n_features)), dtype=dtype)


def fitted(vae: VAE, x: Tensor, held_out: Tensor, noise: Tensor) -> NormalStatistics:
    return fit_normal_statistics(vae, x, held_out, noise, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_residual_variance_is_the_squared_error_with_ten_rows_of_the_average_added(dtype: torch.dtype) -> None:
    vae, noise, held_out = random_vae((7,), 3, dtype), fixed_noise(4, 3, dtype), rows(60, 7, dtype, 1)
    with torch.no_grad():
        posterior = vae.encode(held_out)
        means = torch.stack([vae.generate(vae.rsample(posterior, eps)) for eps in noise])
    squared = (held_out - means).double().square().mean(dim=(0, 1)).numpy()
    expected = (60 * squared + 10 * squared.mean()) / 70
    statistics = fitted(vae, rows(400, 7, dtype), held_out, noise)
    np.testing.assert_allclose(statistics.residual_variance, expected, rtol=1e-5)


def test_whitening_makes_training_rows_white() -> None:
    dtype = torch.float64
    vae, x = random_vae((7,)), rows(3000, 7, dtype)
    statistics = fitted(vae, x, x[:50], fixed_noise(4, 3))
    with torch.no_grad():
        latent = statistics.whitened(vae.encode(x).mu)
        path = (path_difference(vae, x) - statistics.path_mean) @ statistics.path_whitening.T
    torch.testing.assert_close(latent.T.cov(), torch.eye(3, dtype=dtype), atol=0.1, rtol=0)  # shrunk a little
    torch.testing.assert_close(path.T.cov(correction=0), torch.eye(path.shape[1], dtype=dtype), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_components_of_held_out_normals_are_standardised(dtype: torch.dtype) -> None:
    vae, noise, held_out = random_vae((7,), 3, dtype), fixed_noise(4, 3, dtype), rows(60, 7, dtype, 1)
    statistics = fitted(vae, rows(400, 7, dtype), held_out, noise)
    with torch.no_grad():
        values = components(vae, statistics, held_out, noise)
    standardised = ((values - statistics.component_mean) / statistics.component_std).numpy()
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(standardised.std(axis=0, ddof=1), 1, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("data", [lambda x: x, torch.zeros_like, lambda x: 1e6 * x.sign(), lambda x: 1e-20 * x])
@pytest.mark.parametrize(("n_features", "latent_dim"), [(1, 1), (1, 5), (6, 16)])
def test_few_or_constant_or_huge_rows_leave_everything_finite(
    dtype: torch.dtype, n: int, data: Callable[[Tensor], Tensor], n_features: int, latent_dim: int
) -> None:
    vae, noise = random_vae((n_features,), latent_dim, dtype), fixed_noise(4, latent_dim, dtype)
    vae.normals = fitted(vae, data(rows(n, n_features, dtype)), data(rows(1, n_features, dtype)), noise)
    for name, buffer in vae.normals.named_buffers():
        assert buffer.dtype == dtype
        assert torch.isfinite(buffer).all(), name
        assert buffer.numel() > 0
    assert (vae.normals.residual_variance > 0).all()
    assert (vae.normals.component_std > 0).all()
    new = torch.cat([data(rows(2, n_features, dtype)), torch.full((1, n_features), 1e6, dtype=dtype)])
    for name in TABLE_SCORES:
        assert torch.isfinite(SCORES[name](vae, new, noise)).all(), name


@pytest.mark.parametrize(
    ("architecture", "shape", "likelihood"),
    [(architecture, (8, 9, 1), likelihood) for architecture in ARCHITECTURES for likelihood in LIKELIHOODS]
    + [
        (architecture, shape, likelihood)
        for architecture in ("conv", "patches")
        for shape in ((28, 28, 1), (32, 32, 3))
        for likelihood in LIKELIHOODS
        if (architecture == "patches") == (likelihood == "patches_gaussian")  # whose decoder gives several patches
    ],
)
def test_every_architecture_and_likelihood_can_be_fitted(
    architecture: str, shape: tuple[int, ...], likelihood: str
) -> None:
    vae = random_vae(shape, 4, torch.float32, architecture=architecture, likelihood=likelihood)
    x = torch.rand(12, math.prod(shape), generator=torch.Generator().manual_seed(2))
    noise = fixed_noise(4, 4, torch.float32).repeat(1, 1, vae.encoder.n_places)
    vae.normals = fitted(vae, x, x[:3], noise)
    fit_image_statistics(vae, RowsInMemory(x[:3].numpy()), noise, shape)
    for name in sorted(SCORES):
        score = SCORES[name](vae, x, noise)
        assert score.shape == (12,)
        assert torch.isfinite(score).all(), name


def test_large_training_sets_are_sampled() -> None:
    vae, noise = random_vae((2,), 1, torch.float32), fixed_noise(4, 1, torch.float32)
    x = torch.zeros(MAX_ROWS + 5000, 2)
    x[MAX_ROWS:] = 1.0
    statistics = fitted(vae, x, x[:5], noise)
    assert statistics.bank.shape == (BANK_ROWS, 1)
    assert statistics.bank.unique().numel() == 2
    assert 0.3 < float((statistics.bank == statistics.bank.max()).float().mean()) < 0.7  # one row in three is a one


def test_fitting_is_reproducible_and_reads_no_global_random_state(
    global_random_state: Callable[[], tuple[Any, ...]],
) -> None:
    vae, x, noise = random_vae((4,), 2, torch.float32), rows(50, 4, torch.float32), fixed_noise(4, 2, torch.float32)
    before = global_random_state()
    a, b = (fitted(vae, x, x[:9], noise) for _ in range(2))
    assert global_random_state() == before
    for name, buffer in a.named_buffers():
        assert torch.equal(buffer, b.get_buffer(name))
    assert not any(parameter.grad is not None for parameter in vae.parameters())
