"""Rows of a score table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.fitted_model import FittedModel


def scored(model: FittedModel, data: Dataset) -> dict[str, np.ndarray]:
    """What a score table says of samples, each ``(N,)``; where the ELBO is the score it is computed but once."""
    rows = model.rows(data.X, data.feature_names)
    terms = model.elbo_terms(rows)
    anomaly_score = terms.kl - terms.reconstruction if model.score == "elbo" else -model.score_samples(rows)
    return {
        "anomaly_score": anomaly_score,
        "decision": (anomaly_score > model.calibration.threshold).astype(int),
        "p_value": model.p_values_of(-anomaly_score),
        "reconstruction": terms.reconstruction,
        "kl": terms.kl,
    }


def to_frame(data: Dataset) -> Any:
    """The samples, with their column names if they have some."""
    if data.feature_names is None:
        return data.X
    import pandas as pd

    return pd.DataFrame(data.X, columns=list(data.feature_names))
