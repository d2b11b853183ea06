"""Laws of what a report shows: chosen by scores alone, and counted as NumPy counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vae_anomaly.reports.page.selection import gallery_rows, table_rows, threshold_stops

scores = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float))


@given(scores, st.floats(-1e6, 1e6), st.integers(0, 2**31), st.booleans())
def test_each_kind_in_the_gallery_has_its_samples(
    score: np.ndarray, threshold: float, seed: int, labelled: bool
) -> None:
    anomalous = np.random.default_rng(seed).random(len(score)) < 0.4 if labelled else None
    rows = gallery_rows(score, threshold, anomalous, each=5)
    assert all(len(set(chosen.tolist())) == len(chosen) <= 5 for chosen in rows.values())
    top = rows["most anomalous"]
    np.testing.assert_array_equal(score[top], np.sort(score)[::-1][: len(top)])
    distance = np.abs(score - threshold)
    np.testing.assert_array_equal(distance[rows["borderline"]], np.sort(distance)[: len(top)])
    assert ("missed" in rows) == labelled
    if anomalous is not None:
        missed, alarms = (
            np.flatnonzero(anomalous & (score <= threshold)),
            np.flatnonzero(~anomalous & (score > threshold)),
        )
        np.testing.assert_array_equal(score[rows["missed"]], np.sort(score[missed])[:5])
        np.testing.assert_array_equal(score[rows["false alarms"]], np.sort(score[alarms])[::-1][:5])
        assert set(rows["missed"]) <= set(missed)
        assert set(rows["false alarms"]) <= set(alarms)
    if "typical" in rows:
        passed = score <= threshold if anomalous is None else ~anomalous
        assert passed[rows["typical"]].all()


def test_typical_rows_lie_in_the_middle() -> None:
    score = np.arange(101.0)
    assert sorted(gallery_rows(score, 80.0, score > 90, each=3)["typical"]) == [44, 45, 46]


@pytest.mark.parametrize(("n", "most"), [(1, 10), (10, 10), (11, 10), (1000, 10), (1000, 7)])
def test_table_rows_are_the_top_and_an_even_sample(n: int, most: int) -> None:
    score = np.random.default_rng(0).normal(size=n)
    rows = table_rows(score, most)
    assert len(set(rows.tolist())) == len(rows) == min(n, most)
    assert (np.diff(score[rows]) <= 0).all()
    top = most // 2 if n > most else n
    np.testing.assert_array_equal(rows[:top], np.argsort(-score)[:top])
    assert rows[-1] == np.argmin(score)


@given(scores, scores, st.integers(0, 2**31), st.integers(2, 30))
@settings(max_examples=60)
def test_stops_count_what_numpy_counts(score: np.ndarray, held_out: np.ndarray, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    anomalous = rng.random(len(score)) < 0.5
    threshold = float(rng.choice(held_out))
    stops = threshold_stops(score, anomalous, held_out, threshold, n)
    assert (np.diff(stops.threshold) > 0).all()
    assert len(stops.threshold) <= n + 1
    assert stops.threshold[stops.current] == threshold
    for i, stop in enumerate(stops.threshold):
        assert stops.flagged[i] == (score > stop).sum()
        assert stops.true_positives[i] == (score[anomalous] > stop).sum()
        assert stops.false_positives[i] == (score[~anomalous] > stop).sum()
        above = (held_out > stop).sum()
        assert stops.false_alarm_rate[i] == pytest.approx((above + 1) / (len(held_out) + 1))
        assert 0 <= stops.false_alarm_low[i] <= stops.false_alarm_rate[i] <= stops.false_alarm_high[i] <= 1
    assert stops.flagged[0] == len(score)


@given(scores, scores, st.integers(0, 2**31))
@settings(max_examples=30)
def test_stops_expect_what_the_weights_say(score: np.ndarray, held_out: np.ndarray, seed: int) -> None:
    threshold, ones = float(held_out[0]), np.ones(len(held_out))
    plain = threshold_stops(score, None, held_out, threshold)
    equal = threshold_stops(score, None, held_out, threshold, weights=ones)
    for name in ("false_alarm_rate", "false_alarm_low", "false_alarm_high"):
        np.testing.assert_allclose(getattr(equal, name), getattr(plain, name), atol=1e-12)
    weights = np.random.default_rng(seed).exponential(size=len(held_out)) + 0.01
    stops = threshold_stops(score, None, held_out, threshold, weights=weights)
    above = np.array([weights[held_out > stop].sum() for stop in stops.threshold])
    expected = (above + weights.max()) / (weights.sum() + weights.max())
    np.testing.assert_allclose(stops.false_alarm_rate, expected)
    assert (stops.false_alarm_low <= stops.false_alarm_rate + 1e-12).all()
    assert (stops.false_alarm_rate <= stops.false_alarm_high + 1e-12).all()


def test_stops_need_no_labels() -> None:
    stops = threshold_stops(np.arange(5.0), None, np.arange(3.0), 1.0)
    assert stops.true_positives is None
    assert stops.false_positives is None
    assert stops.flagged[stops.current] == 3
