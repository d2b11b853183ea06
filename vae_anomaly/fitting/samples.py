"""Samples in any form that `VAEDetector` accepts, turned into checked rows in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from vae_anomaly.storage.checks import check_samples, feature_names_of
from vae_anomaly.storage.rows import RowsInMemory


def samples_of(X: ArrayLike, source: str = "X", first_row: int = 0) -> RowsInMemory:
    """Samples as rows in memory, checked; the one way in, of ``fit`` and its variants and of scoring.

    Parameters
    ----------
    X : array-like of shape (N, D), (N, H, W) or (N, H, W, C)
        What scikit-learn takes: lists, arrays, DataFrames with pandas' own types among them. Images come as arrays.
    source
        What messages call it.
    first_row
        The number of its first sample in messages.

    Returns
    -------
    RowsInMemory
        The values in the type that they have.

    Raises
    ------
    ValueError
        If these are no samples of finite numbers, or a column name comes twice.
    TypeError
        If they are sparse, values are no numbers, or some column names are text and others are not.
    """
    names = feature_names_of(X)
    with np.errstate(over="ignore", invalid="ignore"):  # check_array sums the values, which may be large
        values = check_array(
            X, dtype="numeric", allow_nd=is_images(X), ensure_all_finite=False, estimator="VAEDetector"
        )
    check_samples(values, source, first_row, names)
    return RowsInMemory(values, names, source)


def is_images(X: ArrayLike) -> bool:
    """Whether samples come as images ``(N, H, W)`` or ``(N, H, W, C)``."""
    return getattr(X, "ndim", 2) in (3, 4)
