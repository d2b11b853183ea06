"""Drift: quiet without it, awake with it."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest, norm

from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.drift import (
    Drift,
    distance_with_interval,
    ks_distance,
    measure_drift,
    stability_index,
)
from vae_anomaly.evaluation.martingale import (
    bets_on_ends_and_middle,
    linear_bets,
    log_fortune,
    log_martingale,
    online_p_values,
)
from vae_anomaly.evaluation.result import Estimate


@pytest.mark.parametrize("bound", [0.05, 0.2])
def test_the_martingale_raises_false_alarms_under_its_bound(bound: float) -> None:
    rng = np.random.default_rng(0)
    repeats = 400
    alarms = 0
    for _ in range(repeats):
        p = online_p_values(np.round(rng.normal(size=50), 1), np.round(rng.normal(size=400), 1), rng)
        alarms += log_martingale(p).max() >= np.log(1 / bound)
    assert alarms / repeats <= bound + 3 * np.sqrt(bound * (1 - bound) / repeats)


def test_the_martingale_is_a_fair_game() -> None:
    rng = np.random.default_rng(1)
    fortunes = [np.exp(log_martingale(rng.random(30))[-1]) for _ in range(4000)]
    assert np.mean(fortunes) == pytest.approx(1, abs=4 * np.std(fortunes) / np.sqrt(4000))


@pytest.mark.parametrize("bets", [linear_bets, bets_on_ends_and_middle])
def test_every_bet_is_fair(bets: Callable[[np.ndarray], np.ndarray]) -> None:
    p = (np.arange(1_000_000) + 0.5) / 1_000_000
    means = bets(p).mean(axis=0)
    np.testing.assert_allclose(means, 1, atol=0.003)
    assert (bets(p) >= 0).all()
    assert np.isfinite(bets(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize(("spread", "outliers", "power"), [(2.0, 0.0, 0.95), (0.5, 0.0, 0.95), (1.0, 0.05, 0.4)])
def test_a_changed_spread_and_outliers_are_noticed(spread: float, outliers: float, power: float) -> None:
    rng = np.random.default_rng(9)
    linear, both = [], []
    for _ in range(30):
        new = spread * rng.normal(size=500) + 10 * (rng.random(500) < outliers)
        p = online_p_values(rng.normal(size=500), new, rng)
        linear.append(log_fortune(linear_bets(p)).max() >= np.log(100))
        both.append(log_martingale(p).max() >= np.log(100))
    assert np.mean(both) >= power
    assert np.mean(linear) <= 0.1


@pytest.mark.parametrize(
    ("log10", "alarm", "words"),
    [
        (0.1, None, "no change is shown: any stream without one may look like this"),
        (0.1, 4, "the scores have changed: without a change, as much evidence for one would come in at most one of 1 "),
        (1.3, None, "no change is shown: without a change, as much evidence for one would come in at most one of 19"),
        (
            3.1,
            4,
            "the scores have changed: without a change, as much evidence for one would come in at most one of 1,",
        ),
        (291.0, 4, "the scores have changed: without a change, as much evidence for one would come in fewer than one"),
    ],
)
def test_the_verdict_says_what_follows(log10: float, alarm: int | None, words: str) -> None:
    drift = Drift(Estimate(0.1, 0.0, 0.2), 0.5, 0.0, 0.1, alarm, 0.01, log10, 10, 20)
    assert drift.verdict.startswith(words)
    assert drift.to_dict()["verdict"] == drift.verdict


@pytest.mark.parametrize("decimals", [0, 8])
def test_online_p_values_are_uniform_and_exact(decimals: int) -> None:
    rng = np.random.default_rng(2)
    reference, new = np.round(rng.normal(size=30), decimals), np.round(rng.normal(size=2500), decimals)
    p = online_p_values(reference, new, np.random.default_rng(3))
    assert kstest(p, "uniform").pvalue > 0.01
    u = np.random.default_rng(3).random(2500)
    for i in (0, 1, 1023, 1024, 2499):
        seen = np.concatenate([reference, new[: i + 1]])
        u_i = np.concatenate([np.random.default_rng(3).random(2500)])[i]
        assert u_i == u[i]
        assert p[i] == pytest.approx(((seen > new[i]).sum() + u[i] * (seen == new[i]).sum()) / len(seen))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_is_noticed_soon_after_it_starts(sign: int) -> None:
    rng = np.random.default_rng(4)
    new = np.concatenate([rng.normal(size=1000), sign + rng.normal(size=500)])
    result = measure_drift(rng.normal(size=500), new)
    assert result.alarm is not None
    assert 1000 < result.alarm < 1150
    assert result.ks_p_value < 1e-6
    assert result.psi > 3 * result.psi_without_drift


def test_no_shift_is_no_alarm() -> None:
    rng = np.random.default_rng(5)
    reference, new = rng.normal(size=800), rng.normal(size=3000)
    result = measure_drift(reference, new)
    assert result.alarm is None
    assert result.ks.value == pytest.approx(ks_2samp(reference, new).statistic)
    assert result.ks_p_value > 0.01
    assert 0 <= result.psi <= result.psi_without_drift
    assert result.ks.low <= result.ks.value <= result.ks.high
    assert json.loads(json.dumps(result.to_dict()))["n_new"] == 3000


def test_statistics_agree_with_others() -> None:
    rng = np.random.default_rng(6)
    a, b = np.round(rng.normal(size=200), 1), np.round(rng.normal(0.3, size=150), 1)
    assert ks_distance(a, b) == pytest.approx(ks_2samp(a, b).statistic)
    assert stability_index(a, a) == pytest.approx(0)
    assert stability_index(a, b) > 0
    assert np.isfinite(stability_index(np.ones(50), np.zeros(50)))


def test_unusable_scores_are_refused() -> None:
    with pytest.raises(DataError, match="new scores: 1 of 2 scores are NaN or infinite"):
        measure_drift(np.ones(5), np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="reference: needs a vector of at least one score"):
        measure_drift(np.empty(0), np.ones(3))
    with pytest.raises(DataError, match="bound on false alarms must lie between 0 and 1, got 2"):
        measure_drift(np.ones(5), np.ones(5), alarm_bound=2.0)


@pytest.mark.parametrize(
    ("m", "n", "shift"), [(5, 3, 0.0), (20, 20, 0.0), (100, 50, 0.0), (100, 50, 1.0), (30, 200, 5.0)]
)
def test_the_distances_interval_covers_the_truth(m: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(7)
    truth = 2 * norm.cdf(shift / 2) - 1
    found = [distance_with_interval(rng.normal(size=m), shift + rng.normal(size=n)) for _ in range(300)]
    assert np.mean([interval.low <= truth <= interval.high for interval in found]) >= 0.93


@pytest.mark.parametrize(("m", "n"), [(10, 5), (50, 200)])
@pytest.mark.parametrize("decimals", [0, 8])
def test_the_index_without_drift_stays_below_its_bound_and_is_near_none(
    m: int, n: int, decimals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    monkeypatch.setattr("vae_anomaly.evaluation.drift.EXCHANGES", 19)
    found = [
        measure_drift(np.round(rng.normal(size=m), decimals), np.round(rng.normal(size=n), decimals))
        for _ in range(100)
    ]
    assert np.mean([drift.psi > drift.psi_without_drift for drift in found]) <= 0.05 + 0.055
    assert np.median([drift.psi for drift in found]) < 0.3 * np.median([drift.psi_without_drift for drift in found])
