"""A table's columns as they are, and its column of labels apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vae_anomaly.datasets.dataset import Dataset, class_names
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def label_of(names: Sequence[object], label_column: str, source: str) -> int:
    """Which of the columns holds the labels.

    Raises
    ------
    DataError
        If none does.
    """
    for i, name in enumerate(names):
        if str(name) == label_column:
            return i
    known = ", ".join(map(str, names[:20])) + (", ..." if len(names) > 20 else "")
    raise DataError(f"{source}: no column {label_column!r}; its columns are {known}")


def table(frame: pd.DataFrame, source: str, label_column: object | None, first_row: int = 0) -> Dataset:
    """A chunk of a table without its label column, which becomes class names.

    Parameters
    ----------
    frame
        The chunk; a label column is taken out of it.
    source
        What to call it in messages.
    label_column
        A name, or, of columns without names, a number.
    first_row
        Number of the first row.

    Raises
    ------
    DataError
        If there is no such column, or no other, or its cells are no class names.
    """
    labels = None
    if label_column is not None:
        column = frame.pop(frame.columns[label_of(list(frame.columns), str(label_column), source)])
        labels = class_names(column.to_numpy(), f"{source}, column {str(label_column)!r}", first_row)
    if not len(frame.columns):
        raise DataError(f"{source}: no columns are left beside the labels")
    return Dataset(frame, source, labels)
