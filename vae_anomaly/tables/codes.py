"""A table to codes ``(N, C)``: one to be fitted, whose columns are found out, or one whose columns are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.columns import Column, Columns
from vae_anomaly.errors import DataError
from vae_anomaly.tables.kinds import ColumnInference
from vae_anomaly.tables.values import (
    family,
    numbers_of,
    parsed_dates,
    parsed_numbers,
    seconds_of,
    texts_of,
)

if TYPE_CHECKING:
    import pandas as pd


class TableInference:
    """Finds out what a table's columns are, from all of its rows, which may come in pieces.

    Parameters
    ----------
    given
        Kinds by the user, by column.
    missing
        One of `vae_anomaly.columns.MISSING_CHOICES`.
    source
        What messages call the table.
    """

    def __init__(self, given: Mapping[str, str] | None, missing: str, source: str) -> None:
        self.given, self.missing, self.source = dict(given or {}), missing, source
        self.inferences: list[ColumnInference] = []

    def add(self, frame: pd.DataFrame) -> np.ndarray:
        """Provisional codes ``(n, all columns)`` float64 of the next rows.

        Raises
        ------
        DataError
            If columns differ from those before, in name or in what they hold, or a given kind is of no column.
        """
        names = [str(name) for name in frame.columns]
        if not self.inferences:
            self._start(names)
        if names != [column.name for column in self.inferences]:
            raise DataError(f"{self.source}: the columns from row {self.inferences[0].n} on are not those before")
        codes = np.empty((len(frame), len(names)))
        for i, column in enumerate(self.inferences):
            codes[:, i] = column.add(frame.iloc[:, i])
        return codes

    def _start(self, names: list[str]) -> None:
        check_names(names, self.source)
        unknown = [name for name in self.given if name not in names]
        if unknown:
            raise DataError(
                f"{self.source}: there is no column {', '.join(map(repr, unknown))} to give a kind to; its columns are "
                f"{', '.join(names[:20])}"
            )
        self.inferences = [ColumnInference(name, self.source, self.given.get(name)) for name in names]

    def columns(self) -> tuple[Columns, list[np.ndarray | None]]:
        """The columns, and for each what turns provisional codes into its codes, as `ColumnInference.column` says.

        Raises
        ------
        DataError
            If a given kind does not suit, gaps are refused, or no column is left to model. All columns at fault are
            listed.
        """
        found: list[Column] = []
        recodes: list[np.ndarray | None] = []
        problems: list[str] = []
        for inference in self.inferences:
            try:
                column, recode = inference.column(self.missing)
            except DataError as error:
                problems.append(str(error))
                continue
            found.append(column)
            recodes.append(recode)
            if self.missing == "refuse" and inference.n_gaps:
                what = f"column {column.name!r} has {inference.n_gaps:,} gaps"
                problems.append(f"{self.source}: {what}, which missing='refuse' does not take")
        if problems:
            raise DataError("\n".join(problems))
        if not any(column.is_modelled for column in found):
            raise DataError(
                f"{self.source}: no column can be modelled: {'; '.join(f'{c.name!r}: {c.why}' for c in found)}"
            )
        return Columns(found), recodes


def recoded(codes: np.ndarray, columns: Columns, recodes: list[np.ndarray | None]) -> np.ndarray:
    """Provisional codes ``(n, all columns)`` to the codes ``(n, C)`` of the modelled columns."""
    kept = []
    for column, recode, values in zip(columns.all, recodes, codes.T, strict=True):
        if column.is_modelled:
            kept.append(values if recode is None else looked_up(values, recode))
    return np.stack(kept, axis=1)


def looked_up(places: np.ndarray, recode: np.ndarray) -> np.ndarray:
    """The values at places ``(n,)``, NaN at gaps."""
    gap = np.isnan(places)
    return np.where(gap, np.nan, recode[np.where(gap, 0, places).astype(np.int64)])


def encoded(frame: pd.DataFrame, columns: Columns, source: str = "X", first_row: int = 0) -> np.ndarray:
    """Codes ``(N, C)`` float64 of a table, as the columns of a fitted model read it; its columns are found by name.

    Raises
    ------
    DataError
        If columns are missing, or cells are not of their column's kind: all columns at fault are listed.
    """
    frame = with_columns(frame, columns.names, source)
    codes = np.empty((len(frame), len(columns)))
    problems = []
    for i, column in enumerate(columns):
        values = frame[column.name]
        codes[:, i], is_bad = codes_of(values, column)
        if is_bad.any():
            row = int(np.argmax(is_bad))
            problems.append(
                f"{source}: row {first_row + row}, column {column.name!r} is {values.iloc[row]!r}, and it was a "
                f"{column.kind} in training"
            )
    if problems:
        raise DataError("\n".join(problems) + "\nmend these cells, or leave them empty to count as gaps")
    return codes


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


def with_columns(frame: pd.DataFrame, names: Iterable[str], source: str = "X") -> pd.DataFrame:
    """The columns of these names, in this order; others are left out with a warning.

    Raises
    ------
    DataError
        If some are missing; all are listed.
    """
    names, there = list(names), [str(name) for name in frame.columns]
    check_names(there, source)
    missing = [name for name in names if name not in set(there)]
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of the {len(names)} columns that the model was fitted on are missing: "
            f"{', '.join(map(repr, missing))}; there are {', '.join(map(repr, there[:20]))}"
        )
    if there == names:
        return frame.set_axis(there, axis=1) if list(frame.columns) != there else frame
    return frame.set_axis(there, axis=1)[names]


def check_names(names: list[str], source: str) -> None:
    """Refuse column names that come twice."""
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(
            f"{source}: columns must differ in name, and there are several {', '.join(map(repr, twice[:5]))}"
        )
