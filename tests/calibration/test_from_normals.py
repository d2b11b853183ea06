"""Order statistics of held-out normals: rates, intervals and promises, by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.calibration import conformal
from vae_anomaly.calibration.from_normals import Conformal, Quantile, conditional_rank
from vae_anomaly.calibration.methods import calibrate, promised_alarms
from vae_anomaly.errors import DataError

Draw = Callable[..., np.ndarray]

DISTRIBUTIONS = {
    "uniform": lambda rng, size: rng.random(size),
    "cauchy": lambda rng, size: rng.standard_cauchy(size),
    "ties": lambda rng, size: rng.integers(0, 5, size).astype(float),
}


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_conditional_conformal_holds_for_nearly_every_calibration_set(n: int, rate: float) -> None:
    delta, repeats = 0.1, 2000
    rng = np.random.default_rng(1)
    try:
        # the scores are uniform: a threshold t lets exactly 1 - t of the new normals through
        rates = np.array(
            [
                1 - Conformal(rate, delta=delta).choose_threshold(np.sort(rng.random(n)), rng.random(0))
                for _ in range(repeats)
            ]
        )
    except DataError:
        assert (n, rate) == (20, 0.1), "only so few normals may be refused"
        return
    assert np.mean(rates > rate) <= delta + 3 * np.sqrt(delta * (1 - delta) / repeats)


@given(
    calibration=st.lists(st.integers(-4, 4), min_size=20, max_size=80),
    rate=st.sampled_from([0.05, 0.1, 0.25, 1 / 3]),
    delta=st.sampled_from([None, 0.1, 0.4]),
)
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
    if delta is None:
        np.testing.assert_array_equal(new > method.threshold_, p <= rate + 1e-12)
    else:  # p-values that hold at all levels at once flag no more than the one threshold that need not
        assert (new > method.threshold_)[p <= rate + 1e-12].all()


@pytest.mark.parametrize(("n", "rate", "needed"), [(19, 0.04, 24), (10, 0.05, 19), (98, 0.01, 99)])
def test_too_few_normals_are_refused_with_how_many_it_takes(n: int, rate: float, needed: int) -> None:
    with pytest.raises(DataError, match=f"needs at least {needed} held-out normals, there are {n}"):
        calibrate("conformal", np.arange(float(n)), rate=rate)
    assert calibrate("conformal", np.arange(float(needed)), rate=rate).threshold == needed - 1


@pytest.mark.parametrize(
    ("scores", "rate", "flagged"),
    [
        ([0.0] * 40 + [1.0] * 10, 0.2, 10),
        ([0.0] * 40 + [1.0] * 10, 0.1, 10),
        ([0.0] * 10 + [1.0] * 20 + [2.0] * 20, 0.5, 20),
        ([0.0] * 30 + [1.0] * 18 + [2.0] * 2, 0.3, 20),
        ([3.0] * 50, 0.2, 0),
    ],
)
def test_ties_flag_the_nearest_share_that_they_can(scores: list[float], rate: float, flagged: int) -> None:
    calibration = calibrate("contamination", np.array(scores), rate=rate)
    assert (np.array(scores) > calibration.threshold).sum() == flagged
    share = (
        None if flagged == rate * len(scores) else f"{flagged} of 50 samples are flagged, a share of {flagged / 50:g}"
    )
    assert (calibration.note is None) if share is None else share in str(calibration.note)


def test_contamination_is_scikit_learns() -> None:
    scores = np.random.default_rng(0).normal(size=101)
    assert calibrate("contamination", scores, rate=0.1).threshold == -np.percentile(-scores, 10)


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


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_the_promise_for_new_samples_holds(rate: float) -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(1000):
        calibration = Conformal(rate).fit(rng.normal(size=200)).calibration_
        low, high = promised_alarms(calibration, 150)
        inside += low <= np.mean(rng.normal(size=150) > calibration.threshold) <= high
    assert 0.93 <= inside / 1000 <= 0.99  # 95 %, and a little more for a count is discrete


def test_a_conditional_promise_takes_the_most_that_it_can() -> None:
    """The law of the share above the r-th largest, by drawing it; 50 normals could promise nothing before."""
    rng = np.random.default_rng(0)
    shares = 1 - np.sort(rng.random((20_000, 50)), axis=1)[:, ::-1]
    rank = conditional_rank(50, 0.1, 0.05)
    kept = (shares <= 0.1).mean(axis=0)
    assert rank == 2
    assert kept[rank - 1] >= 0.95 > kept[rank]
    with pytest.raises(DataError, match="10 held-out normals .* which takes 29: give more, ask for 0.259 or above"):
        conditional_rank(10, 0.1, 0.05)
    assert conditional_rank(29, 0.1, 0.05) == 1


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (59, 0.05), (200, 0.3), (1000, 0.01)])
@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_the_thresholds_interval_covers_the_quantile(n: int, rate: float, draw: Draw) -> None:
    rng = np.random.default_rng(3)
    truth = np.quantile(draw(rng, 400_000), 1 - rate)
    covered = 0
    for _ in range(500):
        found = calibrate("quantile", draw(rng, n), rate=rate)
        covered += (found.threshold_low is None or found.threshold_low <= truth) and (
            found.threshold_high is None or truth <= found.threshold_high
        )
    assert covered / 500 >= 0.93


def test_an_interval_without_a_bound_says_so() -> None:
    few = calibrate("quantile", np.arange(20.0), rate=0.05)
    assert (few.threshold_low, few.threshold_high) == (16.0, None)
    assert few.threshold_interval("{:.1f}".format) == "95 % interval from 16.0, unbounded above"
    low = calibrate("quantile", np.arange(20.0), rate=0.9)
    assert low.threshold_interval(str).endswith("unbounded below")
    assert calibrate("youden", np.arange(4.0), np.array([0, 0, 1, 1])).threshold_interval(str) == "no interval"
    assert calibrate("quantile", np.arange(200.0)).threshold_interval(str) == "95 % interval 183.0 to 196.0"


@pytest.mark.parametrize("share", [0.01, 0.04, 0.3])
def test_the_expected_rate_covers_the_true_one_of_tied_scores(share: float) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        found = calibrate("conformal", (rng.random(200) < share).astype(float), rate=0.05)
        truth = share if found.threshold == 0 else 0.0
        covered += found.false_alarm_low <= truth <= found.false_alarm_high
    assert covered / 500 >= 0.95
