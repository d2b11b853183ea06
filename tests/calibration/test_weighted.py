"""Thresholds and p-values for a target whose normals come in other proportions than the held-out ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.calibration import conformal, intervals
from vae_anomaly.calibration.from_normals import Conformal
from vae_anomaly.calibration.methods import calibrate
from vae_anomaly.calibration.recalibration import HeldOut, recalibrate
from vae_anomaly.calibration.result import Calibration
from vae_anomaly.calibration.weighted import Target, Weighted, effective_size, exceedance, normalised
from vae_anomaly.errors import DataError

RATES = st.floats(0.01, 0.6)
WEIGHTS = st.floats(1e-3, 1e3)
BAGS = st.lists(st.tuples(st.integers(-3, 3), WEIGHTS), min_size=2, max_size=25)


def target(weights: np.ndarray, n_rows: int = 100, auc: float = 0.8) -> Target:
    return Target(weights=weights, n_rows=n_rows, auc=auc)


def unzipped(bag: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    scores, weights = np.array(bag, float).T
    return scores, weights


def modes(rng: np.random.Generator, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of normals, three times as wide in a mode that comes as often as said, and which are of that mode."""
    loud = rng.random(n) < share
    return np.abs(rng.normal(size=n)) * np.where(loud, 3.0, 1.0), loud


@given(scores=st.lists(st.integers(-4, 4), min_size=1, max_size=60), new=st.lists(st.integers(-5, 5)), rate=RATES)
def test_with_equal_weights_all_is_as_without(scores: list[int], new: list[int], rate: float) -> None:
    known, others = np.array(scores, float), np.array(new, float)
    plain = conformal.p_values(known, others)
    np.testing.assert_array_equal(conformal.p_values(known, others, np.ones(len(known))), plain)
    stops = np.append(others, known)
    above = (known > stops[:, None]).sum(axis=1)
    for mine, theirs in zip(
        exceedance(known, np.ones(len(known)), stops), intervals.exceedance(above, len(known)), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    try:
        expected = Conformal(rate).fit(known).threshold_
    except DataError:
        with pytest.raises(DataError, match="cannot promise"):
            Weighted(rate, target(np.full(len(known), 0.7))).fit(known)
    else:
        assert Weighted(rate, target(np.full(len(known), 0.7))).fit(known).threshold_ == expected


@given(bag=BAGS, rate=RATES)
def test_whichever_row_is_the_new_one_the_rate_is_kept(bag: list[tuple[int, float]], rate: float) -> None:
    # given which n + 1 rows there are, each is the new one with a probability in proportion to its true weight
    scores, weights = unzipped(bag)
    flagged = 0.0
    for j in range(len(scores)):
        known, others = np.delete(scores, j), np.delete(weights, j)
        p = conformal.p_values(known, scores[j : j + 1], others)[0]
        flagged += weights[j] * (p <= rate)
    second, first = np.sort(weights)[-2:]
    total = weights.sum()
    assert flagged / total <= rate + (1 - rate) * (first - second) / total + 1e-9


@given(bag=BAGS, rate=RATES)
def test_the_threshold_flags_what_has_a_p_value_of_at_most_the_rate(bag: list[tuple[int, float]], rate: float) -> None:
    scores, weights = unzipped(bag)
    stops = np.arange(-4, 4.5, 0.5)
    p = conformal.p_values(scores, stops, normalised(weights))
    assert (np.diff(p) <= 0).all()  # higher is more anomalous, so that a row never gains by a higher score
    try:
        found = Weighted(rate, target(weights)).fit(scores)
    except DataError:
        assert p.min() > rate
    else:
        clear = np.abs(p - rate) > 1e-8
        np.testing.assert_array_equal((stops > found.threshold_)[clear], (p <= rate)[clear])
        assert found.calibration_.n_effective is not None
        assert found.calibration_.n_effective >= (1 / rate - 1) * (1 - 1e-6)
        assert found.calibration_.false_alarm_rate <= rate + 1e-8
        assert (
            found.calibration_.false_alarm_low
            <= found.calibration_.false_alarm_rate
            <= found.calibration_.false_alarm_high
        )


@given(bag=BAGS, factor=st.sampled_from([1e-200, 0.5, 3.0, 1e200]), seed=st.integers(0, 9))
def test_neither_a_factor_of_the_weights_nor_the_order_matters(
    bag: list[tuple[int, float]], factor: float, seed: int
) -> None:
    scores, weights = unzipped(bag)
    order = np.random.default_rng(seed).permutation(len(scores))
    labels = np.zeros(len(scores), int)
    first = Weighted(0.6, target(weights))
    second = Weighted(0.6, target(factor * weights[order]))
    try:
        a = first.fit(scores, labels).calibration_
    except DataError:
        with pytest.raises(DataError, match="cannot promise"):
            second.fit(scores[order], labels)
    else:
        b = second.fit(scores[order], labels).calibration_
        assert a.threshold == b.threshold
        assert a.n_effective == pytest.approx(b.n_effective)


@given(bag=BAGS)
def test_no_row_hides_itself_by_its_weight(bag: list[tuple[int, float]]) -> None:
    scores, weights = unzipped(bag)
    stops = np.arange(-4.0, 5.0)
    at_least = np.array([weights[scores >= stop].sum() for stop in stops])
    p = conformal.p_values(scores, stops, weights)
    for own in weights:  # of a row like one that is held out: Tibshirani et al.'s p-value
        assert (p >= (at_least + own) / (weights.sum() + own) - 1e-12).all()


@given(weights=st.lists(WEIGHTS, min_size=1, max_size=50))
def test_the_effective_size_lies_between_one_and_all(weights: list[float]) -> None:
    assert 1 - 1e-9 <= effective_size(np.array(weights)) <= len(weights) + 1e-9
    assert effective_size(np.full(len(weights), weights[0])) == pytest.approx(len(weights))


def test_a_rate_that_is_wrong_by_a_factor_of_five_is_kept_with_the_true_ratio() -> None:
    rng, plain, weighted = np.random.default_rng(0), [], []
    new = modes(rng, 100_000, 0.6)[0]
    for _ in range(60):
        scores, loud = modes(rng, 1000, 0.1)
        plain.append((new > Conformal(0.05).fit(scores).threshold_).mean())
        known = target(np.where(loud, 0.6 / 0.1, 0.4 / 0.9))
        weighted.append((new > Weighted(0.05, known).fit(scores).threshold_).mean())
    assert np.mean(plain) >= 4 * 0.05
    assert 0.035 <= np.mean(weighted) <= 0.05 + 3 * np.std(weighted) / np.sqrt(60)


def test_too_small_an_effective_size_is_refused_with_what_to_do() -> None:
    scores, weights = np.arange(100.0), np.append(np.ones(99), 30.0)
    with pytest.raises(DataError) as caught:
        Weighted(0.05, target(weights)).fit(scores)
    assert str(caught.value) == (
        "weighted: 100 held-out normals count as 16.7 for this target (effective sample size), the heaviest as 23.3, "
        "and cannot promise a false-alarm rate of 0.05: give more normals that are like the target, or ask for 0.189 "
        "or above"
    )
    assert Weighted(0.19, target(weights)).fit(scores).calibration_.n_effective == pytest.approx(129**2 / 999)


@pytest.mark.parametrize("bad", [[1.0, 0.0, 1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], [1.0, np.inf, 1.0], [1.0, 1.0]])
def test_weights_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(DataError, match="weights"):
        Weighted(0.5, target(np.array(bad))).fit(np.arange(3.0))


def test_the_basis_says_how_much_is_known_and_whether_anything_has_shifted() -> None:
    scores = np.arange(200.0)
    shifted = Weighted(0.05, target(np.linspace(1, 3, 200))).fit(scores).calibration_
    assert shifted.basis == (
        "weighted for 100 rows of a target: 200 held-out normals count as 184 (effective sample size); a classifier "
        "tells both apart with ROC-AUC 0.800"
    )
    same = Weighted(0.05, target(np.ones(200), auc=0.52)).fit(scores).calibration_
    assert same.basis is not None
    assert same.basis.endswith("ROC-AUC 0.520, no sign of a shift: method conformal promises the same without a ratio")


def held_out(weights: np.ndarray | None = None) -> HeldOut:
    scores = -np.arange(200.0)
    known: dict[str, Target] = {} if weights is None else {"target": target(weights)}
    calibration = calibrate("conformal" if weights is None else "weighted", -scores, **known)
    return HeldOut(calibration, scores, None if weights is None else normalised(weights))


def test_a_models_own_normals_keep_their_weights_and_others_have_none() -> None:
    weights = np.linspace(1, 3, 200)
    own = held_out(weights)
    again = recalibrate(own, None, np.empty(0), None, rate=0.1)
    assert (again.calibration.method, again.calibration.n_target) == ("weighted", 100)
    np.testing.assert_array_equal(again.weights, own.weights)
    assert again.calibration.threshold == Weighted(0.1, target(weights)).fit(-own.scores).threshold_
    others = recalibrate(own, -np.arange(50.0), np.empty(0), None)
    assert (others.calibration.method, others.weights, others.calibration.n_effective) == ("conformal", None, None)


@pytest.mark.parametrize(
    ("weights", "method", "options", "message"),
    [
        (
            np.linspace(1, 3, 200),
            "pot",
            {},
            "method 'pot' knows no weights: this model's held-out normals are weighted",
        ),
        (None, "weighted", {}, "method 'weighted' needs --target"),
        (
            None,
            "pot",
            {"target": target(np.ones(200))},
            "method 'pot' knows no weights: leave out the method, or the target",
        ),
    ],
)
def test_what_does_not_go_with_weights_is_refused(weights, method: str, options: dict, message: str) -> None:
    own = held_out(weights)
    with pytest.raises(DataError, match=message):
        recalibrate(own, None, np.empty(0), method, **options)


def test_an_unweighted_calibration_says_nothing_of_a_target() -> None:
    found = held_out().calibration
    assert isinstance(found, Calibration)
    assert (found.n_effective, found.n_target, found.target_auc) == (None, None, None)
