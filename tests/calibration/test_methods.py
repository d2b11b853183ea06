"""What a threshold promises, by simulation and against independent computations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_law
from scipy.stats import binomtest
from sklearn.metrics import fbeta_score

from vae_anomaly.calibration import conformal
from vae_anomaly.calibration.methods import (
    Calibration,
    Conformal,
    Cost,
    Quantile,
    calibrate,
    clopper_pearson,
    promised_alarms,
)
from vae_anomaly.errors import DataError
from vae_anomaly.registry import CALIBRATION_METHODS as METHODS

Draw = Callable[..., np.ndarray]

DISTRIBUTIONS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "cauchy": lambda rng, size: rng.standard_cauchy(size=size),
    "log-normal": lambda rng, size: rng.lognormal(sigma=2, size=size),
    "ties": lambda rng, size: rng.integers(0, 5, size=size).astype(float),
}


@pytest.fixture
def no_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the threshold's interval, which simulations do not look at."""
    monkeypatch.setattr("vae_anomaly.calibration.methods.RESAMPLES", 1)


def mixed(n: int = 200, m: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels, rounded so that some are equal."""
    rng = np.random.default_rng(seed)
    return np.round(np.concatenate([rng.normal(size=n), rng.normal(1.5, size=m)]), 1), np.repeat([0, 1], [n, m])


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


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_conditional_conformal_holds_for_nearly_every_calibration_set(n: int, rate: float) -> None:
    delta, repeats = 0.1, 2000
    rng = np.random.default_rng(1)
    try:
        # the scores are uniform: a threshold t lets exactly 1 - t of the new normals through
        rates = np.array(
            [1 - Conformal(rate, delta=delta)._threshold(np.sort(rng.random(n)), rng.random(0)) for _ in range(repeats)]
        )
    except DataError:
        assert (n, rate) == (20, 0.1), "only so few normals may be refused"
        return
    assert np.mean(rates > rate) <= delta + 3 * np.sqrt(delta * (1 - delta) / repeats)


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


@given(
    calibration=st.lists(st.integers(-4, 4), min_size=20, max_size=80),
    rate=st.sampled_from([0.05, 0.1, 0.25, 1 / 3]),
    delta=st.sampled_from([None, 0.1, 0.4]),
)
@settings(deadline=None)
def test_the_conformal_threshold_is_where_p_values_reach_the_rate(
    calibration: list[int], rate: float, delta: float | None
) -> None:
    scores = np.array(calibration, float)
    try:
        method = Conformal(rate, delta).fit(scores)
    except DataError:
        assert delta is not None
        return
    new = np.arange(-5, 6, 0.5)
    p = conformal.p_values(scores, new)
    if delta is not None:
        p = conformal.conditional(p, len(scores), delta)
    np.testing.assert_array_equal(new > method.threshold_, p <= rate + 1e-12)


@pytest.mark.parametrize(("n", "rate", "needed"), [(19, 0.04, 24), (10, 0.05, 19), (98, 0.01, 99)])
def test_too_few_normals_are_refused_with_how_many_it_takes(n: int, rate: float, needed: int) -> None:
    with pytest.raises(DataError, match=f"needs at least {needed} held-out normals, there are {n}"):
        calibrate("conformal", np.arange(float(n)), rate=rate)
    assert calibrate("conformal", np.arange(float(needed)), rate=rate).threshold == needed - 1


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
        threshold = METHODS["pot"](0.001)._threshold(np.sort(scores), np.empty(0))
        rates.append(1 - np.searchsorted(truth, threshold) / len(truth))
    assert 0.0005 <= np.exp(np.mean(np.log(np.maximum(rates, 1e-7)))) <= 0.002
    assert np.mean((np.array(rates) >= 0.0005) & (np.array(rates) <= 0.002)) >= 0.7


def test_a_tail_that_does_not_fit_is_told() -> None:
    rng = np.random.default_rng(0)
    good = calibrate("pot", rng.exponential(size=2000))
    assert good.note is None
    two_bumps = np.concatenate([rng.normal(size=1900), 20 + 0.1 * rng.normal(size=100)])
    assert "fits a generalised Pareto law badly" in calibrate("pot", two_bumps).note
    with pytest.raises(DataError, match="a tail needs at least 50"):
        calibrate("pot", np.arange(30.0))
    with pytest.raises(DataError, match="all alike"):
        calibrate("pot", np.ones(500))
    with pytest.raises(DataError, match="is inside the data"):
        calibrate("pot", rng.normal(size=2000), rate=0.2)


def brute_force(scores: np.ndarray, labels: np.ndarray, value: Callable[[np.ndarray], float]) -> float:
    """Best value of a criterion of the flags over every threshold."""
    candidates = [scores.min() - 1, *np.unique(scores)]
    return max(value(scores > threshold) for threshold in candidates)


@pytest.mark.parametrize("seed", range(5))
def test_optimal_thresholds_are_optimal(seed: int) -> None:
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
def test_fixed_rates_are_met_and_tight(rate: float) -> None:
    scores, labels = mixed()
    for threshold in [calibrate("fixed_tpr", scores, labels, rate=rate).threshold]:
        assert (scores[labels == 1] > threshold).mean() >= rate
        higher = scores[scores > threshold].min()
        assert (scores[labels == 1] > higher).mean() < rate
    for method in ("fixed_fpr", "quantile"):
        threshold = calibrate(method, scores, labels, rate=1 - rate).threshold
        assert (scores[labels == 0] > threshold).mean() <= 1 - rate + 1e-12
        lower = scores[(labels == 0) & (scores < threshold)].max()
        assert (scores[labels == 0] > lower).mean() > 1 - rate


def test_contamination_is_scikit_learns() -> None:
    scores = np.random.default_rng(0).normal(size=101)
    assert calibrate("contamination", scores, rate=0.1).threshold == -np.percentile(-scores, 10)


ALL = [("conformal", {"delta": 0.1}), ("cost", {"miss": 5.0}), *((name, {}) for name in METHODS)]


@pytest.mark.parametrize(("method", "options"), ALL)
def test_every_method_reports_and_agrees_on_order_sign_and_scale(method: str, options: dict) -> None:
    scores, labels = mixed(400, 40)
    calibration = calibrate(method, scores, labels, **options)
    assert calibration.threshold_low <= calibration.threshold <= calibration.threshold_high
    assert 0 <= calibration.false_alarm_low <= calibration.false_alarm_rate <= calibration.false_alarm_high <= 1
    assert (
        calibration.detection_low <= (scores[labels == 1] > calibration.threshold).mean() <= calibration.detection_high
    )
    assert (calibration.n_normal, calibration.n_anomalous) == (400, 40)
    order = np.random.default_rng(0).permutation(len(scores))
    assert calibrate(method, scores[order], labels[order], **options) == calibration
    doubled = calibrate(method, 2 * scores + 1, labels, **options)
    assert doubled.threshold == pytest.approx(2 * calibration.threshold + 1, abs=1e-6)
    np.testing.assert_array_equal(2 * scores + 1 > doubled.threshold, scores > calibration.threshold)


@pytest.mark.usefixtures("no_bootstrap")
@pytest.mark.parametrize("method", [Quantile(0.1), Conformal(0.1)])
@pytest.mark.parametrize("n", [30, 300])
def test_the_expected_rate_covers_the_true_one(method: Quantile | Conformal, n: int) -> None:
    rng = np.random.default_rng(6)
    covered, rates, expected = 0, [], []
    for _ in range(600):
        calibration = method.fit(rng.random(n)).calibration_
        truth = 1 - calibration.threshold
        rates.append(truth)
        expected.append(calibration.false_alarm_rate)
        covered += calibration.false_alarm_low <= truth <= calibration.false_alarm_high
    assert covered / 600 == pytest.approx(0.95, abs=0.03)
    assert np.mean(rates) == pytest.approx(np.mean(expected), abs=0.01)


@given(n=st.integers(1, 300), share=st.floats(0, 1))
@settings(max_examples=50)
def test_clopper_pearson_is_scipys(n: int, share: float) -> None:
    k = round(share * n)
    expected = binomtest(k, n).proportion_ci(0.95, "exact")
    np.testing.assert_allclose(clopper_pearson(k, n), (k / n, expected.low, expected.high), atol=1e-12)


def test_bootstrap_interval_of_a_quantile_is_near_its_exact_one() -> None:
    scores = np.random.default_rng(0).random(2000)
    calibration = calibrate("quantile", scores, rate=0.1)
    low, high = beta_law.ppf([0.025, 0.975], 1800, 201)
    assert calibration.threshold_low == pytest.approx(low, abs=0.01)
    assert calibration.threshold_high == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize(
    ("method", "scores", "labels", "options", "message"),
    [
        ("conformal", [], None, {}, "at least one score"),
        ("conformal", [1.0, np.nan], None, {}, "1 of 2 scores are NaN or infinite"),
        ("quantile", [1.0, 2.0], [0, 2], {}, "one label, 0 (normal) or 1 (anomaly)"),
        ("quantile", [1.0, 2.0], [0], {}, "one label"),
        ("quantile", [1.0, 2.0], [1, 1], {}, "needs scores of normals, got none"),
        ("youden", [1.0, 2.0], None, {}, "needs some labelled anomalies, got none"),
        ("best", [1.0], None, {}, "method must be one of quantile, conformal"),
        ("youden", [1.0, 2.0], [0, 1], {"rate": 0.1}, "method 'youden' does not take rate"),
        ("quantile", [1.0], None, {"rate": 1.5}, "rate must lie between 0 and 1, got 1.5"),
        ("conformal", [1.0], None, {"delta": 0.0}, "delta must lie between 0 and 1"),
        ("contamination", [1.0], None, {"rate": 0.7}, "rate must lie in (0, 0.5], got 0.7"),
        ("f_beta", [1.0], None, {"beta": -1.0}, "beta must be a number above 0"),
        ("cost", [1.0], None, {"miss": 0.0}, "costs must be numbers above 0"),
        (
            "conformal",
            list(range(20)),
            None,
            {"rate": 0.05, "delta": 0.01},
            "cannot promise a rate of 0.05 for all but 0.01",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(method, scores, labels, options, message: str) -> None:
    import re

    with pytest.raises(DataError, match=re.escape(message)):
        calibrate(method, np.array(scores, float), None if labels is None else np.array(labels), **options)


@pytest.mark.usefixtures("no_bootstrap")
@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_the_promise_for_new_samples_holds(rate: float) -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(1000):
        calibration = Conformal(rate).fit(rng.normal(size=200)).calibration_
        low, high = promised_alarms(calibration, 150)
        inside += low <= np.mean(rng.normal(size=150) > calibration.threshold) <= high
    assert 0.93 <= inside / 1000 <= 0.99  # 95 %, and a little more for a count is discrete
    assert promised_alarms(calibrate("youden", *mixed()), 100) is None


def test_degenerate_scores_have_a_threshold() -> None:
    for method in ("quantile", "conformal", "contamination", "youden", "f_beta", "cost", "fixed_tpr", "fixed_fpr"):
        calibration = calibrate(method, np.ones(40), np.arange(40) % 2)
        assert isinstance(calibration, Calibration)
        assert np.isfinite(calibration.threshold)
    assert Cost(miss=100).fit(np.array([1.0, 1.0]), np.array([0, 1])).threshold_ < 1
