"""Precision, F score and cost at a share of anomalies that the user states."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import f1_score, precision_score

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import at_prevalence, evaluate
from vae_anomaly.evaluation.metrics import decisions_at


def test_at_the_share_of_the_labels_they_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 40])
    scores = rng.normal(size=340) + 2 * labels
    found = evaluate(scores, labels, threshold=1.5, prevalence=40 / 340, miss=5.0, false_alarm=2.0).at_prevalence
    flags = scores > 1.5
    assert found.precision.value == pytest.approx(precision_score(labels, flags))
    assert found.f1.value == pytest.approx(f1_score(labels, flags))
    assert found.cost.value == pytest.approx(np.mean(5 * (labels & ~flags) + 2 * (flags & (labels == 0))))


@pytest.mark.parametrize(("n", "m"), [(5, 1), (50, 3), (200, 20)])
@pytest.mark.parametrize("prevalence", [0.001, 0.3])
def test_the_intervals_cover_the_truth(n: int, m: int, prevalence: float) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [n, m])
    a, d = norm.sf(1.5), norm.sf(-0.5)
    found, wrong = prevalence * d, (1 - prevalence) * a
    truth = np.array([found / (found + wrong), 2 * found / (found + wrong + prevalence), prevalence - found + wrong])
    inside = []
    for _ in range(200):
        result = at_prevalence(decisions_at(1.5, rng.normal(size=n + m) + 2 * labels, labels), prevalence)
        ends = [(e.low, e.high) if e is not None else (0, 1) for e in (result.precision, result.f1, result.cost)]
        inside.append([low <= value <= high for (low, high), value in zip(ends, truth, strict=True)])
    assert (np.mean(inside, axis=0) >= 0.94).all()


def test_what_has_no_value_is_refused_or_none() -> None:
    scores, labels = np.arange(10.0), np.repeat([0, 1], 5)
    assert evaluate(scores, labels, threshold=99.0, prevalence=0.1).at_prevalence.precision is None
    with pytest.raises(DataError, match="a prevalence needs a threshold"):
        evaluate(scores, labels, prevalence=0.1)
    with pytest.raises(DataError, match="prevalence must lie between 0 and 1, got 1"):
        evaluate(scores, labels, threshold=5.0, prevalence=1.0)
    with pytest.raises(DataError, match="costs must be numbers above 0, got 0 and 1"):
        evaluate(scores, labels, threshold=5.0, prevalence=0.1, miss=0.0)
