"""Scores that rest on statistics of normals, against independent oracles; and what a file may say of these."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from scipy.stats import norm
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from random_models import fixed_noise, random_vae
from vae_anomaly.fitting.normal_statistics import fit_normal_statistics
from vae_anomaly.registry import ARCHITECTURES, SCORES
from vae_anomaly.scoring.activations import hidden_activations, n_path_columns, path_difference
from vae_anomaly.scoring.normal_statistics import BANK_ROWS, checked_statistics

BUFFERS = (
    "bank",
    "component_mean",
    "component_std",
    "latent_mean",
    "latent_whitening",
    "path_mean",
    "path_whitening",
    "residual_variance",
)
SIZES = 3, 7, 256 + 128  # latents, features, hidden units
DTYPES = {torch.float32: 1e-4, torch.float64: 1e-9}


def rows(n: int, seed: int, dtype: torch.dtype) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(n, 7)) @ rng.normal(size=(7, 7)), dtype=dtype)


class Case:
    """A random VAE with 7 features and 3 latents, the rows its statistics were fitted on, and others."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.tolerance = {"rtol": DTYPES[dtype], "atol": DTYPES[dtype]}
        self.vae = random_vae((7,), 3, dtype)
        self.x, self.held_out, self.new = (rows(n, seed, dtype) for seed, n in enumerate((400, 60, 20)))
        self.noise = fixed_noise(4, 3, dtype)
        generator = torch.Generator().manual_seed(2)
        self.statistics = fit_normal_statistics(self.vae, self.x, self.held_out, self.noise, generator)
        self.vae.normals = self.statistics

    @torch.no_grad()
    def score(self, name: str) -> np.ndarray:
        return SCORES[name](self.vae, self.new, self.noise).numpy()

    @torch.no_grad()
    def mu(self, x: Tensor) -> np.ndarray:
        return self.vae.encode(x).mu.double().numpy()


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def case(request: Any) -> Case:
    return Case(request.param)


def test_latent_distance_is_mahalanobis(case: Case) -> None:
    fitted = LedoitWolf().fit(case.mu(case.x))
    expected = [mahalanobis(mu, fitted.location_, np.linalg.inv(fitted.covariance_)) for mu in case.mu(case.new)]
    np.testing.assert_allclose(case.score("latent_distance"), -np.array(expected), **case.tolerance)


def test_latent_neighbours_are_the_nearest_after_whitening(case: Case) -> None:
    whitened = [case.statistics.whitened(torch.tensor(case.mu(x))).numpy() for x in (case.x, case.new)]
    distances, _ = NearestNeighbors(n_neighbors=5).fit(whitened[0]).kneighbors(whitened[1])
    np.testing.assert_allclose(case.score("latent_neighbours"), -distances.mean(axis=1), **case.tolerance)


@torch.no_grad()
def test_activation_path_is_that_of_rapp(case: Case) -> None:
    training, new = (path_difference(case.vae, x).double().numpy() for x in (case.x, case.new))
    np.testing.assert_allclose(case.score("activation_path_sum"), -(new**2).sum(axis=1), **case.tolerance)
    mean = training.mean(axis=0)
    _, S, Vt = np.linalg.svd(training - mean, full_matrices=False)
    kept = S / S[0] > 1e-3
    expected = math.sqrt(len(training)) * np.linalg.norm((new - mean) @ Vt[kept].T / S[kept], axis=1)
    np.testing.assert_allclose(case.score("activation_path"), -expected, rtol=20 * case.tolerance["rtol"])


def test_reconstruction_probability_is_the_mean_density_over_draws(case: Case) -> None:
    variance = case.statistics.residual_variance.double().numpy()
    with torch.no_grad():
        posterior = case.vae.encode(case.new)
        means = [case.vae.generate(case.vae.rsample(posterior, eps)).double().numpy() for eps in case.noise]
    densities = [np.exp(norm(mean, np.sqrt(variance)).logpdf(case.new.numpy()).sum(axis=1)) for mean in means]
    expected = np.log(np.mean(densities, axis=0))
    np.testing.assert_allclose(case.score("reconstruction_probability"), expected, rtol=case.tolerance["rtol"])


def test_a_state_dict_restores_them(case: Case) -> None:
    state = case.statistics.state_dict()
    with torch.device("meta"):
        restored = checked_statistics({name: torch.empty(buffer.shape) for name, buffer in state.items()}, *SIZES)
    restored.load_state_dict(state, assign=True)
    mu = case.vae.encode(case.new).mu
    assert torch.equal(restored.neighbour_distance(mu), case.statistics.neighbour_distance(mu))
    assert torch.equal(restored.latent_distance(mu), case.statistics.latent_distance(mu))
    assert not any(restored.parameters())


def test_their_names_in_model_files_stay(case: Case) -> None:
    found = {name for name in case.vae.state_dict() if name.startswith("normals.")}
    assert found == {f"normals.{name}" for name in BUFFERS}


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_of_another_shape_is_refused(case: Case, name: str) -> None:
    buffers = dict(case.statistics.state_dict())
    buffers[name] = buffers[name][..., :-1]
    with pytest.raises(ValueError, match="statistics of normals has no buffers of shapes"):
        checked_statistics(buffers, *SIZES)


@pytest.mark.parametrize(("name", "limit"), [("bank", BANK_ROWS), ("path_whitening", SIZES[2])])
def test_no_buffer_is_longer_than_a_fit_makes_it(case: Case, name: str, limit: int) -> None:
    buffers = dict(case.statistics.state_dict())
    for n in (1, limit):
        checked_statistics(buffers | {name: buffers[name][:1].expand(n, -1)}, *SIZES)
    with pytest.raises(ValueError, match=f"at most {limit:,} for its size ., got {limit + 1:,}"):
        checked_statistics(buffers | {name: buffers[name][:1].expand(limit + 1, -1)}, *SIZES)


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 11, 3), (300, 9, 1), (28, 28, 1)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_columns_of_activations_are_known_without_computing_them(architecture: str, shape: tuple[int, ...]) -> None:
    encoder, _ = ARCHITECTURES[architecture](shape, 3)
    x = torch.zeros(2, math.prod(shape))
    assert n_path_columns(encoder, x.shape[1]) == hidden_activations(encoder, x).shape[1]


def test_an_unknown_or_a_missing_buffer_is_refused(case: Case) -> None:
    buffers = dict(case.statistics.state_dict())
    with pytest.raises(ValueError, match="has no buffers of shapes"):
        checked_statistics(buffers | {"other": torch.zeros(1)}, *SIZES)
    del buffers["bank"]
    with pytest.raises(ValueError, match="has no buffers of shapes"):
        checked_statistics(buffers, *SIZES)
