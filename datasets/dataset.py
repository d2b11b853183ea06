"""What every source of data gives: an array or a table, its source, and labels and names, if it has some."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.checks import feature_names_of, values_of
from vae_anomaly.storage.safe_reading import parsing

if TYPE_CHECKING:
    import pandas as pd

LARGEST_LABEL = 2.0**53  # below it floats are exact for whole numbers
WHOLE = re.compile(r"\A\+?(-?(?:0|[1-9]\d*))(?:\.0*)?\Z")
LARGEST_LABELS = 1 << 30  # bytes of all class names, each padded to the longest


@dataclass(frozen=True)
class Dataset:
    """Samples, and what is known about them.

    Parameters
    ----------
    X
        Finite numbers: rows ``(N, D)`` or images ``(N, H, W)`` / ``(N, H, W, C)``. Of a table, a DataFrame ``(N, C)``
        of its columns as they are: numbers, text, times and gaps. Without a header they are named 0, 1, ... (int).
    source
        Where they came from, for messages: a data set's name, or a path.
    labels
        Class names ``(N,)`` of str, if any.
    row_names
        File names of the samples ``(N,)``, for a folder of images.
    row_numbers
        Each sample's number in its source, ``(N,)`` int64, from 0.  [default: 0, 1, ...]
    parts
        "train" or "test" for each sample ``(N,)``, where the source says which are which.
    masks
        For each sample ``(N,)`` the file that shows where its defect is, or None; for
        `vae_anomaly.datasets.load_masks`.
    normal
        The classes that are normal, where the source says it.
    """

    X: np.ndarray | pd.DataFrame
    source: str
    labels: np.ndarray | None = None
    row_names: tuple[str, ...] | None = None
    row_numbers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    parts: np.ndarray | None = None
    masks: tuple[Path | None, ...] | None = None
    normal: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.row_numbers) != len(self.X):
            object.__setattr__(self, "row_numbers", np.arange(len(self.X)))

    def __len__(self) -> int:
        return len(self.X)

    def to_array(self) -> np.ndarray:
        """The samples as an array; of a table that is not all numbers, of Python objects."""
        return values_of(self.X)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Column names, if the samples are a table that has them."""
        return feature_names_of(self.X)

    def take(self, rows: np.ndarray) -> Self:
        """The samples with these indices, or where this mask is true."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        names, masks = self.row_names, self.masks
        return replace(
            self,
            X=self.X[rows] if isinstance(self.X, np.ndarray) else self.X.iloc[rows].reset_index(drop=True),
            labels=None if self.labels is None else self.labels[rows],
            row_names=None if names is None else tuple(names[i] for i in rows),
            row_numbers=self.row_numbers[rows],
            parts=None if self.parts is None else self.parts[rows],
            masks=None if masks is None else tuple(masks[i] for i in rows),
        )


def class_names(values: np.ndarray, source: str, first_row: int = 0) -> np.ndarray:
    """Labels of any simple type as names: 3, 3.0, "3" and "3.0" are all "3"; true is "True"; "01" and "None" stay.

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
            raise DataError(
                f"{source}: label of row {first_row + bad[0]} is {values[bad[0]]}, not a class name or whole number"
            )
        if len(values) and np.abs(values).max() >= LARGEST_LABEL:
            raise DataError(f"{source}: labels must be whole numbers below {LARGEST_LABEL:g}")
    if values.dtype.kind == "b":
        return values.astype(str)
    if values.dtype.kind in "fiu":
        return values.astype(np.int64).astype(str)
    with parsing(f"{source}: labels cannot be read"):  # fixed-width text may hold what is no character
        known: dict[object, str] = {}  # few classes, many rows
        texts = values.tolist() if values.dtype.kind in "UO" else [None] * len(values)
        names = [known[v] if v in known else known.setdefault(v, class_name(v)) for v in texts]
    if 4 * len(names) * max(map(len, names), default=0) > LARGEST_LABELS:
        raise DataError(f"{source}: labels of up to {max(map(len, names)):,} characters are too long for class names")
    if names and all(names):
        return np.array(names, dtype=str)
    if values.dtype.kind in "UO" and names and any(names):
        row = names.index("")
        raise DataError(
            f"{source}: row {first_row + row} has no label, or one that is neither text nor a whole number "
            f"({texts[row]!r}): fill it in, or leave the row out"
        )
    raise DataError(f"{source}: labels must be text or whole numbers without gaps, got type {values.dtype}")


def class_name(value: object) -> str:
    """A label as a name; empty if it is none."""
    if isinstance(value, bool | np.bool_):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value == np.round(value) and abs(value) < LARGEST_LABEL else ""
    if not isinstance(value, str):
        return ""
    name = value.strip()
    return WHOLE.sub(r"\1", name)
