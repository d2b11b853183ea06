"""A table's columns as they are, and its column of labels apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vae_anomaly.datasets.dataset import Dataset, class_names
from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def table(frame: pd.DataFrame, source: str, label_column: str | None) -> Dataset:
    """A chunk of a table without its label column, which becomes class names.

    Parameters
    ----------
    frame
        The chunk; a label column is taken out of it.
    source
        What to call it in messages.
    label_column
        A name, or, of columns without names, a number.

    Raises
    ------
    DataError
        If there is no such column, or no other, or its cells are no class names.
    """
    labels = None
    if label_column is not None:
        found = [column for column in frame.columns if str(column) == label_column]
        if not found:
            known = ", ".join(map(str, frame.columns[:20]))
            raise DataError(f"{source}: no column {label_column!r}; its columns are {known}")
        labels = class_names(frame.pop(found[0]).to_numpy(), f"{source}, column {label_column!r}")
    if not len(frame.columns):
        raise DataError(f"{source}: no columns are left beside the labels")
    return Dataset(frame, source, labels)


def is_number(text: str) -> bool:
    """Whether a CSV cell reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
