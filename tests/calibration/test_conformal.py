"""Conformal p-values and thresholds: what they promise, by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.calibration import conformal
from vae_anomaly.errors import DataError

Draw = Callable[..., np.ndarray]

DISTRIBUTIONS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "cauchy": lambda rng, size: rng.standard_cauchy(size=size),
    "log-normal": lambda rng, size: rng.lognormal(sigma=2, size=size),
    "ties": lambda rng, size: rng.integers(0, 5, size=size).astype(float),
}


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_conformal_false_alarms_stay_under_the_promise(n: int, rate: float, draw: Draw) -> None:
    rng = np.random.default_rng(n)
    repeats = 5000
    scores, new = draw(rng, (repeats, n)), draw(rng, repeats)
    alarms = np.mean([x > conformal.threshold(s, rate) for s, x in zip(scores, new, strict=True)])
    assert alarms <= rate + 3 * np.sqrt(rate * (1 - rate) / repeats)


def test_the_conformal_promise_is_not_idle() -> None:
    rng = np.random.default_rng(0)
    alarms = np.mean([rng.normal() > conformal.threshold(rng.normal(size=999), 0.05) for _ in range(4000)])
    assert alarms == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("n", [25, 200])
def test_conditional_p_values_hold_at_all_levels_at_once(n: int) -> None:
    delta, repeats = 0.1, 3000
    rng = np.random.default_rng(2)
    adjusted = conformal.conditional(np.arange(1, n + 2) / (n + 1), n, delta)
    assert (np.diff(adjusted) >= 0).all()
    assert (adjusted >= np.arange(1, n + 2) / (n + 1) - 1e-12).all()
    # P(p <= j / (n + 1) | calibration) for uniform scores is 1 - the j-th largest of them
    actual = 1 - np.sort(rng.random((repeats, n)), axis=1)[:, ::-1]
    failures = np.mean((actual > adjusted[:n]).any(axis=1))
    assert failures == pytest.approx(delta, abs=3 * np.sqrt(delta * (1 - delta) / repeats))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_benjamini_hochberg_keeps_the_false_discovery_rate(share: float, draw: Draw) -> None:
    level, n, batch = 0.2, 200, 100
    rng = np.random.default_rng(3)
    proportions = []
    for _ in range(400):
        anomalous = np.arange(batch) < share * batch
        scores = draw(rng, batch) + np.where(anomalous, 30.0, 0.0)
        flagged = conformal.benjamini_hochberg(conformal.p_values(draw(rng, n), scores), level)
        proportions.append((flagged & ~anomalous).sum() / max(1, flagged.sum()))
    error = np.std(proportions) / np.sqrt(len(proportions))
    assert np.mean(proportions) <= level * (1 - share) + 3 * error


@given(
    calibration=st.lists(st.integers(-4, 4), min_size=1, max_size=40),
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
)
def test_p_values_count_what_scores_at_least_as_high(calibration: list[int], scores: list[int]) -> None:
    p = conformal.p_values(np.array(calibration, float), np.array(scores, float))
    expected = [(1 + sum(c >= s for c in calibration)) / (len(calibration) + 1) for s in scores]
    np.testing.assert_allclose(p, expected)


def test_mondrian_promises_within_each_group() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(["quiet", "loud"], 2000)
    spread = np.where(groups == "quiet", 1.0, 10.0)
    method = conformal.Mondrian(0.05).fit(rng.normal(size=4000) * spread, groups)
    new = rng.normal(size=4000) * spread
    p = method.p_values(new, groups)
    for name in ("quiet", "loud"):
        rows = groups == name
        assert np.mean(p[rows] <= 0.05) == pytest.approx(0.05, abs=0.02)
        np.testing.assert_array_equal(p[rows] <= 0.05, new[rows] > method.thresholds_[name])
    with pytest.raises(DataError, match="no held-out normals of group new; known: loud, quiet"):
        method.p_values(new[:1], np.array(["new"]))
    with pytest.raises(DataError, match="group b: a false-alarm rate of 0.05 needs at least 19"):
        conformal.Mondrian(0.05).fit(np.arange(30.0), np.array(["a"] * 25 + ["b"] * 5))
