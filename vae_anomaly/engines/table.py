"""Rows of a score table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from vae_anomaly.datasets import Dataset
    from vae_anomaly.detector import VAEDetector


def scored(detector: VAEDetector, X: Any) -> dict[str, np.ndarray]:
    """What a score table says of samples, each ``(N,)``; where the ELBO is the score it is computed but once."""
    terms = detector.elbo_terms(X)
    is_elbo = detector.get_params()["score"] == "elbo"
    anomaly_score = terms.kl - terms.reconstruction if is_elbo else -detector.score_samples(X)
    return {
        "anomaly_score": anomaly_score,
        "decision": (anomaly_score > detector.calibration_.threshold).astype(int),
        "p_value": detector.p_values_of(-anomaly_score),
        "reconstruction": terms.reconstruction,
        "kl": terms.kl,
    }


def to_frame(data: Dataset) -> Any:
    """The samples, with their column names if they have some."""
    if data.feature_names is None:
        return data.X
    import pandas as pd

    return pd.DataFrame(data.X, columns=list(data.feature_names))
