"""A row's score is a function of that row alone, to the bit."""

from __future__ import annotations

import copy
import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vae_anomaly import VAEDetector
from vae_anomaly.errors import DeviceMemoryError
from vae_anomaly.model.likelihoods.correlated_gaussian import CorrelatedGaussian
from vae_anomaly.model.likelihoods.gaussian import Gaussian
from vae_anomaly.model.networks.base import Linear, Posterior
from vae_anomaly.model.priors.exemplars import Exemplars
from vae_anomaly.model.priors.mixture import Mixture
from vae_anomaly.model.priors.standard_normal import StandardNormal
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS, SCORES
from vae_anomaly.scoring.normal_statistics import components, fit_normals
from vae_anomaly.scoring.scores import BLOCK_ROWS, antithetic_noise, by_block

SLOW_SCORES = SCORES.where(slow=True)

DTYPES = [torch.float32, torch.float64]


@cache
def random_vae(
    architecture: str,
    likelihood: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    latent_dim: int = 3,
    prior: str = "normal",
) -> VAE:
    encoder, decoder = ARCHITECTURES[architecture](shape, latent_dim)
    scaling = Scaling(torch.tensor(0.0), torch.tensor(1.0))
    images = likelihood == "correlated_gaussian"
    p_x_given_z = CorrelatedGaussian((*shape, 1, 1)[:3]) if images else LIKELIHOODS[likelihood]()
    vae = VAE(encoder, decoder, p_x_given_z, scaling)
    generator = torch.Generator().manual_seed(0)
    reset_parameters(vae, generator)
    if prior == "mixture":
        k = 20
        vae.prior = Mixture(
            torch.full((k,), -math.log(k)),
            torch.randn(k, latent_dim, generator=generator),
            torch.randn(k, latent_dim, latent_dim, generator=generator).tril(-1) + torch.eye(latent_dim),
            torch.rand(latent_dim, generator=generator) + 0.1,
        )
    elif prior == "exemplars":
        latents = torch.randn(57, latent_dim, generator=generator)
        vae.prior = Exemplars(latents, decoder(latents).detach())
    vae.to(dtype)
    x = torch.rand(60, math.prod(shape), generator=generator).to(dtype)
    vae.normals = fit_normals(vae, x[10:], x[:10], fixed_noise(latent_dim, dtype), generator)
    return vae


def fixed_noise(latent_dim: int, dtype: torch.dtype) -> Tensor:
    return antithetic_noise(3, latent_dim, torch.Generator().manual_seed(1)).to(dtype)


def score_rows(name: str, vae: VAE, X: np.ndarray, noise: Tensor) -> np.ndarray:
    return by_block(vae, X, lambda x: (SCORES[name](vae, x, noise),))[0]


@given(
    case=st.sampled_from(
        [("mlp", (5,)), ("mlp", (17,)), ("mlp", (28, 28, 1)), ("conv", (9, 11, 1)), ("article", (13,))]
    ),
    likelihood=st.sampled_from(sorted(LIKELIHOODS)),
    prior=st.sampled_from(["normal", "mixture", "exemplars"]),
    latent_dim=st.integers(1, 7),
    score=st.sampled_from(sorted(SCORES.keys() - SLOW_SCORES)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_scores_do_not_depend_on_neighbours_position_or_number(
    case: tuple[str, tuple[int, ...]],
    likelihood: str,
    prior: str,
    latent_dim: int,
    score: str,
    dtype: torch.dtype,
    seed: int,
) -> None:
    assume(prior != "exemplars" or "gaussian" in likelihood)
    architecture, shape = case
    vae = random_vae(architecture, likelihood, shape, dtype, latent_dim, prior)
    check_rows_are_independent(score, vae, latent_dim, seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("architecture", "shape", "latent_dim"),
    [("mlp", (5,), 5), ("mlp", (6,), 10), ("mlp", (17,), 3), ("conv", (9, 11, 1), 5), ("article", (13,), 10)],
)
@pytest.mark.parametrize("score", sorted(SLOW_SCORES))
def test_slow_scores_do_not_either(
    score: str, architecture: str, shape: tuple[int, ...], latent_dim: int, dtype: torch.dtype
) -> None:
    check_rows_are_independent(score, random_vae(architecture, "gaussian", shape, dtype, latent_dim), latent_dim, 0)


def check_rows_are_independent(score: str, vae: VAE, latent_dim: int, seed: int) -> None:
    dtype, n_features = vae.normals.residual_variance.dtype, len(vae.normals.residual_variance)
    rng = np.random.default_rng(seed)
    n = BLOCK_ROWS - 37 if score in SLOW_SCORES else 2 * BLOCK_ROWS + 37
    X = rng.random((n, n_features)).astype("f8" if dtype == torch.float64 else "f4")
    noise = fixed_noise(latent_dim, dtype)
    together = score_rows(score, vae, X, noise)
    assert together.shape == (len(X),)
    assert np.isfinite(together).all()
    chosen = rng.permutation(len(X))[: rng.integers(1, len(X))]
    np.testing.assert_array_equal(score_rows(score, vae, X[chosen], noise), together[chosen])
    np.testing.assert_array_equal(score_rows(score, vae, X[-1:], noise), together[-1:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize(
    "case",
    [
        ("mlp", "gaussian", "normal"),
        ("article", "gaussian", "normal"),
        ("mlp", "continuous_bernoulli", "normal"),
        ("mlp", "gaussian", "exemplars"),
        ("mlp", "correlated_gaussian", "mixture"),
    ],
)
def test_scores_of_extreme_rows_are_finite(case: tuple[str, str, str], score: str, dtype: torch.dtype) -> None:
    architecture, likelihood, prior = case
    vae = random_vae(architecture, likelihood, (6,), dtype, prior=prior)
    X = np.array([[0] * 6, [1e30] * 6, [-1e30] * 6, [1e30, -1e30, 0, 1, 1e-30, 1e9]])
    if vae.likelihood.support:
        X = np.clip(X, *vae.likelihood.support)
    X = X.astype("f8" if dtype == torch.float64 else "f4")
    assert np.isfinite(score_rows(score, vae, X, fixed_noise(3, dtype))).all()


@pytest.fixture(scope="module")
def trained(make_table: Callable[..., np.ndarray], table_detector: VAEDetector) -> tuple[VAE, np.ndarray]:
    """A trained VAE with its normals, and rows it was trained on; table() makes the same rows each time."""
    vae, X = copy.deepcopy(table_detector.vae_), make_table()
    x = vae.scaling(torch.from_numpy(X))
    vae.normals = fit_normals(vae, x[50:], x[:50], table_detector.noise_, torch.Generator().manual_seed(0))
    return vae, X


@pytest.mark.parametrize("score", sorted(SCORES))
def test_normals_score_higher_than_far_rows(
    score: str, trained: tuple[VAE, np.ndarray], table_detector: VAEDetector
) -> None:
    vae, X = trained
    if score == "kl":  # with exemplars it is as large where one exemplar stands for a row as where all are far from it
        vae = copy.deepcopy(vae)
        vae.prior = StandardNormal()
    far = 20 * np.random.default_rng(1).normal(size=(100, X.shape[1]))
    normal, anomalous = (score_rows(score, vae, rows, table_detector.noise_) for rows in (X, far))
    assert np.quantile(normal, 0.05) > np.quantile(anomalous, 0.95)
    np.testing.assert_array_equal(normal, score_rows(score, vae, X, table_detector.noise_))


def test_scoring_changes_no_weight(trained: tuple[VAE, np.ndarray], table_detector: VAEDetector) -> None:
    vae, X = trained
    vae.zero_grad()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    for name in SCORES:
        score_rows(name, vae, X[:9], table_detector.noise_)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vae.parameters())


def test_typicality_is_two_sided(trained: tuple[VAE, np.ndarray], table_detector: VAEDetector) -> None:
    vae, X = copy.deepcopy(trained)
    noise = table_detector.noise_
    assert vae.normals is not None
    vae.normals.component_mean[0] -= 2 * vae.normals.component_std[0]  # so that some rows are above what is typical
    elbo, typicality = (score_rows(name, vae, X, noise) for name in ("elbo", "typicality"))
    mean, std = float(vae.normals.component_mean[0]), float(vae.normals.component_std[0])
    np.testing.assert_allclose(typicality, -np.abs(elbo - mean) / std)
    assert typicality.max() <= 0
    too_high = int(np.argmax(elbo))
    assert elbo[too_high] > mean + std
    assert typicality[too_high] < -1


def test_combined_rises_in_each_term_and_no_term_drowns_it(
    trained: tuple[VAE, np.ndarray], table_detector: VAEDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, X = trained
    noise = table_detector.noise_
    terms = components(vae, vae.normals, vae.scaling(torch.from_numpy(X)), noise).detach()
    mean, std = vae.normals.component_mean, vae.normals.component_std
    expected = torch.asinh((terms - mean) / std).mean(dim=1)
    np.testing.assert_allclose(score_rows("combined", vae, X, noise), expected, atol=1e-9)

    def combined(*standardised: float) -> float:
        row = mean + std * torch.tensor([standardised])
        monkeypatch.setattr("vae_anomaly.scoring.scores.components", lambda *arguments: row)
        return SCORES["combined"](vae, torch.zeros(1, 6), noise).item()

    for i in range(3):
        steps = [
            combined(*(value if i == j else 0.0 for j in range(3))) for value in (-1e12, -5.0, -1.0, 0.0, 1.0, 9.0)
        ]
        assert steps == sorted(set(steps))
        assert steps[0] > -10
    assert combined(-1e6, 0, 0) > combined(-1e6, -3, 0) > combined(-1e6, -3, -3)


@pytest.mark.parametrize("score", ["activation_path", "latent_neighbours", "reconstruction_probability", "combined"])
def test_scores_that_need_the_normals_say_so(score: str) -> None:
    encoder, decoder = ARCHITECTURES["mlp"]((4,), 2)
    vae = VAE(encoder, decoder, Gaussian(), Scaling(torch.tensor(0.0), torch.tensor(1.0)))
    with pytest.raises(ValueError, match="statistics of the normals"):
        SCORES[score](vae, torch.zeros(1, 4), torch.zeros(1, 1, 2))


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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_regret_is_zero_where_the_posterior_is_true(dtype: torch.dtype, tolerance: float) -> None:
    vae, x = linear_gaussian(1.0, 1.0, dtype)
    score = SCORES["likelihood_regret"](vae, x, antithetic_noise(2, 2, torch.Generator().manual_seed(1)).to(dtype))
    assert score.max() <= 0
    assert score.min() > -tolerance


@pytest.mark.parametrize(("slope", "spread"), [(0.8, 1.0), (1.0, 1.5), (0.7, 2.0)])
def test_regret_is_the_divergence_from_the_true_posterior(slope: float, spread: float) -> None:
    vae, x = linear_gaussian(slope, spread, torch.float64)
    true, _ = linear_gaussian(1.0, 1.0, torch.float64)
    p, q = true.encode(x), vae.encode(x)
    expected = 0.5 * ((q.sigma**2 + (q.mu - p.mu) ** 2) / p.sigma**2 - 1 + p.log_var - q.log_var).sum(-1)
    regret = -SCORES["likelihood_regret"](vae, x, antithetic_noise(4, 2, torch.Generator().manual_seed(1)))
    assert (regret <= expected + 1e-9).all()
    assert regret.mean() > 0.9 * expected.mean()


@pytest.mark.parametrize("threads", [1, 2])
def test_scores_are_the_same_in_another_process(tmp_path: Path, table_detector: VAEDetector, threads: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 6))
    np.save(tmp_path / "X.npy", X)
    table_detector.save(tmp_path / "model.vae")
    script = (
        "import sys, hashlib, numpy as np, torch; from vae_anomaly import VAEDetector\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "d = VAEDetector.load(sys.argv[1] + '/model.vae'); s = d.score_samples(np.load(sys.argv[1] + '/X.npy'))\n"
        "print(hashlib.sha256(s.tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path), str(threads)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == hashlib.sha256(table_detector.score_samples(X).tobytes()).hexdigest()


def test_noise_comes_in_opposite_pairs() -> None:
    noise = antithetic_noise(4, 5, torch.Generator().manual_seed(0))
    assert noise.shape == (4, 1, 5)
    assert torch.equal(noise[:2], -noise[2:])
    assert antithetic_noise(3, 5, torch.Generator()).shape == (3, 1, 5)


def test_elbo_is_the_difference_of_its_terms() -> None:
    vae = random_vae("mlp", "gaussian", (6,), torch.float64)
    x = torch.rand(9, 6, dtype=torch.float64)
    noise = antithetic_noise(2, 3, torch.Generator().manual_seed(1))
    reconstruction, negative_kl = SCORES["reconstruction"](vae, x, noise), SCORES["kl"](vae, x, noise)
    torch.testing.assert_close(SCORES["elbo"](vae, x, noise), reconstruction + negative_kl)
    assert (SCORES["importance_weighted"](vae, x, noise) >= SCORES["elbo"](vae, x, noise) - 1e-12).all()


@pytest.mark.parametrize("room", [512, 511, 300, 64, 1])
def test_out_of_memory_halves_the_block_until_it_fits(room: int) -> None:
    vae = random_vae("mlp", "gaussian", (6,), torch.float64)
    X = np.random.default_rng(0).normal(size=(1100, 6))
    sizes: list[int] = []

    def encode(x: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        if len(x) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return vae.encode(x).mu, vae.encode(x).sigma

    mu, sigma = by_block(vae, X, encode)
    expected = by_block(vae, X, lambda x: tuple(vae.encode(x)[:2]))
    np.testing.assert_allclose(mu, expected[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sigma, expected[1], rtol=1e-12)
    fits = max(size for size in (BLOCK_ROWS >> k for k in range(10)) if size <= room)
    assert [size for size in sizes if size > room] == [BLOCK_ROWS >> k for k in range(10) if BLOCK_ROWS >> k > room]
    assert sizes.count(fits) == len(sizes) - (BLOCK_ROWS // fits).bit_length() + 1 == math.ceil(len(X) / fits)


def test_out_of_memory_midway_keeps_what_is_done() -> None:
    vae = random_vae("mlp", "gaussian", (6,), torch.float64)
    X = np.random.default_rng(0).normal(size=(1100, 6))
    sizes: list[int] = []

    def encode(x: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        if len(sizes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (vae.encode(x).mu,)

    (mu,) = by_block(vae, X, encode)
    assert sizes == [512, 512, 256, 256, 256]
    np.testing.assert_allclose(mu, by_block(vae, X, lambda x: (vae.encode(x).mu,))[0], rtol=1e-12, atol=1e-14)


def test_no_memory_for_one_row_is_a_clear_error() -> None:
    def full(x: Tensor) -> tuple[Tensor, ...]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    vae = random_vae("mlp", "gaussian", (6,), torch.float64)
    with pytest.raises(DeviceMemoryError, match="cpu has too little free memory for even one row of 6 features: free"):
        by_block(vae, np.zeros((3, 6)), full)
