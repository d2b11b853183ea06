"""Evaluation, against scikit-learn and an independent O(n^2) DeLong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import evaluate, roc_auc


def slow_delong(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """AUC and its variance from all pairs, as in the paper."""
    x, y = scores[labels == 1], scores[labels == 0]
    psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    return psi.mean(), psi.mean(1).var(ddof=1) / len(x) + psi.mean(0).var(ddof=1) / len(y)


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60))
def test_roc_auc_is_scikit_learns_with_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=float)
    labels = np.array([int(label) for _, label in pairs])
    if len(set(labels)) < 2:
        with pytest.raises(DataError, match="both kinds of label"):
            roc_auc(scores, labels)
        return
    result = roc_auc(scores, labels)
    assert result.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert 0 <= result.low <= result.value <= result.high <= 1
    assert (result.n_normal, result.n_anomalous) == ((labels == 0).sum(), (labels == 1).sum())


def test_interval_is_delongs_on_the_logit_scale() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 50])
    scores = np.round(rng.normal(size=130) + labels, 1)
    auc, variance = slow_delong(scores, labels)
    result = roc_auc(scores, labels)
    half = 1.959963984540054 * np.sqrt(variance) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    np.testing.assert_allclose([result.low, result.high], 1 / (1 + np.exp([half - logit, -half - logit])), rtol=1e-12)


@pytest.mark.parametrize(("n", "shift"), [(30, 1.0), (100, 2.0)])
def test_interval_covers_the_truth(n: int, shift: float) -> None:
    from scipy.stats import norm

    truth = norm.cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], n)
    covered = 0
    for _ in range(2000):
        result = roc_auc(rng.normal(size=2 * n) + shift * labels, labels)
        covered += result.low <= truth <= result.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_perfect_separation_is_one() -> None:
    result = roc_auc(np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1]))
    assert (result.low, result.value, result.high) == (1, 1, 1)


def test_evaluate_judges_classes_and_threshold() -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0, 1.5, 9.0])
    labels = np.array([0, 0, 0, 1, 1, 1])
    classes = np.array(["n", "n", "m", "a", "b", "b"])
    result = evaluate(scores, labels, threshold=1.5, classes=classes)
    assert result.false_alarm_rate == pytest.approx(1 / 3)
    assert result.detection_rate == pytest.approx(2 / 3)  # a score at the threshold is not flagged
    assert set(result.per_class) == {"a", "b"}
    assert result.per_class["a"].value == 1
    assert result.per_class["b"].value == pytest.approx(5 / 6)
    assert json.loads(json.dumps(result.to_dict()))["roc_auc"]["value"] == result.roc_auc.value


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [0], "one length"),
        ([1.0, np.nan], [0, 1], "1 of 2 scores are NaN"),
        ([1.0, 2.0], [1, -1], "labels must be 1"),
        ([1.0, 2.0], [1, 1], "0 normal and 2 anomalous"),
    ],
)
def test_unusable_input_is_refused(scores: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        roc_auc(np.array(scores), np.array(labels))
