"""Intervals of shares, against SciPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from vae_anomaly.calibration.intervals import (
    clopper_pearson,
    clopper_pearson_bounds,
    exceedance,
    quantile_interval,
    simultaneous_bounds,
)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 50, 300, 3147, 20_000, 1_000_000])
def test_clopper_pearson_is_scipys_over_a_grid(n: int) -> None:
    k = np.unique([0, 1, 2, n // 100, n // 20, n // 4, n // 2, n - 2, n - 1, n]).clip(0, n)
    low, high = clopper_pearson_bounds(k, n)
    for count, *ends in zip(k.tolist(), low, high, strict=True):
        expected = binomtest(count, n).proportion_ci(0.95, "exact")
        np.testing.assert_allclose(ends, (expected.low, expected.high), rtol=0, atol=1e-12)
        assert clopper_pearson(count, n) == (count / n, *ends)


@given(n=st.integers(1, 300), share=st.floats(0, 1))
@settings(max_examples=50)
def test_clopper_pearson_is_scipys(n: int, share: float) -> None:
    k = round(share * n)
    expected = binomtest(k, n).proportion_ci(0.95, "exact")
    np.testing.assert_allclose(clopper_pearson(k, n), (k / n, expected.low, expected.high), atol=1e-12)


def test_exceedance_is_the_mean_of_a_beta_law_inside_clopper_pearson() -> None:
    rate, low, high = exceedance(np.arange(21), 20)
    for above in range(20):
        law = beta(above + 1, 20 - above)
        assert rate[above] == pytest.approx(law.mean())
        assert high[above] == pytest.approx(law.ppf(0.975))
        assert low[above] <= law.ppf(0.025)
    assert (rate[20], high[20]) == (1, 1)
    np.testing.assert_array_equal(np.stack([low, high]), clopper_pearson_bounds(np.arange(21), 20))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 100, 1000])
def test_bounds_at_all_thresholds_hold_at_once(n: int) -> None:
    rng = np.random.default_rng(0)
    shares = 1 - np.sort(rng.random((4000, n)), axis=1)
    low, high = simultaneous_bounds(np.arange(n, -1, -1), n)
    # at a score as many lie above as below it less one, just below it one more
    inside = (low[:-1] <= shares).all(axis=1) & (shares <= high[1:]).all(axis=1)
    assert 0.945 <= inside.mean() <= 0.975


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 50, 1862])
@pytest.mark.parametrize("level", [0.001, 0.1, 0.5, 0.95, 0.9999])
def test_ranks_around_a_quantile_are_those_of_the_binomial_law(n: int, level: float) -> None:
    low, high = quantile_interval(np.arange(1.0, n + 1), level)
    below = 0 if low is None else low
    above = n + 1 if high is None else high
    assert (below, above) == (binom.ppf(0.025, n, level), binom.ppf(0.975, n, level) + 1)
