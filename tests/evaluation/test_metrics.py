"""Evaluation, against scikit-learn and an independent O(n^2) DeLong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.metrics import compare, evaluate, roc_auc


def pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def slow_delong(labels: np.ndarray, *scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas and their covariance from all pairs, as in the paper."""
    psi = [pairs(s[labels == 1], s[labels == 0]) for s in scores]
    m, n = psi[0].shape
    v10, v01 = np.array([p.mean(1) for p in psi]), np.array([p.mean(0) for p in psi])
    return np.array([p.mean() for p in psi]), np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n


def mixed(n: int = 300, shift: float = 1.0, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    return np.round(rng.normal(size=n) + shift * labels, decimals), labels


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60))
@settings(deadline=None)
def test_areas_are_scikit_learns_with_ties(drawn: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in drawn], dtype=float)
    labels = np.array([int(label) for _, label in drawn])
    if len(set(labels)) < 2:
        with pytest.raises(DataError, match="both kinds of label"):
            evaluate(scores, labels)
        return
    result = evaluate(scores, labels)
    assert result.roc_auc.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert 0 <= result.roc_auc.low <= result.roc_auc.value <= result.roc_auc.high <= 1
    assert (result.roc_auc.n_normal, result.roc_auc.n_anomalous) == ((labels == 0).sum(), (labels == 1).sum())
    assert result.average_precision.value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert result.partial_auc == pytest.approx(roc_auc_score(labels, scores, max_fpr=0.1), abs=1e-12)
    assert result.average_precision_chance == labels.mean()


def test_curves_are_scikit_learns() -> None:
    scores, labels = mixed()
    result = evaluate(scores, labels)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(result.roc.x, fpr)
    np.testing.assert_allclose(result.roc.y, tpr)
    np.testing.assert_allclose(result.roc.thresholds[1:], thresholds[1:])
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(result.precision_recall.x[::-1], recall[:-1])
    np.testing.assert_allclose(result.precision_recall.y[::-1], precision[:-1])
    np.testing.assert_allclose(result.precision_recall.thresholds[::-1], thresholds)
    assert result.fpr_at_95_tpr == min(f for f, t in zip(fpr, tpr, strict=True) if t >= 0.95)
    assert result.tpr_at_1_fpr == max(t for f, t in zip(fpr, tpr, strict=True) if f <= 0.01)


def test_delong_is_the_slow_one_on_the_logit_scale() -> None:
    scores, labels = mixed(130)
    (auc,), variance = slow_delong(labels, scores)
    result = roc_auc(scores, labels)
    half = norm.ppf(0.975) * np.sqrt(variance[0, 0]) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    np.testing.assert_allclose([result.low, result.high], 1 / (1 + np.exp([half - logit, -half - logit])), rtol=1e-10)


@pytest.mark.parametrize(("n", "auc"), [(50, 0.75), (50, 0.9), (200, 0.6), (200, 0.95), (1000, 0.9), (1000, 0.98)])
def test_delong_interval_covers_the_truth(n: int, auc: float) -> None:
    shift = np.sqrt(2) * norm.ppf(auc)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], n // 2)
    covered = 0
    for _ in range(1500):
        result = roc_auc(rng.normal(size=n) + shift * labels, labels)
        covered += result.low <= auc <= result.high
    assert covered / 1500 == pytest.approx(0.95, abs=0.015)


def test_bootstrap_agrees_with_delong() -> None:
    scores, labels = mixed(2000, decimals=6)
    result = evaluate(scores, labels)
    assert result.roc_auc_bootstrap.low == pytest.approx(result.roc_auc.low, abs=0.005)
    assert result.roc_auc_bootstrap.high == pytest.approx(result.roc_auc.high, abs=0.005)
    assert result.average_precision.low < result.average_precision.value < result.average_precision.high


def test_perfect_and_constant_scores_have_stated_values() -> None:
    perfect = evaluate(np.arange(20.0), np.repeat([0, 1], 10))
    assert perfect.roc_auc.value == perfect.roc_auc.high == perfect.tpr_at_1_fpr == perfect.partial_auc == 1
    assert 0.7 < perfect.roc_auc.low < 1
    assert perfect.fpr_at_95_tpr == 0
    backwards = roc_auc(-np.arange(20.0), np.repeat([0, 1], 10))
    assert backwards.value == backwards.low == 0 < backwards.high < 0.3
    constant = evaluate(np.ones(20), np.repeat([0, 1], 10))
    assert constant.roc_auc.value == 0.5
    assert constant.roc_auc.low < 0.5 < constant.roc_auc.high
    assert constant.average_precision.value == 0.5
    assert roc_auc(np.array([1.0, 2.0]), np.array([0, 1])).low < 0.5


def test_decisions_groups_and_p_values() -> None:
    scores, labels = mixed()
    groups = np.where(labels == 1, np.array(["a", "b", "c"])[np.arange(len(labels)) % 3], "normal")
    held_out = np.random.default_rng(9).normal(size=500)
    result = evaluate(scores, labels, groups, threshold=0.5, calibration_scores=held_out)
    d = result.decisions
    assert [[d.true_negatives, d.false_positives], [d.false_negatives, d.true_positives]] == confusion_matrix(
        labels, scores > 0.5
    ).tolist()
    assert d.precision == d.true_positives / (d.true_positives + d.false_positives)
    assert d.false_alarm_rate.value == (scores[labels == 0] > 0.5).mean()
    assert d.false_alarm_rate.low < d.false_alarm_rate.value < d.false_alarm_rate.high
    assert list(result.per_group) == ["a", "b", "c"]
    chosen = (labels == 0) | (groups == "b")
    assert result.per_group["b"].value == pytest.approx(roc_auc_score(labels[chosen], scores[chosen]))
    assert result.p_value_check.p_value > 0.01
    skewed = evaluate(scores, labels, calibration_scores=held_out - 0.7)
    assert skewed.p_value_check.p_value < 1e-6
    assert evaluate(scores, labels, threshold=99.0).decisions.precision is None


def test_results_turn_into_json_and_frames() -> None:
    scores, labels = mixed()
    result = evaluate(scores, labels, np.where(labels == 1, "odd", "even"), threshold=0.0)
    assert json.loads(result.to_json())["roc_auc"]["value"] == result.roc_auc.value
    assert "roc" not in result.to_dict()
    assert json.loads(result.to_json(curves=True))["roc"]["x"] == result.roc.x.tolist()
    frame = result.to_frame()
    assert frame["group"].tolist() == ["all", "odd"]
    assert frame["value"].tolist() == [result.roc_auc.value] * 2


def test_compare_is_the_slow_paired_delong() -> None:
    rng = np.random.default_rng(0)
    scores, labels = mixed(250)
    other = np.round(scores + rng.normal(size=250), 1)
    areas, covariance = slow_delong(labels, scores, other)
    result = compare(scores, other, labels)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert result.difference.value == pytest.approx(areas[0] - areas[1])
    assert result.difference.high - result.difference.low == pytest.approx(2 * norm.ppf(0.975) * error)
    assert result.p_value == pytest.approx(2 * norm.sf(abs(areas[0] - areas[1]) / error))
    assert result.difference_bootstrap.low == pytest.approx(result.difference.low, abs=0.02)
    assert result.difference_bootstrap.high == pytest.approx(result.difference.high, abs=0.02)
    assert json.loads(json.dumps(result.to_dict()))["a"]["value"] == result.a.value


def test_compare_finds_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    p = []
    for _ in range(1000):
        base = rng.normal(size=120) + labels
        p.append(compare_p(base + rng.normal(size=120), base + rng.normal(size=120), labels))
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.025)
    same = compare(base, base, labels)
    assert (same.difference.value, same.p_value) == (0, 1)


def compare_p(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> float:
    """The test alone, without the bootstrap."""
    from vae_anomaly.evaluation import metrics as evaluation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "n_resamples", lambda n: 1)
        return compare(a, b, labels).p_value


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
    for function in (roc_auc, evaluate, lambda s, y: compare(s, s, y)):
        with pytest.raises(DataError, match=message):
            function(np.array(scores), np.array(labels))


def test_other_lengths_are_refused() -> None:
    scores, labels = mixed(20)
    with pytest.raises(DataError, match=r"20 scores but groups of shape \(3,\)"):
        evaluate(scores, labels, np.array(["a"] * 3))


def test_the_p_value_check_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [150, 2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.evaluation.metrics.n_resamples", lambda n: 1)
        p = [
            evaluate(rng.normal(size=152), labels, calibration_scores=rng.normal(size=100)).p_value_check.p_value
            for _ in range(400)
        ]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.045)
