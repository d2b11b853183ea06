"""What every source of data gives: an array, its source, and labels and names, if it has some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import parsing

LARGEST_LABEL = 2.0**53  # below it floats are exact for whole numbers
LARGEST_LABELS = 1 << 30  # bytes of all class names, each padded to the longest


@dataclass(frozen=True)
class Dataset:
    """Samples, and what is known about them.

    Parameters
    ----------
    X
        Rows ``(N, D)`` or images ``(N, H, W)`` / ``(N, H, W, C)``; finite numbers.
    source
        Where they came from, for messages: a data set's name, or a path.
    labels
        Class names ``(N,)`` of str, if any.
    feature_names
        Column names, if the source has them.
    row_names
        File names of the samples ``(N,)``, for a folder of images.
    """

    X: np.ndarray
    source: str
    labels: np.ndarray | None = None
    feature_names: tuple[str, ...] | None = None
    row_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: np.ndarray) -> Self:
        """The samples with these indices, or where this mask is true."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        names = self.row_names
        return replace(
            self,
            X=self.X[rows],
            labels=None if self.labels is None else self.labels[rows],
            row_names=None if names is None else tuple(names[i] for i in rows),
        )

    def to_frame(self) -> Any:
        """The samples as a DataFrame where columns have names, else the array."""
        if self.feature_names is None:
            return self.X
        import pandas as pd  # a third of a second, which arrays do without

        return pd.DataFrame(self.X, columns=list(self.feature_names))


def class_names(values: np.ndarray, source: str) -> np.ndarray:
    """Labels of any simple type as names: 3, 3.0 and "3" are all "3"; true is "1".

    Raises
    ------
    DataError
        If a label is missing, or is neither text nor a whole number.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise DataError(f"{source}: labels must be one column, got an array of shape {values.shape}")
    if values.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(values) | (values != np.round(values)))
        if len(bad):
            raise DataError(f"{source}: label of row {bad[0]} is {values[bad[0]]}, not a class name or whole number")
        if len(values) and np.abs(values).max() >= LARGEST_LABEL:
            raise DataError(f"{source}: labels must be whole numbers below {LARGEST_LABEL:g}")
    if values.dtype.kind in "fbiu":
        return values.astype(np.int64).astype(str)
    with parsing(f"{source}: labels cannot be read"):  # fixed-width text may hold what is no character
        names = [value.strip() if isinstance(value, str) else "" for value in values if values.dtype.kind in "UO"]
    if 4 * len(names) * max(map(len, names), default=0) > LARGEST_LABELS:
        raise DataError(f"{source}: labels of up to {max(map(len, names)):,} characters are too long for class names")
    if names and all(names):
        return np.array(names, dtype=str)
    raise DataError(f"{source}: labels must be text or whole numbers without gaps, got type {values.dtype}")
