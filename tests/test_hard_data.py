"""Data at the edge of what numbers can hold: every score is finite, or one sentence says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vae_anomaly import VAEDetector
from vae_anomaly.errors import DataError

TABLE = np.random.default_rng(0).normal(size=(40, 3)) @ np.random.default_rng(1).normal(size=(3, 6)) / 10
IMAGES = np.random.default_rng(0).uniform(size=(24, 8, 8))

HARD: dict[str, Callable[[], np.ndarray]] = {
    "constant": lambda: np.full((40, 6), 3.7),
    "zeros": lambda: np.zeros((40, 6)),
    "one row repeated": lambda: np.repeat(TABLE[:1], 40, axis=0),
    "a large constant": lambda: np.full((40, 6), 1e30),
    "three rows": lambda: TABLE[:3],
    "three equal rows": lambda: np.ones((3, 6)),
    "scale 1e-30": lambda: 1e-30 * TABLE,
    "scale 1e-44": lambda: 1e-44 * TABLE,
    "scale 1e30": lambda: 1e30 * TABLE,
    "scale 1e38": lambda: 1e38 * TABLE,
    "scales from 1e-30 to 1e30": lambda: TABLE * np.array([1e-30, 1e30, 1, 1e15, 1e-15, 1]),
    "far from zero": lambda: 1e6 + TABLE,
    "very far from zero": lambda: 1e30 + 1e20 * TABLE,
    "one feature": lambda: TABLE[:, :1],
    "duplicated columns": lambda: np.repeat(TABLE, 3, axis=1),
    "one extreme row": lambda: np.concatenate([TABLE, np.full((1, 6), 1e30)]),
    "black images": lambda: np.zeros((24, 8, 8)),
    "one image repeated": lambda: np.repeat(IMAGES[:1], 24, axis=0),
    "images of scale 1e30": lambda: 1e30 * IMAGES,
    "images of scale 1e-30": lambda: 1e-30 * IMAGES,
    "images of one pixel": lambda: IMAGES[:, :1, :1],
}


def check_all_scores(X: np.ndarray, **parameters: Any) -> None:
    """Fit, and score what was seen and what is far from it by all scores."""
    detector = VAEDetector(epochs=1, **parameters).fit(X)
    seen_and_far = np.concatenate([X, 0 * X[:1], -X[:1], X[-1:] + np.asarray(1, X.dtype)])
    for name in detector.model_.scores:
        detector.set_params(score_name=name)
        assert np.isfinite(detector.score_samples(seen_and_far)).all(), name
        assert np.isfinite(detector.offset_), name


@pytest.mark.parametrize("kind", HARD)
def test_every_score_is_finite(kind: str) -> None:
    check_all_scores(HARD[kind]())


@pytest.mark.parametrize("kind", ["zeros", "scale 1e-44", "scale 1e38", "scales from 1e-30 to 1e30", "one extreme row"])
def test_every_score_is_finite_in_single_precision(kind: str) -> None:
    check_all_scores(HARD[kind]().astype(np.float32))


@pytest.mark.parametrize("kind", ["constant", "scale 1e30"])
@pytest.mark.parametrize(
    "parameters", [{"preprocessing": "none"}, {"preprocessing": "unit_range"}, {"prior": "mixture"}]
)
def test_every_score_is_finite_whatever_the_scaling_and_prior(kind: str, parameters: dict[str, str]) -> None:
    check_all_scores(HARD[kind](), **parameters)


@pytest.mark.parametrize("architecture", ["conv", "article"])
def test_every_score_is_finite_whatever_the_network(architecture: str) -> None:
    check_all_scores(HARD["black images"](), architecture=architecture)


@pytest.mark.parametrize("X", [1e308 * np.sign(TABLE), 1e300 * (IMAGES - 0.5)], ids=["table", "images"])
def test_values_whose_spread_overflows_are_refused(X: np.ndarray) -> None:
    with pytest.raises(DataError, match="too large to take their mean and spread: divide the data by a constant"):
        VAEDetector().fit(X)


def test_two_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 sample\(s\), and a minimum of 3 is required"):
        VAEDetector().fit(TABLE[:2])


@pytest.mark.slow
def test_a_hundred_thousand_features_and_few_rows() -> None:
    X = np.random.default_rng(0).normal(size=(8, 100_000)).astype(np.float32)
    detector = VAEDetector(epochs=1).fit(X)
    for name, scores in detector.held_out_scores_.items():
        assert np.isfinite(scores).all(), name
        assert np.isfinite(detector.set_params(score_name=name).offset_), name
