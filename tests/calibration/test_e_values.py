"""E-values: their mean, e-BH under dependence, and how few samples can be flagged."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from worlds import adverse_p_values

from vae_anomaly.calibration.conformal import benjamini_hochberg, conditional, p_values
from vae_anomaly.calibration.e_values import e_benjamini_hochberg, e_values, fewest_flagged


@pytest.mark.parametrize("n", [1, 2, 19, 500])
def test_the_mean_of_a_normals_e_value_is_one_and_larger_p_values_make_it_smaller(n: int) -> None:
    p = np.arange(1, n + 2) / (n + 1)
    e = e_values(p, n)
    assert e.mean() == pytest.approx(1)
    assert (np.diff(e) < 0).all()
    assert (e_values(conditional(p, n, 0.1), n) <= e).all()


@pytest.mark.parametrize("decimals", [0, 8])
def test_the_mean_is_at_most_one_with_ties(decimals: int) -> None:
    rng = np.random.default_rng(0)
    e = [e_values(p_values(*np.split(np.round(rng.normal(size=20), decimals), [19])), 19)[0] for _ in range(4000)]
    assert np.mean(e) <= 1 + 4 * np.std(e) / np.sqrt(len(e))


def test_e_benjamini_hochberg_flags_what_its_definition_says() -> None:
    rng = np.random.default_rng(1)
    for level in (0.05, 0.3, 0.9):
        e = np.round(rng.exponential(size=40) ** 4, 1)
        ordered = np.sort(e)[::-1]
        k = max((k for k in range(1, 41) if ordered[k - 1] >= 40 / (k * level)), default=0)
        assert e_benjamini_hochberg(e, level).tolist() == (e >= ordered[k - 1]).tolist() if k else True
        assert e_benjamini_hochberg(e, level).sum() >= k
        assert k or not e_benjamini_hochberg(e, level).any()


def test_the_false_discovery_rate_is_kept_where_samples_are_opposites() -> None:
    rng, level, n = np.random.default_rng(2), 0.3, 199
    shares = []
    for _ in range(400):
        normal = np.outer(rng.choice([-1, 1], size=10), rng.normal(size=5)).ravel()
        scores = np.concatenate([normal, np.full(10, 30.0)])
        flagged = e_benjamini_hochberg(e_values(p_values(rng.normal(size=n), scores), n), level)
        assert flagged[50:].all()
        shares.append(flagged[:50].sum() / flagged.sum())
    assert np.mean(shares) <= level + 3 * np.std(shares) / 20


def test_the_false_discovery_rate_is_kept_where_benjamini_hochbergs_is_not() -> None:
    rng, level, repeats = np.random.default_rng(3), 0.2, 1000
    batches = [adverse_p_values(rng) for _ in range(repeats)]
    assert np.ravel(batches).mean() == pytest.approx(0.51, abs=0.02)  # uniform on 1/50, ..., 1
    found = [e_benjamini_hochberg(e_values(p, 49), level).any() for p in batches]
    assert np.mean(found) <= level
    assert np.mean([benjamini_hochberg(p, level).any() for p in batches]) > 2 * level


@pytest.mark.parametrize(("n", "m", "level"), [(99, 10, 0.1), (99, 500, 0.1), (9, 5, 0.05), (19, 40, 0.05)])
def test_the_fewest_that_can_be_flagged_are_flagged_and_one_less_are_not(n: int, m: int, level: float) -> None:
    fewest = fewest_flagged(1 / (n + 1), m, level)
    assert fewest == -(-Fraction(m, n + 1) // Fraction(str(level)))
    for k in range(1, m + 1):
        p = np.where(np.arange(m) < k, 1 / (n + 1), 1.0)
        assert benjamini_hochberg(p, level).any() == (k >= fewest)
