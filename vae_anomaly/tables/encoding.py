"""Samples to codes ``(N, C)`` or numbers ``(N, D)`` as a fitted model reads them; columns are found by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.columns import Column, Columns
from vae_anomaly.errors import ColumnsError, DataError
from vae_anomaly.storage.checks import WRONG_NUMBER, feature_names_of
from vae_anomaly.tables.frames import check_different, frame_of_array, is_frame, is_plain_type, value_type
from vae_anomaly.tables.values import (
    family,
    looked_up,
    numbers_of,
    parsed_dates,
    parsed_numbers,
    seconds_of,
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_NAMES = 20  # in a message
MANY_ROWS = 20


def warn_about_names(X: Any, known: Collection[str] | None, source: str = "X") -> None:
    """Warn, of ``X`` as scikit-learn does, where the training data or these samples have no names of columns."""
    if (feature_names_of(X) is None) == (known is None):
        return
    message = "X has feature names, but VAEDetector was fitted without feature names"
    if known is not None:
        message = "X does not have valid feature names, but VAEDetector was fitted with feature names"
    if source != "X":
        which = "it has no names of columns" if known is not None else "the model's columns have no names"
        message = f"{source}: {which}, so they are taken in their order"
    warnings.warn(message, stacklevel=4)


def codes_of_samples(
    X: Any, columns: Columns, known: Collection[str] | None, source: str, first_row: int, *, gaps: bool
) -> np.ndarray:
    """Codes ``(N, C)`` of a DataFrame or an array; without names on both sides, columns are taken in their order.

    Parameters
    ----------
    columns
        Of the model.
    known
        Their names, if the training data had some.
    gaps
        Whether values may be missing.

    Raises
    ------
    DataError
        If there are no rows, too many or too few columns, or as `encoded` does.
    """
    if not is_frame(X):
        X = np.asarray(X)
        if X.ndim != 2:
            raise DataError(f"{source}: needs rows (N, D), got an array of shape {X.shape}")
        X = frame_of_array(X)
    if not len(X):
        raise DataError(f"{source}: holds no samples (shape {X.shape})")
    warn_about_names(X, known, source)
    if known is None or feature_names_of(X) is None:
        if len(X.columns) != len(columns.all):
            raise DataError(WRONG_NUMBER.format(len(X.columns), len(columns.all)))
        X = X.set_axis(list(columns.kinds), axis=1)
    return encoded(X, columns, source, first_row, gaps=gaps)


def numbers_of_table(
    X: pd.DataFrame, known: Collection[str] | None, source: str, first_row: int, *, gaps: bool
) -> np.ndarray:
    """The values ``(N, D)`` of a table of numbers, in NumPy's type for all; parameters as `codes_of_samples` has them.

    Raises
    ------
    DataError
        As `encoded` does.
    """
    if known is not None and feature_names_of(X) is not None:
        X = with_columns(X, known, source)
    if all(map(is_plain_type, X.dtypes)):
        return np.asarray(X)
    numbers = Columns(Column(name=str(name), kind="number") for name in X.columns)
    return encoded(X, numbers, source, first_row, gaps=gaps)


def encoded(
    frame: pd.DataFrame, columns: Columns, source: str = "X", first_row: int = 0, *, gaps: bool = True
) -> np.ndarray:
    """Codes ``(N, C)`` of a table, as the columns of a fitted model read it; its columns are found by name.

    Float64, unless all of these columns are of another of NumPy's types that models compute with.

    Raises
    ------
    DataError
        If columns are missing, cells are not of their column's kind, or there are gaps that may not be: all columns at
        fault are listed.
    """
    frame = with_columns(frame, columns.names, source, known=columns.kinds)
    codes = np.empty((len(frame), len(columns)), value_type(frame))
    problems = []
    for i, column in enumerate(columns):
        values = frame[column.name]
        codes[:, i], is_bad = codes_of(values, column)
        warn_of_unknown_levels(codes[:, i], column, values, source)
        if not gaps and (is_gap := np.isnan(codes[:, i]) & ~is_bad).any():
            row = first_row + int(np.argmax(is_gap))
            problems.append(f"{source}: row {row}, column {column.name!r} is missing, and this model takes no gaps")
        if is_bad.any():
            row = int(np.argmax(is_bad))
            value = values.iloc[row]
            problems.append(
                f"{source}: row {first_row + row}, column {column.name!r} is "
                f"{repr(value) if isinstance(value, str) else value}, and it was a {column.kind} in training"
            )
    if problems:
        raise ColumnsError("\n".join(problems) + "\nmend these cells" + ", or leave them empty to count as gaps" * gaps)
    return codes


def warn_of_unknown_levels(codes: np.ndarray, column: Column, values: pd.Series, source: str) -> None:
    """Warn where a category has many values ``(N,)``, and no level of the model is among them."""
    n_levels = len(column.levels)
    if column.is_category and (codes == n_levels).sum() >= MANY_ROWS and not (codes < n_levels).any():
        first = text_of(values[~values.isna()].iloc[0])
        warnings.warn(
            f"{source}: column {column.name!r} has no value that it had in training ({', '.join(column.levels[:3])}"
            f"{', ...' * (n_levels > 3)}), and {first!r}, for one, counts as other: is it written in another way?",
            stacklevel=5,
        )


def codes_of(values: pd.Series, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a column ``(N,)`` float64, and which values cannot be read as its kind, ``(N,)`` bool."""
    gap = np.asarray(values.isna(), dtype=bool)
    if column.is_category:
        places, texts = texts_of(values)
        place = {level: i for i, level in enumerate(column.levels)}
        own = np.array([place_of(text, place) for text in texts] or [0], dtype=np.float64)
        return looked_up(np.where(places < 0, np.nan, places), own), np.zeros(len(gap), dtype=bool)
    found = family(values)
    if column.kind == "date":
        parse = partial(parsed_dates, form=column.form)
        codes = seconds_of(values) if found == "date" else of_texts(values, parse)
    else:
        codes = numbers_of(values) if found in ("number", "boolean") else of_texts(values, parsed_numbers)
    return codes, ~np.isfinite(codes) & ~gap


def place_of(text: str, places: Mapping[str, int]) -> int:
    """The place of a level; a whole number is one however it is written, 1.0 as 1. One past the last for others."""
    if text not in places and text.endswith(".0"):
        text = text.removesuffix(".0")
    return places.get(text, len(places))


def of_texts(values: pd.Series, parse: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """Codes ``(N,)`` of text by ``parse``, which turns different texts into numbers; NaN at gaps."""
    places, texts = texts_of(values)
    if not texts:
        return np.full(len(places), np.nan)
    return looked_up(np.where(places < 0, np.nan, places), parse(texts))


def with_columns(
    frame: pd.DataFrame, names: Collection[str], source: str = "X", known: Collection[str] = ()
) -> pd.DataFrame:
    """The columns of these names, in this order; others are left out, with a warning unless they are ``known``.

    Raises
    ------
    DataError
        If some are missing; all are listed.
    """
    names, there = list(names), [str(name) for name in frame.columns]
    check_different(there, source)
    missing = [name for name in names if name not in set(there)]
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of the {len(names)} columns that the model was fitted on are missing: "
            f"{', '.join(map(repr, missing))}; there are {', '.join(map(repr, there[:MAX_NAMES]))}"
        )
    if unknown := [name for name in there if name not in {*names, *known}]:
        warnings.warn(
            f"{source}: left out {len(unknown)} columns that the model was not fitted on: "
            f"{', '.join(map(repr, unknown[:MAX_NAMES]))}{', ...' * (len(unknown) > MAX_NAMES)}",
            stacklevel=4,
        )
    if there == names:
        return frame.set_axis(there, axis=1) if list(frame.columns) != there else frame
    return frame.set_axis(there, axis=1)[names]
