"""Peaks over threshold: rates rarer than the data shows, and a warning where the tail does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import expon, norm, t

from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.calibration.pareto import PeaksOverThreshold
from vae_anomaly.errors import DataError

Draw = Callable[..., np.ndarray]


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, size: rng.normal(size=size),
        lambda rng, size: rng.exponential(size=size),
        lambda rng, size: rng.standard_t(3, size=size),
        lambda rng, size: rng.gamma(2, size=size),
    ],
    ids=["normal", "exponential", "t3", "gamma"],
)
def test_peaks_over_threshold_reaches_rates_the_data_hardly_shows(draw: Draw) -> None:
    rng = np.random.default_rng(5)
    truth = np.sort(draw(rng, 4_000_000))
    rates = []
    for _ in range(60):
        scores = draw(rng, 2000)
        threshold = PeaksOverThreshold(0.001).choose_threshold(np.sort(scores), np.empty(0))
        rates.append(1 - np.searchsorted(truth, threshold) / len(truth))
    assert 0.0005 <= np.exp(np.mean(np.log(np.maximum(rates, 1e-7)))) <= 0.002
    assert np.mean((np.array(rates) >= 0.0005) & (np.array(rates) <= 0.002)) >= 0.7


def test_a_tail_that_does_not_fit_is_a_warning() -> None:
    rng = np.random.default_rng(0)
    good = calibrate("pot", rng.exponential(size=2000), rate=0.002)
    assert good.note is None
    two_bumps = np.concatenate([rng.normal(size=1900), 20 + 0.1 * rng.normal(size=100)])
    assert "fits a generalised Pareto law badly" in calibrate("pot", two_bumps).note
    with pytest.raises(DataError, match="a tail needs at least 50"):
        calibrate("pot", np.arange(30.0))
    with pytest.raises(DataError, match="all alike"):
        calibrate("pot", np.ones(500))
    with pytest.raises(DataError, match="is inside the data"):
        calibrate("pot", rng.normal(size=2000), rate=0.2)


@pytest.mark.parametrize("law", [norm(), expon(), t(3)], ids=["normal", "exponential", "t3"])
def test_the_rate_to_expect_is_the_one_asked_for_with_the_range_that_the_tail_allows(law: Any) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        method, scores = PeaksOverThreshold(0.004), np.sort(law.rvs(500, random_state=rng))
        method.threshold_ = method.choose_threshold(scores, np.empty(0))
        rate, low, high = method.expected_false_alarms(scores)
        assert rate == 0.004
        covered += low <= law.sf(method.threshold_) <= high
    assert covered / 100 >= 0.9


def test_a_rate_that_the_data_cannot_show_is_a_warning() -> None:
    scores = np.random.default_rng(0).exponential(size=500)
    assert "500 normals cannot show a rate of 0.0001: below 0.004" in calibrate("pot", scores, rate=1e-4).note
    assert calibrate("pot", scores, rate=0.004).note is None
