"""Laws of every score: a row's score is a function of that row alone, to the bit, and normals score higher."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import TABLE_SCORES, python
from random_models import fixed_noise, random_vae
from vae_anomaly import VAEDetector
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.fitting.image_statistics import fit_image_statistics
from vae_anomaly.fitting.normal_statistics import fit_normal_statistics
from vae_anomaly.model.elbo import elbo_terms
from vae_anomaly.model.priors.standard_normal import StandardNormal
from vae_anomaly.model.vae import VAE
from vae_anomaly.registry import LIKELIHOODS, SCORES, Registry, first_paragraph
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.scoring.blocks import by_block, rows_of_block
from vae_anomaly.scoring.scores import antithetic_noise, components
from vae_anomaly.scoring.together import together
from vae_anomaly.storage.rows import RowsInMemory

SLOW_SCORES = SCORES.where(slow=True)
DTYPES = [torch.float32, torch.float64]


@cache
def vae_with_statistics(
    architecture: str,
    likelihood: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    latent_dim: int = 3,
    prior: str = "normal",
) -> VAE:
    vae = random_vae(shape, latent_dim, dtype, architecture=architecture, likelihood=likelihood, prior=prior)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, math.prod(shape), generator=generator).to(dtype)
    noise = fixed_noise(3, latent_dim, dtype)
    vae.normals = fit_normal_statistics(vae, x[10:], x[:10], noise, generator)
    fit_image_statistics(vae, RowsInMemory(x[:10].numpy()), noise, (*shape, 1, 1)[:3])
    return vae


def score_rows(name: str, vae: VAE, X: np.ndarray, noise: Tensor) -> np.ndarray:
    return by_block(vae, X, lambda x: (SCORES[name](vae, x, noise),))[0]


@given(
    case=st.sampled_from(
        [("mlp", (5,)), ("mlp", (17,)), ("mlp", (28, 28, 1)), ("conv", (9, 11, 1)), ("article", (13,))]
    ),
    likelihood=st.sampled_from(sorted(LIKELIHOODS.keys() - {"patches_gaussian"})),  # whose decoder gives patches
    prior=st.sampled_from(["normal", "mixture", "exemplars"]),
    latent_dim=st.integers(1, 7),
    score=st.sampled_from(sorted(SCORES.keys() - SLOW_SCORES)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_scores_do_not_depend_on_neighbours_position_or_number(
    case: tuple[str, tuple[int, ...]],
    likelihood: str,
    prior: str,
    latent_dim: int,
    score: str,
    dtype: torch.dtype,
    seed: int,
) -> None:
    assume(prior != "exemplars" or LIKELIHOODS.entry(likelihood).facts.get("gaussian"))
    architecture, shape = case
    vae = vae_with_statistics(architecture, likelihood, shape, dtype, latent_dim, prior)
    check_rows_are_independent(score, vae, latent_dim, seed)


@pytest.mark.parametrize(
    ("architecture", "likelihood", "shape", "prior"),
    [
        ("mlp", "gaussian", (6,), "exemplars"),
        ("mlp", "bernoulli", (28, 28, 1), "normal"),
        ("mlp", "correlated_gaussian", (28, 28, 1), "mixture"),
        ("article", "squared_error", (13,), "mixture"),
        ("conv", "correlated_gaussian", (9, 11, 1), "exemplars"),
    ],
)
def test_scores_have_the_same_bits_alone_and_together(
    architecture: str, likelihood: str, shape: tuple[int, ...], prior: str
) -> None:
    vae, noise = vae_with_statistics(architecture, likelihood, shape, torch.float32, 4, prior), fixed_noise(3, 4)
    X, noise = np.random.default_rng(0).random((19, math.prod(shape)), dtype=np.float32), noise.float()
    names = sorted(SCORES, reverse=True)
    functions = together(*(SCORES[name] for name in names), elbo_terms)
    results = by_block(vae, X, lambda x: functions(vae, x, noise), 16)
    alone = [by_block(vae, X, lambda x: (SCORES[name](vae, x, noise),), 16)[0] for name in names]  # noqa: B023 - at once
    alone += by_block(vae, X, lambda x: elbo_terms(vae, x, noise), 16)
    for name, result, expected in zip([*names, "reconstruction", "kl"], results, alone, strict=True):
        np.testing.assert_array_equal(result, expected, err_msg=name)


def test_scores_of_rows_encode_and_decode_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, counts = vae_with_statistics("mlp", "gaussian", (6,), torch.float64, 4, "normal"), {"encode": 0, "decode": 0}
    for name, network in (("encode", vae.encoder), ("decode", vae.decoder)):
        compute = network.forward

        def counted(x: Tensor, name: str = name, compute: Callable[[Tensor], Any] = compute) -> Any:
            counts[name] += 1
            return compute(x)

        monkeypatch.setattr(network, "forward", counted)
    functions, noise = together(*(SCORES[name] for name in sorted(SCORES.keys() - SLOW_SCORES))), fixed_noise(3, 4)
    by_block(vae, np.zeros((5, 6)), lambda x: functions(vae, x, noise))
    assert counts == {"encode": 1, "decode": 4}  # three draws and the mean


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("architecture", "shape", "latent_dim"),
    [("mlp", (5,), 5), ("mlp", (6,), 10), ("mlp", (17,), 3), ("conv", (9, 11, 1), 5), ("article", (13,), 10)],
)
@pytest.mark.parametrize("score", sorted(SLOW_SCORES))
def test_slow_scores_do_not_either(
    score: str, architecture: str, shape: tuple[int, ...], latent_dim: int, dtype: torch.dtype
) -> None:
    vae = vae_with_statistics(architecture, "gaussian", shape, dtype, latent_dim)
    check_rows_are_independent(score, vae, latent_dim, 0)


@pytest.mark.parametrize(("side", "block"), [(64, 32), (96, 16)])
def test_rows_of_small_blocks_are_independent_too(side: int, block: int) -> None:
    vae = random_vae((side, side, 3), dtype=torch.float32, likelihood="correlated_gaussian")
    X = np.random.default_rng(0).random((2 * block + 1, side * side * 3), dtype=np.float32)
    assert rows_of_block(vae, X.shape[1], 2) == block
    noise = fixed_noise(2, 3, torch.float32)
    together = score_rows("elbo", vae, X, noise)
    for first in (1, block - 1, 2 * block):
        np.testing.assert_array_equal(score_rows("elbo", vae, X[first:], noise), together[first:])


def check_rows_are_independent(score: str, vae: VAE, latent_dim: int, seed: int) -> None:
    dtype, n_features = vae.normals.residual_variance.dtype, len(vae.normals.residual_variance)
    rng = np.random.default_rng(seed)
    n = BLOCK_ROWS - 37 if score in SLOW_SCORES else 2 * BLOCK_ROWS + 37
    X = rng.random((n, n_features)).astype("f8" if dtype == torch.float64 else "f4")
    noise = fixed_noise(3, latent_dim, dtype)
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
    vae = vae_with_statistics(architecture, likelihood, (6,), dtype, prior=prior)
    X = np.array([[0] * 6, [1e30] * 6, [-1e30] * 6, [1e30, -1e30, 0, 1, 1e-30, 1e9]])
    if vae.likelihood.support:
        X = np.clip(X, *vae.likelihood.support)
    X = X.astype("f8" if dtype == torch.float64 else "f4")
    assert np.isfinite(score_rows(score, vae, X, fixed_noise(3, 3, dtype))).all()


@pytest.mark.parametrize("score", TABLE_SCORES)
def test_precision_follows_the_input(score: str, table_detector: VAEDetector, make_table: Callable) -> None:
    model, X = table_detector.model_.using(score), make_table(40, seed=3)
    double, single = model.score_samples(X), model.score_samples(X.astype(np.float32))
    assert double.dtype == single.dtype == np.float64
    assert not np.array_equal(double, single)
    spread = np.ptp(double)
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3 * spread)
    exact = copy.deepcopy(model.vae).double()
    expected = score_rows(score, exact, X, model.noise)
    np.testing.assert_array_equal(double, expected)
    back = X.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(model.score_samples(back), single, rtol=1e-3, atol=1e-3 * spread)


@pytest.fixture(scope="module")
def trained(make_table: Callable[..., np.ndarray], table_detector: VAEDetector) -> tuple[VAE, np.ndarray]:
    """A trained VAE with its statistics, and rows it was trained on; table() makes the same rows each time."""
    vae, X = copy.deepcopy(table_detector.vae_), make_table()
    x = vae.scaling(torch.from_numpy(X))
    vae.normals = fit_normal_statistics(vae, x[50:], x[:50], table_detector.noise_, torch.Generator().manual_seed(0))
    fit_image_statistics(vae, RowsInMemory(X[:50]), table_detector.noise_, (X.shape[1], 1, 1))
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


@pytest.mark.parametrize("score", sorted(SCORES))
def test_scoring_changes_no_weight(score: str, trained: tuple[VAE, np.ndarray], table_detector: VAEDetector) -> None:
    vae, X = trained
    vae.zero_grad()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    score_rows(score, vae, X[:9], table_detector.noise_)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vae.parameters())


@pytest.mark.parametrize("score", sorted(SCORES))
def test_a_score_needs_statistics_exactly_if_its_entry_says_so(score: str) -> None:
    vae, x, noise = random_vae((4,)), torch.zeros(2, 4, dtype=torch.float64), fixed_noise(2, 3)
    facts = SCORES.entry(score).facts
    if facts.get("needs_statistics") or facts.get("needs_images"):
        with pytest.raises(ValueError, match="statistics of the"):
            SCORES[score](vae, x, noise)
    else:
        assert torch.isfinite(SCORES[score](vae, x, noise)).all()


@pytest.mark.parametrize("score", sorted(SCORES))
def test_what_is_read_without_importing_is_what_was_registered(score: str) -> None:
    read = Registry("SCORES", "vae_anomaly.scoring", "score").entry(score)
    function = SCORES[score]
    assert read.help
    assert read.help == first_paragraph(function.__doc__)
    assert read.module == function.__module__
    assert read == SCORES.entry(score)
    assert {type(value) for value in read.facts.values()} <= {bool}


@pytest.fixture
def added_score() -> Iterator[str]:
    """A score that a user's own program adds: one function."""

    @SCORES.register("largest_value")
    def largest_value(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
        """The negative of the largest feature."""
        return -x.amax(dim=-1)

    yield "largest_value"
    del SCORES._added["largest_value"], SCORES._objects["largest_value"]


def test_a_score_is_added_by_one_function(added_score: str, tmp_path: Path, make_table: Callable) -> None:
    X = make_table(100)
    detector = VAEDetector(epochs=1, score_name=added_score, preprocessing="none").fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), -X.max(axis=1))
    assert detector.predict(np.full((1, X.shape[1]), 1e3)) == -1
    detector.save(tmp_path / "model.vae")
    loaded = FittedModel.load(tmp_path / "model.vae")
    assert loaded.score == added_score
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(loaded.calibration_scores, detector.calibration_scores_)
    with pytest.raises(ValueError, match=r"score_name must be one of .*'largest_value'"):
        VAEDetector(score_name="smallest_value").fit(X)
    assert detector.set_params(score_name="elbo").predict(X).shape == (100,)


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


@pytest.mark.parametrize("threads", [1, 2])
def test_scores_are_the_same_in_another_process(tmp_path: Path, table_detector: VAEDetector, threads: int) -> None:
    X = np.random.default_rng(0).normal(size=(BLOCK_ROWS + 9, 6))
    np.save(tmp_path / "X.npy", X)
    table_detector.save(tmp_path / "model.vae")
    script = (
        "import sys, hashlib, numpy as np, torch; from vae_anomaly.fitted_model import FittedModel\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "model, X = FittedModel.load(sys.argv[1] + '/model.vae'), np.load(sys.argv[1] + '/X.npy')\n"
        "for name in sys.argv[3:]: print(name, hashlib.sha256(model.score_samples(X, name).tobytes()).hexdigest())"
    )
    printed = python(script, tmp_path, threads, *TABLE_SCORES)
    model = table_detector.model_
    expected = [f"{name} {hashlib.sha256(model.score_samples(X, name).tobytes()).hexdigest()}" for name in TABLE_SCORES]
    assert printed.splitlines() == expected


def test_noise_comes_in_opposite_pairs() -> None:
    noise = antithetic_noise(4, 5, torch.Generator().manual_seed(0))
    assert noise.shape == (4, 1, 5)
    assert torch.equal(noise[:2], -noise[2:])
    assert antithetic_noise(3, 5, torch.Generator()).shape == (3, 1, 5)


def test_elbo_is_the_difference_of_its_terms() -> None:
    vae, noise = random_vae((6,)), fixed_noise(2, 3)
    x = torch.rand(9, 6, dtype=torch.float64)
    reconstruction, negative_kl = SCORES["reconstruction"](vae, x, noise), SCORES["kl"](vae, x, noise)
    torch.testing.assert_close(SCORES["elbo"](vae, x, noise), reconstruction + negative_kl)


@pytest.mark.parametrize("prior", ["normal", "mixture", "exemplars"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_log_density_bounds_a_density_whatever_the_likelihood(likelihood: str, prior: str) -> None:
    if prior == "exemplars" and not LIKELIHOODS.entry(likelihood).facts.get("gaussian"):
        pytest.skip("exemplars need a Gaussian likelihood")
    vae = random_vae((2,), 2, likelihood=likelihood, prior=prior)
    low, high = vae.likelihood.support or (-12.0, 12.0)
    axis, step = torch.linspace(low, high, 61, dtype=torch.float64), (high - low) / 60
    x = torch.cartesian_prod(axis, axis)
    with torch.inference_mode():
        scores = {name: SCORES[name](vae, x, fixed_noise(6, 2)).double() for name in ("elbo", "log_density")}
    assert 0.01 < float(scores["log_density"].exp().sum()) * step**2 < 1.05  # ends count whole
    one_patch = likelihood == "patches_gaussian"  # which two pixels are, and of one patch it is a density
    assert torch.equal(scores["elbo"], scores["log_density"]) == (vae.likelihood.normalised or one_patch)


def test_the_importance_weighted_bound_is_at_least_the_elbo_on_average_over_draws() -> None:
    vae, x = random_vae((6,)), torch.rand(40, 6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    noises = [antithetic_noise(2, 3, generator) for _ in range(400)]
    gains = torch.stack([SCORES["importance_weighted"](vae, x, e) - SCORES["elbo"](vae, x, e) for e in noises])
    assert (gains.mean(dim=0) > -3 * gains.std(dim=0) / 20).all()
    assert gains.mean() > 0
    assert 0 < (gains < 0).double().mean() < 0.5  # not for every row and every two draws
