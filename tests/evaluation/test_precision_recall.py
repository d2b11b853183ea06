"""Average precision and its interval, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from vae_anomaly.evaluation.bootstrap import OrderedScores
from vae_anomaly.evaluation.precision_recall import (
    average_precision,
    average_precision_estimate,
    contributions_to_average_precision,
)


def true_average_precision(m: int, n: int, shift: float) -> float:
    """Of the binormal model, by quadrature over the anomalies' quantiles."""
    share = (np.arange(200_000) + 0.5) / 200_000
    return float(np.mean(m * share / (m * share + n * norm.sf(norm.isf(share) + shift))))


@pytest.mark.parametrize(("m", "n"), [(1, 10), (3, 200), (10, 10), (20, 200), (50, 50), (200, 20)])
@pytest.mark.parametrize("auc", [0.5, 0.9, 0.99])
def test_the_interval_covers_the_truth(m: int, n: int, auc: float) -> None:
    rng = np.random.default_rng(0)
    labels, shift = np.repeat([0, 1], [n, m]), np.sqrt(2) * norm.ppf(auc)
    truth, covered, repeats = true_average_precision(m, n, shift), 0, 150
    for _ in range(repeats):
        found = average_precision_estimate(OrderedScores(rng.normal(size=n + m) + shift * labels, labels))
        assert 0 <= found.low <= found.value <= found.high <= 1
        covered += found.low <= truth <= found.high
    assert covered / repeats >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / repeats)


def test_contributions_are_what_leaving_a_sample_out_changes() -> None:
    rng = np.random.default_rng(0)
    anomalous, normal = rng.integers(0, 4, size=(2, 100))
    value = average_precision(anomalous, normal)
    of_anomalous, of_normal = contributions_to_average_precision(anomalous, normal)
    assert of_anomalous.mean() == pytest.approx(value)
    assert of_normal.mean() == pytest.approx(value)
    n, place = normal.sum(), np.repeat(np.arange(100), normal)
    changes = []
    for group in place:
        more = n * normal.astype(float) / (n + 1e-4)
        more[group] += n * 1e-4 / (n + 1e-4)
        changes.append((average_precision(anomalous, more) - value) / 1e-4)
    np.testing.assert_allclose((of_normal - value) / n, changes, atol=1e-3)
