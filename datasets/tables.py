"""From a table's columns to numbers, and a column of labels apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.datasets.dataset import Dataset, class_names
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def table(
    frame: pd.DataFrame, source: str, first_row: int, label_column: str | None, names: list[str] | None
) -> Dataset:
    """A chunk of a table as numbers, without its label column, which becomes class names."""
    labels = None
    if label_column is not None:
        if label_column not in frame.columns:
            known = ", ".join(map(str, frame.columns[:20]))
            raise DataError(f"{source}: no column {label_column!r}; its columns are {known}")
        labels = class_names(frame.pop(label_column).to_numpy(), f"{source}, column {label_column!r}")
    for column in frame.columns:
        values = frame[column]
        if values.dtype.kind in "fiub":
            continue
        row = next((i for i, cell in enumerate(values) if is_no_number(cell)), 0)
        shown = repr(values.iloc[row])
        shown = shown if len(shown) < 80 else shown[:80] + "..."
        raise DataError(
            f"{source}: row {first_row + row}, column {column!r} is {shown}, not a number: encode or drop "
            "the column, or name it with --label-column if it holds the labels"
        )
    if not len(frame.columns):
        raise DataError(f"{source}: no columns are left beside the labels")
    single = all(dtype == np.float32 for dtype in frame.dtypes)
    X = frame.to_numpy(dtype=np.float32 if single else np.float64, na_value=np.nan)
    columns = None if names is None else tuple(str(column) for column in frame.columns)
    return Dataset(X, source, labels, columns)


def is_no_number(cell: object) -> bool:
    """Whether a cell is missing, or text that is no number."""
    return not is_number(cell) if isinstance(cell, str) else cell is None or cell != cell


def is_number(text: str) -> bool:
    """Whether a CSV cell reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
