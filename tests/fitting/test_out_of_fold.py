"""Laws of scores out of fold: no row is judged by a model that was fitted on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from vae_anomaly.errors import DataError
from vae_anomaly.fitting import out_of_fold
from vae_anomaly.fitting.fit import fit_model
from vae_anomaly.fitting.out_of_fold import OutOfFold, fit_out_of_fold
from vae_anomaly.fitting.samples import rows_to_fit
from vae_anomaly.parameters import DEFAULTS
from vae_anomaly.storage.rows import Rows, RowsInMemory

PARAMETERS = DEFAULTS | {"epochs": 2, "random_state": 3, "prior": "normal"}  # which leaves no row out


def make_rows(n: int = 60) -> Rows:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    frame["d"] = rng.choice(["x", "y"], n)
    frame.loc[7, "a"] = np.nan
    return rows_to_fit(frame, PARAMETERS)


@pytest.fixture(scope="module")
def found() -> OutOfFold:
    return fit_out_of_fold(make_rows(), PARAMETERS)


def test_each_model_is_fitted_on_all_folds_but_the_one_that_it_scores(
    found: OutOfFold, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, fitted = make_rows(), []

    def spy(X: Rows, parameters: dict[str, Any], groups: object = None) -> Any:
        fitted.append(X[:])
        return fit_model(X, parameters)

    monkeypatch.setattr(out_of_fold, "fit_model", spy)
    again = fit_out_of_fold(rows, PARAMETERS)
    assert len(fitted) == len(found.models) == 5
    for fold, training in enumerate(fitted):
        np.testing.assert_array_equal(training, rows[np.flatnonzero(again.folds != fold)])
    for name, values in found.scores.items():  # the same seed gives the same bits
        np.testing.assert_array_equal(again.scores[name], values)


def test_one_model_is_enough_where_a_row_is_left_out_of_its_own_score() -> None:
    rows = make_rows(100)
    found = fit_out_of_fold(rows, PARAMETERS | {"prior": "auto"})
    assert len(found.models) == 1
    (model,) = found.models
    assert model.vae.prior.weight == 0.25  # some rows may be anomalies
    table = model.score_table_of(rows[:])
    np.testing.assert_array_equal(found.scores["anomaly_score"], table["anomaly_score"])
    np.testing.assert_array_equal(found.held_out["anomaly_score"], table["anomaly_score"])
    assert sorted(found.scores["p_value"]) == pytest.approx(np.arange(1, 101) / 100)
    assert found.scores["p_value"].argmin() == table["anomaly_score"].argmax()
    assert found.scores["decision"].sum() <= 5
    assert len(fit_out_of_fold(rows, PARAMETERS | {"prior": "auto", "score_name": "likelihood_regret"}).models) == 5


def test_scores_and_reasons_are_those_of_the_rows_own_models(found: OutOfFold) -> None:
    rows = make_rows()
    assert np.bincount(found.folds).tolist() == [12] * 5
    for fold, model in enumerate(found.models):
        own = np.flatnonzero(found.folds == fold)
        table = model.score_table_of(rows[own])
        for name in ("anomaly_score", "p_value", "reconstruction", "kl", "missing"):
            np.testing.assert_array_equal(found.scores[name][own], table[name])
    assert found.scores["missing"].nonzero()[0].tolist() == [7]
    wanted = np.array([41, 3, 59])
    parts = list(found.explain(rows, None, wanted))
    assert sorted(np.concatenate([own for own, _ in parts])) == sorted(wanted)
    for own, explanation in parts:
        model = found.models[found.folds[own[0]]]
        np.testing.assert_array_equal(explanation.excess, model.explain(rows[own]).excess)


def test_the_threshold_is_of_all_held_out_rows_or_of_a_share(found: OutOfFold) -> None:
    assert len(found.held_out["anomaly_score"]) == sum(len(model.calibration_scores) for model in found.models)
    assert found.calibration.method == "conformal"
    np.testing.assert_array_equal(
        found.scores["decision"] == 1, found.scores["anomaly_score"] > found.calibration.threshold
    )
    share = OutOfFold.decided(found.models, found.folds, found.scores, 0.1)
    assert share.scores["decision"].sum() == 6


def test_few_rows_make_few_folds_and_too_few_are_refused() -> None:
    rng = np.random.default_rng(0)
    told: list[str] = []
    result = fit_out_of_fold(
        RowsInMemory(rng.normal(size=(10, 2))), PARAMETERS, 7, lambda which, n, seconds: told.append(which)
    )
    assert told == [f"{i} of 5" for i in range(1, 6)]
    assert np.isfinite(result.scores["anomaly_score"]).all()
    with pytest.raises(DataError, match=r"has 9 sample\(s\), and a minimum of 10 is required"):
        fit_out_of_fold(RowsInMemory(rng.normal(size=(9, 2))), PARAMETERS)
