"""Each row is scored by a model that was fitted without it, and all rows set the threshold."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Make, table
from vae_anomaly import VAEDetector
from vae_anomaly.calibration.result import BY_FOLDS, LEFT_OUT
from vae_anomaly.cli.text import describe_calibration
from vae_anomaly.errors import DataError
from vae_anomaly.fitting import fit
from vae_anomaly.fitting.calibration_folds import folds_of
from vae_anomaly.fitting.groups import MIN_GROUPS, Groups
from vae_anomaly.parameters import DEFAULTS
from vae_anomaly.storage.rows import RowsInMemory


def folds(n: int, groups: Groups | None = None, **parameters: object) -> np.ndarray | None:
    rows = RowsInMemory(np.zeros((n, 2)), None, "X")
    return folds_of(DEFAULTS | parameters, rows, groups, np.random.default_rng(0))


@given(st.integers(10, 400), st.integers(2, 12))
def test_folds_are_of_one_size_and_hold_each_row_once(n: int, k: int) -> None:
    found = folds(n, calibration_folds=k)
    assert found is not None
    assert np.ptp(np.bincount(found, minlength=min(k, n // 2))) <= 1


@given(st.lists(st.integers(0, 20), min_size=10, max_size=150).filter(lambda names: len(set(names)) >= MIN_GROUPS))
def test_groups_are_whole_and_enough_are_left_of_them(names: list[int]) -> None:
    groups, of_rows = Groups.of(len(names), names, None, time_ordered=False), np.array(names)
    found = folds(len(names), groups)
    if found is None:
        with pytest.raises(DataError, match="would be left without one of 5 folds, and 3 are needed"):
            folds(len(names), groups, calibration_folds=5)
        return
    for name in set(names):
        assert len(set(found[of_rows == name])) == 1
    for fold in set(found):
        assert len(set(of_rows[found != fold])) >= MIN_GROUPS


@pytest.mark.parametrize(
    ("n", "parameters", "has_folds"),
    [
        (9, {}, False),
        (10, {}, True),
        (185, {}, True),
        (190, {}, False),
        (60, {"calibration_fraction": 0.5}, False),
        (60, {"calibration_folds": 1}, False),
        (5_000, {"calibration_folds": 4}, True),
    ],
)
def test_folds_are_made_where_a_tenth_is_too_few(n: int, parameters: dict[str, object], has_folds: bool) -> None:
    assert (folds(n, **parameters) is not None) == has_folds


def test_rows_in_order_of_time_have_no_folds() -> None:
    groups = Groups.of(60, None, np.arange(60), time_ordered=True)
    assert folds(60, groups) is None
    with pytest.raises(DataError, match="calibration_folds=5 needs rows that are not in order of time"):
        folds(60, groups, calibration_folds=5)
    with pytest.raises(DataError, match="got 9 rows: leave calibration_folds='auto'"):
        folds(9, calibration_folds=5)


def test_each_row_is_scored_by_a_model_that_was_fitted_without_it(
    make_table: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, fits = make_table(40), []
    whole = fit.fit_uncalibrated

    def noting(rows, *others):
        fitted = whole(rows, *others)
        fits.append((rows[:], fitted.model))
        return fitted

    monkeypatch.setattr(fit, "fit_uncalibrated", noting)
    detector = VAEDetector(epochs=2, calibration_folds=4).fit(X)
    (_, own), *others = fits
    assert own is detector.model_
    assert len(others) == 4
    scores = detector.calibration_scores_
    for rows, model in others:
        assert len(rows) == 30
        is_out = ~(X[:, None] == rows[None]).reshape(40, 30, -1).all(axis=2).any(axis=1)
        assert is_out.sum() == 10
        np.testing.assert_array_equal(scores[is_out], model.score_samples(model.rows(X[is_out]), detector.model_.score))
    assert {len(held_out) for held_out in detector.model_.held_out_scores.values()} == {40}


def test_what_rests_on_folds_says_so_until_others_set_the_threshold(make_table: Make) -> None:
    detector = VAEDetector(epochs=1).fit(make_table(60))
    calibration = detector.calibration_
    assert calibration.n_normal == 60
    assert calibration.note is None
    for asked in (calibration, detector.calibrate(rate=0.1).calibration_, detector.calibrate(rate=0.2).calibration_):
        assert asked.basis == BY_FOLDS
        assert asked.promise() == f"a new normal is flagged with a probability near {asked.rate}"
    assert detector.calibrate(make_table(60, seed=5)).calibration_.basis is None
    assert VAEDetector(epochs=1, calibration_folds=1).fit(make_table(60)).calibration_.basis == LEFT_OUT


def test_images_have_none(make_images: Make) -> None:
    X = make_images(40)
    assert VAEDetector(epochs=1).fit(X).calibration_.n_normal == 4
    with pytest.raises(DataError, match="calibration_folds=5 is for tables"):
        VAEDetector(epochs=1, calibration_folds=5).fit(X)


def test_folds_are_the_same_in_every_fit(make_table: Make) -> None:
    first, second = (VAEDetector(epochs=2, random_state=3).fit(make_table(50)) for _ in range(2))
    for name, held_out in first.model_.held_out_scores.items():
        np.testing.assert_array_equal(held_out, second.model_.held_out_scores[name])


def test_a_contamination_expects_of_new_samples_what_folds_show() -> None:
    detector = VAEDetector(epochs=2, contamination=0.1).fit(table(100))
    calibration = detector.calibration_
    assert calibration.n_unseen == calibration.n_counted == 100
    assert calibration.basis == BY_FOLDS
    assert calibration.false_alarm_rate == (detector.calibration_scores_ < detector.offset_).mean()
    assert "from 100 samples" in describe_calibration(asdict(calibration))[2]
    assert (detector.predict(table(100)) == -1).mean() == 0.1
