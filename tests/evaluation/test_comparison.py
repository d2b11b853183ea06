"""Comparison of two scores, against an independent O(n^2) DeLong."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from vae_anomaly.evaluation import compare

Pair = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_compare_is_the_slow_paired_delong(mixed: Pair, slow_delong: Pair) -> None:
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.evaluation.comparison.n_resamples", lambda n: 1)
        return compare(a, b, labels).p_value
