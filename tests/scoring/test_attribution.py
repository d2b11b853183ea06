"""Evidence adds up to the terms it explains, row by row."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from random_models import likelihood_of
from vae_anomaly import VAEDetector
from vae_anomaly.fitting.mixture import fit_mixture
from vae_anomaly.model.elbo import elbo_terms
from vae_anomaly.model.priors.exemplars import Exemplars
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.model.vae import VAE, reset_parameters
from vae_anomaly.registry import ARCHITECTURES, LIKELIHOODS
from vae_anomaly.scoring import BLOCK_ROWS
from vae_anomaly.scoring.attribution import explain
from vae_anomaly.scoring.blocks import by_block
from vae_anomaly.scoring.scores import antithetic_noise

SHAPE, D, LATENT = (9, 8, 1), 72, 5
KINDS = [(p, prior) for p in LIKELIHOODS for prior in ("normal", "mixture")]
KINDS += [(p, "exemplars") for p in LIKELIHOODS.where(gaussian=True)]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=", ".join)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Flat images in [0, 1]: a bright bar, noise, and here and there an odd pixel."""
    rng = np.random.default_rng(seed)
    X = 0.3 * rng.random((n, 9, 8))
    X[np.arange(n), :, rng.integers(0, 8, n)] += 0.5
    X[rng.random(X.shape) < 0.01] = 1
    return X.reshape(n, D)


@cache
@torch.no_grad()
def random_vae(kind: tuple[str, str], dtype: torch.dtype) -> tuple[VAE, torch.Tensor]:
    """An untrained network with everything else fitted to rows, and its draws."""
    likelihood, prior = kind
    encoder, decoder = ARCHITECTURES["mlp"](SHAPE, LATENT)
    generator = torch.Generator().manual_seed(0)
    loc, scale = torch.linspace(-0.1, 0.0, D), torch.linspace(1.5, 2.5, D)
    vae = VAE(encoder, decoder, likelihood_of(likelihood, SHAPE), Scaling(loc, scale)).double()
    reset_parameters(vae, generator)
    noise = antithetic_noise(3, LATENT, generator)
    x = vae.scaling(torch.from_numpy(rows(200)))
    mu, sigma, _ = vae.encode(x)
    if prior == "mixture":
        mu = mu + torch.arange(200.0)[:, None] % 3  # clusters
        vae.prior = fit_mixture(mu.repeat(3, 1).numpy(), mu[:50].numpy(), sigma.repeat(3, 1).numpy(), seed=0)
        assert len(vae.prior.means) > 1
    elif prior == "exemplars":
        z = torch.randn(57, LATENT, generator=generator, dtype=torch.float64)
        vae.prior = Exemplars(z, vae.decode(2 * z))
    vae.likelihood.fit_after_training(x, vae.decode(mu), mu)
    return vae.to(dtype), noise.to(dtype)


class Parts(NamedTuple):
    """The arrays of an explanation, as `explain` gives them."""

    reconstruction: np.ndarray
    kl: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    excess: np.ndarray


def explained(kind: tuple[str, str], dtype: torch.dtype, X: np.ndarray) -> Parts:
    vae, noise = random_vae(kind, dtype)
    return Parts(*by_block(vae, X, lambda x: explain(vae, x, noise)))


@every_kind
@both_precisions
def test_shares_add_up_to_the_terms(kind: tuple[str, str], dtype: torch.dtype) -> None:
    vae, noise = random_vae(kind, dtype)
    X = rows(60, seed=1)
    parts = explained(kind, dtype, X)
    n_latents = 57 if kind[1] == "exemplars" else LATENT
    assert [part.shape for part in parts] == [(60, D), (60, n_latents), (60, D), (60, D), (60, D)]
    assert {part.dtype for part in parts} == {np.dtype("f8")}
    for shares, term in zip(parts[:2], by_block(vae, X, lambda x: elbo_terms(vae, x, noise)), strict=True):
        rounding = (1e-12 if dtype == torch.float64 else 1e-6) * (np.abs(shares).sum(axis=1) + 10)
        assert (np.abs(shares.sum(axis=1) - term) <= rounding).all()


@every_kind
@both_precisions
def test_rows_depend_on_no_neighbour(kind: tuple[str, str], dtype: torch.dtype) -> None:
    X = rows(BLOCK_ROWS + 37, seed=2)
    together = explained(kind, dtype, X)
    order = np.random.default_rng(0).permutation(len(X))
    for chosen in (order, order[:1], np.array([len(X) - 1])):
        for part, whole in zip(explained(kind, dtype, X[chosen]), together, strict=True):
            np.testing.assert_array_equal(part, whole[chosen])


@every_kind
@torch.no_grad()
def test_expected_and_spread_are_moments_over_draws_or_exemplars(kind: tuple[str, str]) -> None:
    (vae, noise), X = random_vae(kind, torch.float64), rows(3, seed=3)
    x = vae.scaling(torch.from_numpy(X))
    if isinstance(vae.prior, Exemplars):
        decoded = vae.prior.decoded[:, None].expand(-1, 3, -1)
        weights = torch.softmax(torch.stack([vae.likelihood.log_prob(x, d) for d in decoded]), dim=0)
        assert weights.max(dim=0).values.min() < 0.9
    else:
        posterior = vae.prior.posterior(vae.encode(x))
        decoded = torch.stack([vae.decode(vae.rsample(posterior, eps)) for eps in noise])
        weights = torch.full((len(noise), 3), 1 / len(noise), dtype=torch.float64)
    first = second = 0.0
    for weight, d in zip(weights[..., None], decoded, strict=True):
        mean = vae.likelihood.mean(d)
        first = first + weight * mean
        second = second + weight * (mean.square() + vae.likelihood.variance_of_features(x, d))
    parts = explained(kind, torch.float64, X)
    np.testing.assert_allclose(parts.expected, vae.scaling.inverse(first), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(parts.spread, (second - first.square()).sqrt() * vae.scaling.scale, rtol=1e-6)


@every_kind
@both_precisions
def test_extreme_rows_stay_finite(kind: tuple[str, str], dtype: torch.dtype) -> None:
    X = np.stack([np.zeros(D), np.ones(D), np.eye(9, 8).ravel()])
    if "support" not in LIKELIHOODS.entry(kind[0]).facts:
        X = np.concatenate([X, np.full((1, D), 1e30), -1e30 * X[-1:]])
    assert all(np.isfinite(part).all() for part in explained(kind, dtype, X))


def test_detectors_explain_the_elbo_whatever_their_score(
    table_detector: VAEDetector, image_detector: VAEDetector, make_table: Callable, make_images: Callable
) -> None:
    kl = VAEDetector(epochs=1, score_name="kl").fit(make_table())
    for detector, X in ((table_detector, make_table(9)), (kl, make_table(9)), (image_detector, make_images(9))):
        parts, terms = detector.explain(X), detector.elbo_terms(X)
        np.testing.assert_allclose(parts.reconstruction.sum(axis=1), terms.reconstruction, rtol=1e-5)
        np.testing.assert_allclose(parts.kl.sum(axis=1), terms.kl, rtol=1e-5, atol=1e-5)  # a difference of larger terms
        assert parts.expected.shape == parts.spread.shape == (9, detector.n_features_in_)
    with pytest.raises(NotFittedError):
        VAEDetector().explain(np.zeros((2, 3)))


def test_units_are_those_of_the_data() -> None:
    X = np.random.default_rng(0).normal(size=(500, 4)) * [1, 10, 100, 0] + [0, -1000, 1e6, 7]
    parts = VAEDetector(epochs=5).fit(X).explain(X[:50])
    np.testing.assert_allclose(parts.expected.mean(axis=0), [0, -1000, 1e6, 7], atol=60)
    ratio = parts.spread.mean(axis=0)[:3] / [1, 10, 100]
    assert (ratio > 0.2).all()
    assert (ratio < 1.5).all()
    assert (np.abs(X[:50] - parts.expected) < 2 * parts.spread).mean() > 0.85


def test_the_feature_at_fault_costs_most() -> None:
    X = np.random.default_rng(0).normal(size=(300, 2)) @ np.ones((2, 6)) / 2
    odd = X[:5].copy()
    odd[np.arange(5), np.arange(5)] += 9
    parts = VAEDetector(epochs=5).fit(X).explain(odd)
    for evidence in (-parts.reconstruction, parts.excess, np.abs(odd - parts.expected) / parts.spread):
        assert evidence.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def test_an_explanation_speaks_of_names_levels_and_dates() -> None:
    rng = np.random.default_rng(0)
    n = 80
    kind = rng.choice(["hat", "shoe"], n)
    frame = pd.DataFrame(
        {
            "kind": kind,
            "size": np.where(kind == "hat", 5.0, 40.0) + rng.normal(0, 0.5, n),
            "sold": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
        },
        index=[f"sku {i}" for i in range(n)],
    )
    detector = VAEDetector(epochs=60).fit(frame)
    odd = frame.iloc[:3].copy()
    odd.loc["sku 1", "size"] = 400.0
    odd.loc["sku 2", "kind"] = "glove"
    odd.loc["sku 0", "size"] = np.nan
    explanation = detector.explain(odd)
    assert repr(explanation) == "<Explanation of 3 samples by 3 features: in_words(), top(), to_frame()>"
    whole = explanation.to_frame()
    assert list(whole.columns) == ["sample", "feature", "observed", "expected", "spread", "excess", "reconstruction"]
    assert whole["feature"].tolist() == ["kind", "size", "sold"] * 3
    assert whole["sample"].unique().tolist() == ["sku 0", "sku 1", "sku 2"]
    first = whole.set_index(["sample", "feature"]).loc["sku 1"]
    assert first.loc["kind", "observed"] == frame["kind"].iloc[1]
    assert first.loc["sold", "observed"] == frame["sold"].iloc[1]
    assert isinstance(first.loc["sold", "spread"], pd.Timedelta)
    np.testing.assert_array_equal(whole["excess"], explanation.excess.ravel())
    top = explanation.top(1)
    assert top.loc[top["sample"] == "sku 1", "feature"].tolist() == ["size"]
    np.testing.assert_array_equal(top["excess"], explanation.excess.max(axis=1))
    words = explanation.in_words()
    assert "missing" not in words[0]  # a gap costs nothing
    assert words[1].startswith("size 400.0, expected ") or words[1].startswith("size 400.00, expected ")
    assert explanation.feature_in_words(2, 0).observed == "glove"


def test_scores_of_a_frame_have_its_index_if_asked_for() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    frame.index = pd.Index([f"row {i}" for i in range(40)], name="who")
    detector = VAEDetector(epochs=1).fit(frame)
    arrays = {
        name: getattr(detector, name)(frame) for name in ("score_samples", "decision_function", "predict", "p_values")
    }
    assert {type(values) for values in arrays.values()} == {np.ndarray}
    detector.set_output(transform="pandas")
    for name, values in arrays.items():
        series = getattr(detector, name)(frame)
        assert isinstance(series, pd.Series)
        pd.testing.assert_index_equal(series.index, frame.index)
        np.testing.assert_array_equal(series, values)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            assert isinstance(getattr(detector, name)(frame.to_numpy()), np.ndarray)


def test_a_pipeline_explains_by_its_own_names() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["a", "b", "c"])
    pipeline = make_pipeline(StandardScaler(), VAEDetector(epochs=1)).set_output(transform="pandas").fit(frame)
    frame.iloc[7, 1] = 90.0
    explanation = pipeline[-1].explain(pipeline[:-1].transform(frame.iloc[5:9]))
    assert explanation.names == ("a", "b", "c")
    top = explanation.top(1)
    assert top.loc[top["sample"] == 7, "feature"].tolist() == ["b"]
