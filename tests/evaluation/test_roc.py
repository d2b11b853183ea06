"""ROC-AUC and its interval, by simulation down to one anomaly and up to perfect scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from vae_anomaly.evaluation import roc_auc
from vae_anomaly.evaluation.roc import equivalent_trials, placements

Pair = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_with_many_samples_the_interval_is_delongs(mixed: Pair, slow_delong: Pair) -> None:
    scores, labels = mixed(2000)
    _, variance = slow_delong(labels, scores)
    result = roc_auc(scores, labels)
    assert result.high - result.low == pytest.approx(2 * norm.ppf(0.975) * np.sqrt(variance[0, 0]), rel=0.05)


def test_a_mean_is_worth_no_fewer_trials_than_there_are_of_the_rarer_kind() -> None:
    rng = np.random.default_rng(0)
    for m, n in ((1, 1), (1, 50), (7, 3), (40, 40)):
        below, above = placements(rng.normal(1, 1, size=m), rng.normal(size=n))
        assert min(m, n) <= equivalent_trials(below, above) <= 3 * m * n
    # placements of 0 and 1 are yes-or-no trials
    assert equivalent_trials(np.repeat([0.0, 1.0], 50), np.full(10**6, 0.5)) == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    ("m", "n"), [(1, 1), (1, 200), (2, 50), (3, 300), (10, 10), (5, 100), (20, 200), (200, 200), (100, 3)]
)
@pytest.mark.parametrize("auc", [0.5, 0.9, 0.99, 0.999])
def test_the_interval_covers_the_truth(m: int, n: int, auc: float) -> None:
    """The binormal model, and anomalies of which a share scores below all normals."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [n, m])
    repeats, covered = 200, np.zeros(2)
    for _ in range(repeats):
        normal = rng.normal(size=n)
        missed = rng.random(m) >= auc
        for i, anomalous in enumerate(
            (np.sqrt(2) * norm.ppf(auc) + rng.normal(size=m), np.where(missed, -50.0, 50.0) + rng.normal(size=m))
        ):
            result = roc_auc(np.concatenate([normal, anomalous]), labels)
            covered[i] += result.low <= auc <= result.high
    assert (covered / repeats >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / repeats)).all()


def test_one_anomaly_says_little() -> None:
    found = roc_auc(np.arange(101.0), np.repeat([0, 1], [100, 1]))
    assert (found.value, found.low, found.high) == (1, pytest.approx(0.025), 1)
