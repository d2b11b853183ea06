"""Evaluation, against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import evaluate, roc_auc

Pair = Callable[..., tuple[np.ndarray, np.ndarray]]


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60))
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


def test_curves_are_scikit_learns(mixed: Pair) -> None:
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


def test_perfect_and_constant_scores_have_stated_values() -> None:
    perfect = evaluate(np.arange(20.0), np.repeat([0, 1], 10))
    assert perfect.roc_auc.value == perfect.roc_auc.high == perfect.tpr_at_1_fpr == perfect.partial_auc == 1
    assert 0.65 < perfect.roc_auc.low < 1
    assert perfect.fpr_at_95_tpr == 0
    backwards = roc_auc(-np.arange(20.0), np.repeat([0, 1], 10))
    assert backwards.value == backwards.low == 0 < backwards.high < 0.35
    constant = evaluate(np.ones(20), np.repeat([0, 1], 10))
    assert constant.roc_auc.value == 0.5
    assert constant.roc_auc.low < 0.5 < constant.roc_auc.high
    assert constant.average_precision.value == 0.5
    assert roc_auc(np.array([1.0, 2.0]), np.array([0, 1])).low < 0.5


def test_decisions_groups_and_p_values(mixed: Pair) -> None:
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


def test_other_lengths_are_refused(mixed: Pair) -> None:
    scores, labels = mixed(20)
    with pytest.raises(DataError, match=r"20 scores but groups of shape \(3,\)"):
        evaluate(scores, labels, np.array(["a"] * 3))


def test_the_p_value_check_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [150, 2])
    p = [
        evaluate(rng.normal(size=152), labels, calibration_scores=rng.normal(size=100)).p_value_check.p_value
        for _ in range(400)
    ]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.045)
