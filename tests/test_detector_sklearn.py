"""Every check scikit-learn has for estimators of this kind, with default parameters."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, parametrize_with_checks

from vae_anomaly import VAEDetector


@pytest.mark.filterwarnings("default")  # some checks feed data that scikit-learn itself warns about
@parametrize_with_checks([VAEDetector()])
def test_scikit_learn_check(estimator: Any, check: Any) -> None:
    check(estimator)


def test_column_names_are_consistent() -> None:
    check_dataframe_column_names_consistency("VAEDetector", VAEDetector())
