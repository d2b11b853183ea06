"""What scores learn about the normals: against independent oracles, and never undefined however few the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from scipy.stats import norm
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from vae_anomaly.model.likelihoods.squared_error import SquaredError
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS, SCORES
from vae_anomaly.scoring.normal_statistics import (
    BANK_ROWS,
    MAX_ROWS,
    PATH_COLUMNS,
    Normals,
    components,
    fit_normals,
    hidden_activations,
    path_difference,
)
from vae_anomaly.scoring.scores import antithetic_noise

DTYPES = {torch.float32: 1e-4, torch.float64: 1e-9}


def random_vae(
    shape: tuple[int, ...],
    latent_dim: int,
    dtype: torch.dtype,
    architecture: str = "mlp",
    likelihood: str = "gaussian",
) -> VAE:
    encoder, decoder = ARCHITECTURES[architecture](shape, latent_dim)
    p = SquaredError() if architecture == "article" else LIKELIHOODS[likelihood]()
    vae = VAE(encoder, decoder, p, Scaling(torch.tensor(0.0), torch.tensor(1.0)))
    reset_parameters(vae, torch.Generator().manual_seed(0))
    return vae.to(dtype)


def rows(n: int, n_features: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(n, n_features)) @ rng.normal(size=(n_features, n_features)), dtype=dtype)


def noise(latent_dim: int, dtype: torch.dtype) -> Tensor:
    return antithetic_noise(4, latent_dim, torch.Generator().manual_seed(1)).to(dtype)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2)


class Case:
    """A random VAE with 7 features and 3 latents, the rows its normals were fitted on, and others."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.tolerance = {"rtol": DTYPES[dtype], "atol": DTYPES[dtype]}
        self.vae = random_vae((7,), 3, dtype)
        self.x, self.held_out, self.new = (rows(n, 7, dtype, seed) for seed, n in enumerate((400, 60, 20)))
        self.noise = noise(3, dtype)
        self.normals = fit_normals(self.vae, self.x, self.held_out, self.noise, generator())
        self.vae.normals = self.normals

    @torch.no_grad()
    def score(self, name: str) -> np.ndarray:
        return SCORES[name](self.vae, self.new, self.noise).numpy()

    @torch.no_grad()
    def mu(self, x: Tensor) -> np.ndarray:
        return self.vae.encode(x).mu.double().numpy()

    @torch.no_grad()
    def path(self, x: Tensor) -> np.ndarray:
        """Differences of hidden activations, by hooks."""
        seen: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.double()))
            for layer in self.vae.encoder.modules()
            if isinstance(layer, nn.ReLU)
        ]
        reconstructed = self.vae.reconstruct(x)
        seen.clear()
        for part in (x, reconstructed):
            self.vae.encode(part)
        for hook in hooks:
            hook.remove()
        half = len(seen) // 2
        return (torch.cat(seen[:half], dim=1) - torch.cat(seen[half:], dim=1)).numpy()


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def case(request: Any) -> Case:
    return Case(request.param)


def test_latent_distance_is_mahalanobis(case: Case) -> None:
    fitted = LedoitWolf().fit(case.mu(case.x))
    expected = [mahalanobis(mu, fitted.location_, np.linalg.inv(fitted.covariance_)) for mu in case.mu(case.new)]
    np.testing.assert_allclose(case.score("latent_distance"), -np.array(expected), **case.tolerance)


def test_latent_neighbours_are_the_nearest_after_whitening(case: Case) -> None:
    whitened = [case.normals.whitened(torch.tensor(case.mu(x))).numpy() for x in (case.x, case.new)]
    distances, _ = NearestNeighbors(n_neighbors=5).fit(whitened[0]).kneighbors(whitened[1])
    np.testing.assert_allclose(case.score("latent_neighbours"), -distances.mean(axis=1), **case.tolerance)


def test_activation_path_is_that_of_rapp(case: Case) -> None:
    training, new = case.path(case.x), case.path(case.new)
    np.testing.assert_allclose(case.score("activation_path_sum"), -(new**2).sum(axis=1), **case.tolerance)
    mean = training.mean(axis=0)
    _, S, Vt = np.linalg.svd(training - mean, full_matrices=False)
    kept = S / S[0] > 1e-3
    expected = math.sqrt(len(training)) * np.linalg.norm((new - mean) @ Vt[kept].T / S[kept], axis=1)
    np.testing.assert_allclose(case.score("activation_path"), -expected, rtol=20 * case.tolerance["rtol"])


def test_reconstruction_probability_is_the_mean_density_over_draws(case: Case) -> None:
    variance = case.normals.residual_variance.double().numpy()
    with torch.no_grad():
        posterior = case.vae.encode(case.new)
        means = [case.vae.generate(case.vae.rsample(posterior, eps)).double().numpy() for eps in case.noise]
    densities = [np.exp(norm(mean, np.sqrt(variance)).logpdf(case.new.numpy()).sum(axis=1)) for mean in means]
    expected = np.log(np.mean(densities, axis=0))
    np.testing.assert_allclose(case.score("reconstruction_probability"), expected, rtol=case.tolerance["rtol"])


def test_residual_variance_is_the_squared_error_with_ten_rows_of_the_average_added(case: Case) -> None:
    with torch.no_grad():
        posterior = case.vae.encode(case.held_out)
        means = torch.stack([case.vae.generate(case.vae.rsample(posterior, eps)) for eps in case.noise])
    squared = (case.held_out - means).double().square().mean(dim=(0, 1)).numpy()
    expected = (60 * squared + 10 * squared.mean()) / 70
    np.testing.assert_allclose(case.normals.residual_variance, expected, rtol=1e-5)


def test_whitening_makes_training_rows_white() -> None:
    dtype = torch.float64
    vae, x = random_vae((7,), 3, dtype), rows(3000, 7, dtype)
    normals = fit_normals(vae, x, x[:50], noise(3, dtype), generator())
    with torch.no_grad():
        latent = normals.whitened(vae.encode(x).mu)
        path = (path_difference(vae, x) - normals.path_mean) @ normals.path_whitening.T
    torch.testing.assert_close(latent.T.cov(), torch.eye(3, dtype=dtype), atol=0.1, rtol=0)  # shrunk a little
    torch.testing.assert_close(path.T.cov(correction=0), torch.eye(path.shape[1], dtype=dtype), atol=1e-4, rtol=0)


def test_components_of_held_out_normals_are_standardised(case: Case) -> None:
    with torch.no_grad():
        held_out = components(case.vae, case.normals, case.held_out, case.noise)
    standardised = ((held_out - case.normals.component_mean) / case.normals.component_std).numpy()
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(standardised.std(axis=0, ddof=1), 1, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("data", [lambda x: x, torch.zeros_like, lambda x: 1e6 * x.sign(), lambda x: 1e-20 * x])
@pytest.mark.parametrize(("n_features", "latent_dim"), [(1, 1), (1, 5), (6, 16)])
def test_few_or_constant_or_huge_rows_leave_everything_finite(
    dtype: torch.dtype, n: int, data: Callable[[Tensor], Tensor], n_features: int, latent_dim: int
) -> None:
    vae, eps = random_vae((n_features,), latent_dim, dtype), noise(latent_dim, dtype)
    vae.normals = fit_normals(vae, data(rows(n, n_features, dtype)), data(rows(1, n_features, dtype)), eps, generator())
    for name, buffer in vae.normals.named_buffers():
        assert buffer.dtype == dtype
        assert torch.isfinite(buffer).all(), name
        assert buffer.numel() > 0
    assert (vae.normals.residual_variance > 0).all()
    assert (vae.normals.component_std > 0).all()
    new = torch.cat([data(rows(2, n_features, dtype)), torch.full((1, n_features), 1e6, dtype=dtype)])
    for name, score in SCORES.items():
        assert torch.isfinite(score(vae, new, eps)).all(), name


@pytest.mark.parametrize(
    ("architecture", "likelihood", "shape"),
    [("mlp", "bernoulli", (6,)), ("mlp", "continuous_bernoulli", (6,)), ("article", "gaussian", (6,))]
    + [("conv", "gaussian", shape) for shape in ((8, 9, 1), (28, 28, 1), (32, 32, 3))],
)
def test_every_architecture_and_likelihood_can_be_fitted(
    architecture: str, likelihood: str, shape: tuple[int, ...]
) -> None:
    dtype, n_features = torch.float32, math.prod(shape)
    vae = random_vae(shape, 4, dtype, architecture, likelihood)
    x = torch.rand(12, n_features, generator=generator())
    vae.normals = fit_normals(vae, x, x[:3], noise(4, dtype), generator())
    for name in sorted(SCORES):
        score = SCORES[name](vae, x, noise(4, dtype))
        assert score.shape == (12,)
        assert torch.isfinite(score).all(), name


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (64, 48, 3)])
def test_activations_of_convolutions_are_averaged_to_a_bounded_width(shape: tuple[int, int, int]) -> None:
    vae = random_vae(shape, 4, torch.float64, "conv")
    x = torch.rand(2, math.prod(shape), generator=generator(), dtype=torch.float64)
    with torch.no_grad():
        activations = hidden_activations(vae.encoder, x)
        maps = vae.encoder.convolutions[:2](x.reshape(-1, *shape).permute(0, 3, 1, 2))
    assert activations.shape[1] <= PATH_COLUMNS
    if shape[0] == 64:  # 32 maps of 32 x 24 on 4 x 4 cells
        expected = maps.reshape(2, 32, 4, 8, 4, 6).mean(dim=(3, 5)).flatten(1)
        torch.testing.assert_close(activations[:, : 32 * 16], expected)


def test_large_training_sets_are_sampled() -> None:
    dtype = torch.float32
    vae, eps = random_vae((2,), 1, dtype), noise(1, dtype)
    x = torch.zeros(MAX_ROWS + 5000, 2)
    x[MAX_ROWS:] = 1.0
    normals = fit_normals(vae, x, x[:5], eps, generator())
    assert normals.bank.shape == (BANK_ROWS, 1)
    assert normals.bank.unique().numel() == 2
    assert 0.3 < float((normals.bank == normals.bank.max()).float().mean()) < 0.7  # one row in three is a one


def test_fitting_is_reproducible_and_reads_no_global_random_state(
    global_random_state: Callable[[], tuple[Any, ...]],
) -> None:
    dtype = torch.float32
    vae, x = random_vae((4,), 2, dtype), rows(50, 4, dtype)
    before = global_random_state()
    a, b = (fit_normals(vae, x, x[:9], noise(2, dtype), generator()) for _ in range(2))
    assert global_random_state() == before
    for name, buffer in a.named_buffers():
        assert torch.equal(buffer, b.get_buffer(name))
    assert not any(parameter.grad is not None for parameter in vae.parameters())


def test_a_state_dict_restores_them(case: Case) -> None:
    state = case.normals.state_dict()
    with torch.device("meta"):
        restored = Normals(**{name: torch.empty(buffer.shape) for name, buffer in state.items()})
    restored.load_state_dict(state, assign=True)
    mu = case.vae.encode(case.new).mu
    assert torch.equal(restored.neighbour_distance(mu), case.normals.neighbour_distance(mu))
    assert torch.equal(restored.latent_distance(mu), case.normals.latent_distance(mu))
    assert not any(restored.parameters())
