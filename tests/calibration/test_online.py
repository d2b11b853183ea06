"""Rules that decide a stream: laws over all of them, the budget of online FDR, and the share of adaptive thresholds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import adverse_stream

from vae_anomaly.calibration.adaptive import AdaptiveThreshold, spread
from vae_anomaly.calibration.conformal import conditional, p_values
from vae_anomaly.calibration.online import StreamRule
from vae_anomaly.calibration.online_fdr import SHARED_NORMALS, OnlineFDR
from vae_anomaly.errors import DataError

NORMALS = np.random.default_rng(0).normal(size=39)
RULES: dict[str, Callable[[], StreamRule]] = {
    "saffron": lambda: OnlineFDR(0.3),
    "lord": lambda: OnlineFDR(0.3, candidate_level=0),
    "saffron, 39 normals": lambda: OnlineFDR(0.4, n_normals=39),
    "lord, 39 normals": lambda: OnlineFDR(0.4, n_normals=39, candidate_level=0),
    "saffron, 39 normals, delta": lambda: OnlineFDR(0.4, n_normals=39, delta=0.1),
    "adaptive": lambda: AdaptiveThreshold(0.2, NORMALS, step=0.05, window=20),
    "adaptive, a window that fills": lambda: AdaptiveThreshold(0.2, NORMALS[:3], window=10),
}
FDR_RULES = [name for name in RULES if "adaptive" not in name]
VALUES = st.lists(st.sampled_from([0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.7, 1.0]), max_size=80)


@pytest.mark.parametrize("name", RULES)
@given(values=VALUES, cuts=st.lists(st.integers(0, 80), max_size=5))
@settings(deadline=None, max_examples=40)
def test_a_stream_in_pieces_of_any_size_and_by_way_of_its_state_has_the_same_bits(
    name: str, values: list[float], cuts: list[int]
) -> None:
    whole = RULES[name]()
    expected = whole.update(values)
    state = RULES[name]().to_state()
    parts = []
    for first, last in pairwise(sorted([0, *(min(cut, len(values)) for cut in cuts), len(values)])):
        rule = RULES[name]()
        rule.resume(json.loads(json.dumps(state)))
        parts.append(rule.update(values[first:last]))
        state = rule.to_state()
    for column, of_parts in zip(expected, zip(*parts, strict=True), strict=True):
        assert np.concatenate(of_parts).tobytes() == column.tobytes()
    assert state == whole.to_state()


@pytest.mark.parametrize("name", RULES)
@given(values=VALUES, more=VALUES)
@settings(deadline=None, max_examples=30)
def test_a_decision_rests_on_no_later_row(name: str, values: list[float], more: list[float]) -> None:
    alone, longer = RULES[name]().update(values), RULES[name]().update(values + more)
    for column, of_longer in zip(alone, longer, strict=True):
        assert column.tobytes() == of_longer[: len(values)].tobytes()
    assert (alone.flagged == (alone.p_values <= alone.levels)).all()


@pytest.mark.parametrize("name", FDR_RULES)
@given(p=VALUES)
@settings(deadline=None, max_examples=40)
def test_what_is_spent_on_rows_that_are_no_candidates_never_exceeds_what_was_earned(name: str, p: list[float]) -> None:
    rule = RULES[name]()
    assert isinstance(rule, OnlineFDR)
    budget = rule.level * rule.rows_of_a_budget
    flagged, _, levels = rule.update(p)
    spent = np.cumsum(levels * (np.asarray(p) > rule.candidate_level))
    assert (spent <= budget * np.maximum(1, np.cumsum(flagged)) + 1e-9).all()
    assert budget <= (1 - rule.candidate_level) * rule.rate + 1e-12
    assert rule.candidate_level == 0 or (levels <= rule.candidate_level).all()


@pytest.mark.parametrize("name", FDR_RULES)
@given(p=VALUES, place=st.integers(0, 79), smaller=st.sampled_from([0.01, 0.05, 0.3]))
@settings(deadline=None, max_examples=40)
def test_a_smaller_p_value_lowers_no_later_level(name: str, p: list[float], place: int, smaller: float) -> None:
    other = [min(value, smaller) if i == place else value for i, value in enumerate(p)]
    assert (RULES[name]().update(p).levels <= RULES[name]().update(other).levels).all()


@given(p=VALUES)
@settings(deadline=None, max_examples=40)
def test_it_is_lord_plus_plus_with_a_budget_that_is_spent_evenly(p: list[float]) -> None:
    rule, k = OnlineFDR(0.4, n_normals=39, candidate_level=0), 9
    assert rule.rows_of_a_budget == k == math.floor(SHARED_NORMALS * 0.4 * 40)
    flagged, _, levels = rule.update(p)
    gamma, at = np.zeros(200), np.flatnonzero(flagged)
    gamma[:k] = 1 / k
    for t, level in enumerate(levels):  # its definition, with all wealth there at the start
        earned = [gamma[t], *(gamma[t - tau - 1] for tau in at[1:] if tau < t)]
        assert level == pytest.approx(SHARED_NORMALS * 0.4 * sum(earned))


def test_the_mean_that_the_promise_for_one_set_of_normals_rests_on() -> None:
    rng = np.random.default_rng(0)
    for n, candidate_level in ((9, 0.0), (40, 0.5), (200, 0.5)):
        of_rank = np.sort(rng.random((20_000, n)), axis=1)  # chance of a p-value of at most 1, 2, ... of n + 1
        n_candidates = math.floor(candidate_level * (n + 1))
        j = np.arange(1, (n_candidates or n) + 1)
        factor = ((n + 1) * of_rank[:, : len(j)] / j).max(axis=1)
        if n_candidates:
            factor /= 1 - of_rank[:, n_candidates - 1]
        budget = OnlineFDR(0.1, n_normals=n, candidate_level=candidate_level)
        spent = budget.level * budget.rows_of_a_budget
        assert factor.mean() * spent <= 0.1 + 3 * 0.1 * factor.std() / math.sqrt(len(factor))
        assert factor.mean() * spent >= 0.07  # not much is given away


def test_against_the_worst_anomalies_the_promise_holds_and_would_not_with_lord_plus_plus_own_levels() -> None:
    found = []
    for rate in (0.1, 0.1 / SHARED_NORMALS):
        rng, wrong = np.random.default_rng(0), []
        for _ in range(200):
            rule = OnlineFDR(rate, n_normals=2000, candidate_level=0)
            p, is_odd = adverse_stream(rng, 2000, 6000, rule.rows_of_a_budget)
            flagged = rule.update(p).flagged
            wrong.append((flagged & ~is_odd).sum() / flagged.sum())
        found.append((np.mean(wrong), np.std(wrong) / math.sqrt(len(wrong))))
    (kept, error), (broken, error_of_broken) = found
    assert kept < 0.1 - 3 * error
    assert broken > 0.1 + 3 * error_of_broken


def test_the_smallest_p_value_is_reached_by_one_budget_for_as_many_rows_as_can_be() -> None:
    for n in range(20, 400):
        for delta in (None, 0.1):
            rule = OnlineFDR(0.3, n_normals=n, delta=delta)
            smallest = p_values(np.zeros(n), np.ones(1))
            assert rule.smallest == (smallest if delta is None else conditional(smallest, n, delta))[0]
            budget = rule.level * rule.rows_of_a_budget
            assert budget / (rule.rows_of_a_budget + 1) < rule.smallest * (1 + 1e-6)
            assert rule.can_flag == (budget > rule.smallest)
            assert rule.can_flag == rule.update(smallest if delta is None else [rule.smallest]).flagged.all()
    assert not OnlineFDR(0.01, n_normals=20).can_flag


def test_a_stream_without_discoveries_ends() -> None:
    rule = OnlineFDR(0.1, n_normals=999)
    rows = rule.rows_of_a_budget
    assert rule.update(np.ones(rows - 1)).levels.min() >= rule.smallest
    assert rule.can_flag
    assert rule.update(np.ones(1)).levels >= rule.smallest
    assert not rule.can_flag
    assert not rule.update(np.full(50, rule.smallest)).flagged.any()


def test_a_burst_of_any_length_takes_no_memory() -> None:
    rule = OnlineFDR(0.1, n_normals=999)
    assert rule.update(np.full(10_000, 0.001)).flagged.all()
    assert len(rule.to_state()["budgets"]) == 1
    rule.update(np.tile([0.001, 0.9], 5_000))
    assert len(rule.to_state()["budgets"]) <= rule.rows_of_a_budget


@given(
    share=st.floats(0.001, 0.999),
    step=st.floats(0.001, 0.9),
    window=st.integers(1, 30),
    scores=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=150),
)
@settings(deadline=None, max_examples=40)
def test_the_long_run_share_is_kept_on_any_sequence(
    share: float, step: float, window: int, scores: list[float]
) -> None:
    flagged, _, levels = AdaptiveThreshold(share, NORMALS, step=step, window=window).update(scores)
    rows = np.arange(1, len(scores) + 1)
    kept_within = (max(share, 1 - share) + step) / (step * rows)
    assert (np.abs(np.cumsum(flagged) / rows - share) <= kept_within + 1e-9).all()
    assert -step - 1e-9 <= levels.min() <= levels.max() <= 1 + step + 1e-9


@pytest.mark.parametrize("way", ["to be flagged", "not to be flagged", "at random"])
def test_the_long_run_share_is_kept_against_an_adversary_who_sees_the_level(way: str) -> None:
    rule, rng = AdaptiveThreshold(0.05, NORMALS, step=0.02, window=50), np.random.default_rng(0)
    score, n_rows = 0.0, 3000
    for _ in range(n_rows):
        is_above = {"to be flagged": True, "not to be flagged": False, "at random": rng.random() < 0.5}[way]
        score += 1.0 if is_above else -1.0
        rule.update([score])
    assert abs(rule.n_flagged / n_rows - 0.05) <= (0.95 + 0.02) / (0.02 * n_rows)


def test_under_drift_beyond_all_held_out_normals_odd_rows_are_still_found() -> None:
    rng = np.random.default_rng(0)
    scores, is_odd = rng.normal(size=8000) + np.linspace(0, 40, 8000), rng.random(8000) < 0.02
    scores[is_odd] += 8
    flagged = AdaptiveThreshold(0.05, rng.normal(size=500)).update(scores).flagged
    assert flagged[is_odd].mean() > 0.95
    assert flagged[4000:][~is_odd[4000:]].mean() < 0.05


def test_the_first_scores_are_spread_over_those_of_the_normals() -> None:
    first = spread(np.arange(1000.0), 100)
    assert sorted(first) == list(np.arange(5, 1000, 10))
    assert abs(first[:20].mean() - 500) < 60
    assert sorted(spread(NORMALS, 1000)) == sorted(NORMALS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OnlineFDR(0), "rate must lie between 0 and 1, got 0"),
        (lambda: OnlineFDR(float("nan")), "rate must lie between 0 and 1"),
        (lambda: OnlineFDR(0.1, candidate_level=1), "candidate_level must be at least 0 and below 1, got 1"),
        (lambda: OnlineFDR(0.1, n_normals=0), "n_normals must be a whole number of at least 1, got 0"),
        (lambda: OnlineFDR(0.1, delta=0.1), "delta goes with n_normals"),
        (lambda: OnlineFDR(0.1, n_normals=9, delta=1), "delta must lie between 0 and 1, got 1"),
        (lambda: OnlineFDR(0.1).update([0.1, 1.5]), r"p-values lie in \[0, 1\], got 0.1 to 1.5"),
        (lambda: OnlineFDR(0.1).update([[0.1]]), "needs a vector of finite numbers"),
        (lambda: OnlineFDR(0.1).update([float("nan")]), "needs a vector of finite numbers"),
        (lambda: AdaptiveThreshold(1, NORMALS), "share must lie between 0 and 1, got 1"),
        (lambda: AdaptiveThreshold(0.1, NORMALS, step=0), "step must lie between 0 and 1, got 0"),
        (lambda: AdaptiveThreshold(0.1, NORMALS, window=0), "window must be at least 1, got 0"),
        (lambda: AdaptiveThreshold(0.1, []), "normals: needs a vector of at least one score"),
        (lambda: AdaptiveThreshold(0.1, NORMALS).update([np.inf]), "needs a vector of finite numbers"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


ODD = [
    None,
    -1,
    1.5,
    True,
    "1",
    1 << 60,
    [],
    {},
    [[0, 0]],
    [[-1, 1]],
    [[0, 1], [5, 1]],
    [[99, 1]],
    [[0, 9]],
    [[0, True]],
]


@pytest.mark.parametrize("name", RULES)
def test_a_state_that_no_rows_lead_to_is_refused_or_goes_on(name: str) -> None:
    rule = RULES[name]()
    rule.update(np.tile([0.01, 0.9], 20))
    good = rule.to_state()
    n_refused = 0
    for field in good:
        for odd in [*ODD, [float("nan")] * 20, [0] * 20, "missing"]:
            other = RULES[name]()
            state = {key: value for key, value in (good | {field: odd}).items() if key != field or odd != "missing"}
            try:
                other.resume(state)
            except DataError:
                n_refused += 1
                assert other.to_state() == RULES[name]().to_state()
            else:
                other.update([0.01, 0.5])
    assert n_refused > 25
