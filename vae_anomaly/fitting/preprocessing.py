"""From raw training rows to the scaling that becomes part of the model."""

from __future__ import annotations

import numpy as np
import torch

from vae_anomaly.errors import DataError
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.registry import PREPROCESSING
from vae_anomaly.storage.rows import Rows


@PREPROCESSING.register("standardize")
def standardize(X: Rows) -> Scaling:
    """Zero mean and unit variance for each feature; a constant feature is only centred (scikit-learn's rule).

    So a value that differs from a constant by d counts as d standard deviations, not as d / 1e-8.
    """
    from sklearn.preprocessing import StandardScaler  # a second, which scoring does without

    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler()
        for rows in X.chunks():
            scaler.partial_fit(rows)
    return scaling(scaler.mean_, scaler.scale_)


@PREPROCESSING.register("unit_range")
def unit_range(X: Rows) -> Scaling:
    """One range for all features onto [0, 1].

    It is [0, 255] for 8-bit data, [0, 1] for data that lies inside it, and otherwise the data's own.
    """
    if X.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        ends = X.extremes()
        low, high = float(ends[0].min()), float(ends[1].max())
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
    return scaling(low, high - low)


@PREPROCESSING.register("standardize_globally")
def standardize_globally(X: Rows) -> Scaling:
    """One shift and one scale for all features: zero mean, and a root mean square deviation of 1/4.

    The deviation is that of each feature from its own mean. So neither brightness nor contrast of a set of images
    matters, and a pixel that is the same in all images does not count. Images in [0, 1] have about 1/4. Both numbers
    come from an even sample of about 10,000 rows.
    """
    x = X.even_sample().astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return scaling(x.mean(), 4 * np.sqrt(x.var(axis=0).mean()))


@PREPROCESSING.register("none")
def identity(X: Rows) -> Scaling:
    """Leave values as they are."""
    return scaling(0.0, 1.0)


def scaling(loc: np.ndarray | float, scale: np.ndarray | float) -> Scaling:
    """A `Scaling` that single precision can hold: a spread too small for it counts as none.

    Raises
    ------
    DataError
        If the values are so large that their mean or their spread is not finite.
    """
    if not (np.isfinite(loc).all() and np.isfinite(scale).all()):
        raise DataError("the values are too large to take their mean and spread: divide the data by a constant")
    scale = np.where(np.asarray(scale) < np.finfo(np.float32).tiny, 1.0, scale)
    return Scaling(torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


def rms_deviation(scaling: Scaling, X: Rows) -> float:
    """Root mean square deviation of scaled rows from their mean, over about 10,000 of them: one number."""
    x = scaling(torch.from_numpy(np.array(X.even_sample())).to(scaling.loc))
    return float(x.double().var(dim=0, correction=0).mean().sqrt())
