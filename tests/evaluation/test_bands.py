"""Bands: the curve lies inside, the truth does about as often as promised, and the ends claim no more than is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from vae_anomaly.calibration.conformal import p_values
from vae_anomaly.calibration.intervals import clopper_pearson
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation import evaluate
from vae_anomaly.evaluation.bands import GRID, Band, p_value_band, precision_recall_band, roc_band


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, or without."""
    n, m = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    scores = rng.normal(size=n + m) + draw(st.sampled_from([0.0, 1.0, 9.0])) * (np.arange(n + m) < m)
    return np.round(scores, draw(st.sampled_from([0, 8]))), (np.arange(n + m) < m).astype(int)


@settings(max_examples=20)
@given(scored())
def test_a_roc_band_holds_its_curve_and_never_falls(data: tuple[np.ndarray, np.ndarray]) -> None:
    band = roc_band(*data)
    curve = evaluate(*data).roc
    found = np.interp(band.x, curve.x, curve.y)
    assert (band.low <= found + 1e-12).all()
    assert (found <= band.high + 1e-12).all()
    assert (np.diff(band.low) >= -1e-12).all()
    assert (np.diff(band.high) >= -1e-12).all()
    assert band.low.min() >= 0
    assert band.high.max() <= 1


@settings(max_examples=20)
@given(scored())
def test_a_precision_band_holds_its_curve_at_each_anomaly(data: tuple[np.ndarray, np.ndarray]) -> None:
    band = precision_recall_band(*data)
    scores, labels = data
    for threshold in np.unique(scores[labels == 1]):
        flagged = scores >= threshold
        recall, precision = flagged[labels == 1].mean(), labels[flagged].mean()
        at = np.flatnonzero(np.isclose(band.x, recall))
        assert all(band.low[i] - 1e-9 <= precision <= band.high[i] + 1e-9 for i in at)
    assert (band.low > 0).all()
    assert (band.high <= 1).all()
    assert band.x[0] >= 1 / labels.sum() - 1e-12


def separated(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[np.arange(n), n + np.arange(m)], np.r_[np.zeros(n), np.ones(m)]


@pytest.mark.parametrize(("n", "m"), [(200, 20), (20, 200), (1, 1)])
def test_perfect_separation_leaves_doubt(n: int, m: int) -> None:
    band = roc_band(*separated(n, m))
    unbounded = (1 - GRID) ** n > 0.025
    np.testing.assert_array_equal(band.low[unbounded], 0)
    np.testing.assert_allclose(band.low[~unbounded][:-1], clopper_pearson(m, m)[1])
    np.testing.assert_array_equal(band.high, 1)
    assert band.low[-1] == 1
    precision = precision_recall_band(*separated(n, m))
    np.testing.assert_array_equal(precision.high, 1)
    assert precision.low[-1] == pytest.approx(m / (m + n))
    assert (precision.low < 1).all()


def test_bands_hold_the_true_curves_as_often_as_promised() -> None:
    n, m, distance, repeats = 60, 40, 1.5, 80
    labels = np.r_[np.zeros(n), np.ones(m)]
    rng = np.random.default_rng(0)
    hits = np.zeros((2, 200))
    for _ in range(repeats):
        scores = rng.normal(size=n + m) + distance * labels
        roc, precision = roc_band(scores, labels), precision_recall_band(scores, labels)
        truth = norm.sf(norm.isf(roc.x) - distance)
        hits[0] += ((roc.low <= truth) & (truth <= roc.high))[1:]
        alarms = norm.sf(norm.isf(GRID[1:]) + distance)
        truth = m * GRID[1:] / (m * GRID[1:] + n * alarms)
        low, high = (np.interp(GRID[1:], precision.x, side) for side in (precision.low, precision.high))
        hits[1] += (low <= truth + 1e-9) & (truth <= high + 1e-9)
    inside = GRID[1:] >= 1 / m
    assert (hits[0] / repeats).min() > 0.88
    assert (hits[1, inside] / repeats).min() > 0.88
    assert (hits[0, 40:120] / repeats).mean() < 0.995  # nor wider than it need be


def same(a: Band, b: Band) -> bool:
    return all(np.array_equal(x, y) for x, y in ((a.x, b.x), (a.low, b.low), (a.high, b.high)))


def test_bands_are_the_same_every_time_and_depend_on_ranks_alone() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    scores = rng.normal(size=300) + labels
    assert same(roc_band(scores, labels), roc_band(np.exp(scores), labels))
    assert same(precision_recall_band(scores, labels), precision_recall_band(7 * scores - 3, labels))
    assert same(p_value_band(50, 20), p_value_band(50, 20))


@pytest.mark.parametrize("band", [roc_band, precision_recall_band])
def test_one_kind_of_label_is_refused(band: object) -> None:
    with pytest.raises(DataError, match="needs both kinds of label"):
        band(np.arange(3), np.zeros(3))  # type: ignore[operator]


@pytest.mark.parametrize("n_calibration", [None, 40, 400])
def test_whole_curves_of_p_values_stay_inside_95_times_in_100(n_calibration: int | None) -> None:
    n_new, repeats = 150, 600
    band = p_value_band(n_new, n_calibration)
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(repeats):
        p = rng.random(n_new) if n_calibration is None else p_values(rng.random(n_calibration), rng.random(n_new))
        share = np.searchsorted(np.sort(p), band.x + 1e-12, side="right") / n_new
        inside += bool(((band.low <= share) & (share <= band.high)).all())
    assert 0.92 < inside / repeats < 0.985


def test_a_band_of_p_values_ends_at_one_and_is_wider_for_fewer_held_out() -> None:
    few, many = p_value_band(500, 50), p_value_band(500)
    for band in (few, many):
        assert band.low[-1] == band.high[-1] == band.x[-1] == 1
        assert (band.low <= band.x).all()
        assert (band.high >= band.x).all()
    widths = [np.interp(0.5, band.x, band.high - band.low) for band in (few, many)]
    assert widths[0] > 2 * widths[1]
    with pytest.raises(DataError, match="at least one p-value and one held-out normal, got 3 and 0"):
        p_value_band(3, 0)
