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
    assert result.difference.high - result.difference.low == pytest.approx(2 * norm.ppf(0.975) * error, rel=0.1)
    assert result.test == "delong"
    assert result.p_value == pytest.approx(2 * norm.sf(abs(areas[0] - areas[1]) / error))
    assert json.loads(json.dumps(result.to_dict()))["a"]["value"] == result.a.value


def test_compare_finds_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    p = []
    for _ in range(400):
        base = rng.normal(size=120) + labels
        p.append(compare(base + rng.normal(size=120), base + rng.normal(size=120), labels).p_value)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)
    same = compare(base, base, labels)
    assert (same.difference.value, same.p_value) == (0, 1)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (100, 1), (100, 3), (30, 10)])
@pytest.mark.parametrize("shift", [1.0, 4.0])
def test_with_few_anomalies_the_test_keeps_its_level_and_the_interval_covers(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [n, m])
    repeats, p, covered = 80, [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.evaluation.comparison.EXCHANGES", 199)
        for _ in range(repeats):
            base = rng.normal(size=n + m) + shift * labels
            found = compare(base + rng.normal(size=n + m), base + rng.normal(size=n + m), labels)
            p.append(found.p_value)
            covered += found.difference.low <= 0 <= found.difference.high
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 0.055
    assert covered / repeats >= 0.93
    assert min(p) > 0


def test_a_p_value_is_never_zero() -> None:
    """Two samples ranked the other way round are no proof; all four exchanges are tried."""
    found = compare(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0, 1]))
    assert (found.p_value, found.test) == (0.5, "permutation")
    assert (found.difference.value, found.difference.high) == (1, 1)
    assert found.difference.low < 0
    labels = np.repeat([0, 1], 3000)
    noise = np.random.default_rng(0).normal(size=6000)
    assert 0 < compare(noise + 1.5 * labels, noise[::-1], labels).p_value < 1e-100


def test_the_permutation_test_has_power() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [60, 8])
    scores = rng.normal(size=68)
    found = compare(scores + 4 * labels, rng.normal(size=68), labels)
    assert found.test == "permutation"
    assert found.p_value < 0.02
    assert found.difference.low > 0
