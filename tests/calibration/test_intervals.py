"""Intervals of shares, against SciPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from vae_anomaly.calibration.intervals import clopper_pearson, clopper_pearson_bounds, exceedance


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


def test_exceedance_is_a_beta_law() -> None:
    rate, low, high = exceedance(np.arange(21), 20)
    for above in range(20):
        law = beta(above + 1, 20 - above)
        assert rate[above] == pytest.approx(law.mean())
        assert (low[above], high[above]) == pytest.approx(law.ppf([0.025, 0.975]))
    assert (rate[20], low[20], high[20]) == (1, 1, 1)
