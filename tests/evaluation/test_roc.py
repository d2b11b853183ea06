"""ROC-AUC and its interval, against an independent O(n^2) DeLong and by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from vae_anomaly.evaluation import roc_auc

Pair = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_delong_is_the_slow_one_on_the_logit_scale(mixed: Pair, slow_delong: Pair) -> None:
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
