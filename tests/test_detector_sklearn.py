"""Every check scikit-learn has for estimators of this kind, with default parameters, and where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from vae_anomaly import VAEDetector


# check_dataframe_column_names_consistency is not among the checks that are run: it asks that the columns of a DataFrame
# in another order are refused, and a table's columns are found by name; tests/test_mixed_tables.py has what holds here
@pytest.mark.filterwarnings("default")  # some checks feed data that scikit-learn itself warns about
@parametrize_with_checks([VAEDetector(epochs=5)])
def test_scikit_learn_check(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    kind = rng.choice(["a", "b", "c"], 80)
    return pd.DataFrame({"kind": kind, "x": rng.normal(size=80) + (kind == "a"), "y": rng.normal(size=80)})


def test_tags_say_what_is_taken() -> None:
    for missing in ("ignore", "category", "refuse"):
        tags = get_tags(VAEDetector(missing=missing)).input_tags
        assert (tags.categorical, tags.string, tags.sparse) == (True, True, True)
        assert tags.allow_nan == (missing != "refuse")


@pytest.mark.usefixtures("calibrated_for_one_score")
class TestWithMixedColumns:
    def test_a_clone_of_a_fitted_detector_is_fitted_to_the_same_bits(self, frame: pd.DataFrame) -> None:
        detector = VAEDetector(epochs=1, columns={"x": "category"}, missing="category").fit(frame)
        again = clone(detector)
        assert again.get_params() == detector.get_params()
        assert not hasattr(again, "_fitted")
        np.testing.assert_array_equal(again.fit(frame).score_samples(frame), detector.score_samples(frame))

    def test_parameters_that_are_set_count_at_the_next_fit(self, frame: pd.DataFrame) -> None:
        detector = VAEDetector(epochs=1).fit(frame)
        detector.set_params(columns={"y": "identifier"}, missing="refuse")
        assert detector.model_.columns.kinds["y"] == "number"
        assert detector.fit(frame).model_.columns.kinds["y"] == "identifier"
        with pytest.raises(ValueError, match="row 3, column 'x' is missing, and this model takes no gaps"):
            detector.score_samples(frame.assign(x=frame["x"].where(frame.index != 3)))

    def test_at_the_end_of_a_pipeline(self, frame: pd.DataFrame) -> None:
        as_it_is = make_pipeline("passthrough", VAEDetector(epochs=1)).fit(frame)
        np.testing.assert_array_equal(
            as_it_is.score_samples(frame), VAEDetector(epochs=1).fit(frame).score_samples(frame)
        )
        prepared = ColumnTransformer(
            [("one_hot", OneHotEncoder(), ["kind"]), ("numbers", StandardScaler(), ["x", "y"])]
        )
        encoded = make_pipeline(prepared, VAEDetector(epochs=1)).fit(frame)
        assert encoded[-1].n_features_in_ == 5
        assert encoded.predict(frame).shape == (80,)
        some = ColumnTransformer([("numbers", StandardScaler(), ["x", "y"])], remainder="passthrough")
        with_text = make_pipeline(some, VAEDetector(epochs=1)).fit(frame)
        assert list(with_text[-1].model_.columns.kinds.values()) == ["number", "number", "category"]
        assert np.isfinite(with_text.score_samples(frame.iloc[::-1])).all()

    def test_in_a_grid_search(self, frame: pd.DataFrame) -> None:
        with_gaps = frame.assign(x=frame["x"].where(frame.index % 7 != 0))
        grid = {"missing": ["ignore", "category"], "latent_dim": [1, 2]}
        search = GridSearchCV(VAEDetector(epochs=1), grid, cv=2, error_score="raise").fit(with_gaps)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_estimator_.predict(with_gaps).shape == (80,)

    def test_names_and_number_of_features_are_those_that_are_modelled(self, frame: pd.DataFrame) -> None:
        with_names = frame.assign(name=[f"person {i}" for i in range(80)])
        detector = VAEDetector(epochs=1).fit(with_names)
        assert detector.feature_names_in_.tolist() == ["kind", "x", "y"]
        assert detector.n_features_in_ == 3
