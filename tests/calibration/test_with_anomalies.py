"""Thresholds from labelled samples, against brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import fbeta_score

from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.calibration.with_anomalies import Cost

Mixed = Callable[..., tuple[np.ndarray, np.ndarray]]


def brute_force(scores: np.ndarray, labels: np.ndarray, value: Callable[[np.ndarray], float]) -> float:
    """Best value of a criterion of the flags over every threshold."""
    candidates = [scores.min() - 1, *np.unique(scores)]
    return max(value(scores > threshold) for threshold in candidates)


@pytest.mark.parametrize("seed", range(5))
def test_optimal_thresholds_are_optimal(seed: int, mixed: Mixed) -> None:
    scores, labels = mixed(60, 20, seed)

    def rates(flags: np.ndarray) -> tuple[float, float]:
        return flags[labels == 0].mean(), flags[labels == 1].mean()

    def youden(flags: np.ndarray) -> float:
        return rates(flags)[1] - rates(flags)[0]

    def f2(flags: np.ndarray) -> float:
        return float(fbeta_score(labels, flags, beta=2, zero_division=0))

    def saved(flags: np.ndarray) -> float:
        alarms, found = rates(flags)
        return -(0.1 * 7 * (1 - found) + 0.9 * 2 * alarms)

    cases = [
        (calibrate("youden", scores, labels), youden),
        (calibrate("f_beta", scores, labels, beta=2.0), f2),
        (calibrate("cost", scores, labels, miss=7.0, false_alarm=2.0, prevalence=0.1), saved),
    ]
    for calibration, value in cases:
        assert value(scores > calibration.threshold) == pytest.approx(brute_force(scores, labels, value))


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.95, 0.999])
def test_fixed_rates_are_met_and_tight(rate: float, mixed: Mixed) -> None:
    scores, labels = mixed()
    threshold = calibrate("fixed_tpr", scores, labels, rate=rate).threshold
    assert (scores[labels == 1] > threshold).mean() >= rate
    higher = scores[scores > threshold].min()
    assert (scores[labels == 1] > higher).mean() < rate
    for method in ("fixed_fpr", "quantile"):
        threshold = calibrate(method, scores, labels, rate=1 - rate).threshold
        assert (scores[labels == 0] > threshold).mean() <= 1 - rate + 1e-12
        lower = scores[(labels == 0) & (scores < threshold)].max()
        assert (scores[labels == 0] > lower).mean() > 1 - rate


def test_a_dear_miss_flags_everything() -> None:
    assert Cost(miss=100).fit(np.array([1.0, 1.0]), np.array([0, 1])).threshold_ < 1


@pytest.mark.parametrize(("method", "options"), [("youden", {}), ("f_beta", {}), ("cost", {"miss": 10.0})])
@pytest.mark.parametrize("m", [2, 10, 50])
def test_the_rates_to_expect_are_those_of_new_samples(method: str, options: dict[str, float], m: int) -> None:
    rng = np.random.default_rng(0)
    repeats, bias, covered = 120, [], 0
    labels = np.repeat([0, 1], [100, m])
    for _ in range(repeats):
        found = calibrate(method, rng.normal(size=100 + m) + 1.5 * labels, labels, **options)
        alarms, detected = norm.sf(found.threshold), norm.sf(found.threshold - 1.5)
        bias.append(found.detection_rate - detected)
        covered += (found.false_alarm_low <= alarms <= found.false_alarm_high) and (
            found.detection_low <= detected <= found.detection_high
        )
    assert covered / repeats >= 0.93
    if m >= 10:  # of two, one is left to choose by, and a criterion may choose another kind of threshold
        assert abs(np.mean(bias)) <= 0.04  # in sample it is 0.15 for Youden's index and ten anomalies


def test_a_fixed_detection_rate_is_that_of_new_anomalies() -> None:
    rng = np.random.default_rng(0)
    labels, found, true = np.repeat([0, 1], [50, 10]), [], []
    for _ in range(400):
        calibration = calibrate("fixed_tpr", rng.normal(size=60) + 2 * labels, labels, rate=0.9)
        found.append(calibration.detection_rate)
        true.append(norm.sf(calibration.threshold - 2))
    assert set(found) == {9 / 11}
    assert np.mean(true) == pytest.approx(9 / 11, abs=0.04)


@pytest.mark.parametrize("method", ["youden", "f_beta", "cost", "fixed_tpr"])
def test_one_anomaly_says_little(method: str) -> None:
    calibration = calibrate(method, np.array([0.0, 1.0, 2.0, 9.0]), np.array([0, 0, 0, 1]))
    assert calibration.detection_rate == 0.5
    assert (calibration.detection_low, calibration.detection_high) == (pytest.approx(0.025), 1)
    assert "k / (m + 1)" in calibration.basis
