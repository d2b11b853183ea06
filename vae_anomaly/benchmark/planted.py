"""Errors of known place in a table, of the kinds that people and programs make, to see which of them are found.

An error changes one row, and really changes it: where a kind of error would leave a row as it is (ten times zero), or
its value does not fit the column's type, another cell or another row is taken. A table is an array of numbers
``(N, D)`` or a DataFrame, and keeps its types. What is random comes from the generator given: same generator, same
errors.

A kind is a function of a table's columns, a row and a generator; it returns the row's new values by their columns, or
none where this row cannot have such an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from pandas import isna
from pandas.api.types import is_bool_dtype, is_string_dtype

from vae_anomaly.errors import DataError

SENTINEL = -9999
LEADING_DIGITS = 3  # further digits of a measured number hardly change it

T = TypeVar("T")
Changes: TypeAlias = dict[int, Any]


class TableColumns:
    """A table column by column, and what each can hold.

    Parameters
    ----------
    table
        An array of numbers ``(N, D)``, or a DataFrame.
    """

    def __init__(self, table: np.ndarray | pd.DataFrame) -> None:
        self.n_rows = len(table)
        if isinstance(table, np.ndarray):
            self.values, dtypes = list(table.T), [table.dtype] * table.shape[1]
        else:
            self.values = [table.iloc[:, i].to_numpy() for i in range(table.shape[1])]
            dtypes = list(table.dtypes)
        self.dtypes = dtypes
        # equal numbers for equal values, and for all gaps
        self.codes = np.stack([pd.factorize(values)[0] for values in self.values], axis=1)
        self.numbers = [i for i, dtype in enumerate(dtypes) if isinstance(dtype, np.dtype) and dtype.kind in "iuf"]
        self.levels = {
            i: levels for i, dtype in enumerate(dtypes) if is_text(dtype) and (levels := levels_of(self.values[i]))
        }

    def __len__(self) -> int:
        return len(self.values)

    def as_number(self, column: int, value: float) -> Any:
        """A value in the type of a column of numbers; None if it cannot hold it."""
        dtype = self.dtypes[column]
        if dtype.kind == "f":
            return dtype.type(value) if abs(value) <= np.finfo(dtype).max else None
        limits = np.iinfo(dtype)
        return dtype.type(value) if value == math.floor(value) and limits.min <= value <= limits.max else None

    def changed_number(self, column: int, row: int, value: float) -> Changes:
        """The change to a value; none if it changes nothing or does not fit."""
        new = self.as_number(column, value)
        return {} if new is None or new == self.values[column][row] else {column: new}


Error: TypeAlias = Callable[[TableColumns, int, np.random.Generator], Changes]


@dataclass(frozen=True)
class Planted:
    """A table with errors.

    Parameters
    ----------
    table
        The table, of the type that it had.
    rows
        Which rows have an error, ``(n,)`` int64, ascending.
    is_changed
        Which cells of the table differ from before, ``(N, D)`` bool.
    """

    table: np.ndarray | pd.DataFrame
    rows: np.ndarray
    is_changed: np.ndarray


def is_text(dtype: Any) -> bool:
    """Whether a column of this type may hold names of categories."""
    return bool(isinstance(dtype, pd.CategoricalDtype) or is_bool_dtype(dtype) or is_string_dtype(dtype))


def levels_of(values: np.ndarray) -> list[Any]:
    """The levels of a category, in the order in which they come; none for identifiers, and for fewer than two."""
    present = [value for value in values.tolist() if not isna(value)]
    levels = list(dict.fromkeys(present))
    return levels if 2 <= len(levels) <= len(present) / 2 else []


def shuffled(items: Sequence[T], rng: np.random.Generator) -> list[T]:
    """The items in random order."""
    return [items[i] for i in rng.permutation(len(items))]


def finite_numbers(table: TableColumns, row: int, rng: np.random.Generator) -> Iterator[tuple[int, Any]]:
    """Columns and values of a row's numbers, in random order."""
    for column in shuffled(table.numbers, rng):
        value = table.values[column][row]
        if np.isfinite(value):
            yield column, value


def transposed_digits(table: TableColumns, row: int, rng: np.random.Generator) -> Changes:
    """Two neighbouring digits of a number that change places, among its first three: 1234 for 2134."""
    for column, value in finite_numbers(table, row, rng):
        is_whole = table.dtypes[column].kind != "f"
        text = str(value) if is_whole else np.format_float_positional(value, trim="-")
        places = [i for i, character in enumerate(text) if character.isdigit()]
        first = next((k for k, i in enumerate(places) if text[i] != "0"), len(places))
        leading = places[first : first + LEADING_DIGITS]
        pairs = [(i, j) for i, j in pairwise(leading) if text[i] != text[j]]
        for i, j in shuffled(pairs, rng):
            digits = list(text)
            digits[i], digits[j] = digits[j], digits[i]
            exact = int("".join(digits)) if is_whole else float("".join(digits))
            if changes := table.changed_number(column, row, exact):
                return changes
    return {}


def multiplied(table: TableColumns, row: int, rng: np.random.Generator, factor: int) -> Changes:
    """A number times a factor."""
    for column, value in finite_numbers(table, row, rng):
        if changes := table.changed_number(column, row, value.item() * factor):
            return changes
    return {}


def factor_10(table: TableColumns, row: int, rng: np.random.Generator) -> Changes:
    """A number ten times as large: a decimal point moved."""
    return multiplied(table, row, rng, 10)


def factor_3(table: TableColumns, row: int, rng: np.random.Generator) -> Changes:
    """A number three times as large: another unit, such as feet for metres."""
    return multiplied(table, row, rng, 3)


def swapped_columns(table: TableColumns, row: int, rng: np.random.Generator) -> Changes:
    """Two numbers of a row, each in the other's column."""
    numbers = list(finite_numbers(table, row, rng))
    for k, (column, value) in enumerate(numbers):
        for other, other_value in numbers[k + 1 :]:
            changes = table.changed_number(column, row, other_value.item())
            back = table.changed_number(other, row, value.item())
            if changes and back:
                return changes | back
    return {}


def sentinel(table: TableColumns, row: int, rng: np.random.Generator) -> Changes:
    """The number -9999 in a cell, as some programs write a gap."""
    for column, _ in finite_numbers(table, row, rng):
        if changes := table.changed_number(column, row, SENTINEL):
            return changes
    return {}


def swapped_category(table: TableColumns, row: int, rng: np.random.Generator) -> Changes:
    """Another level of its column for the one that is there."""
    for column in shuffled(list(table.levels), rng):
        value = table.values[column][row]
        if not isna(value):
            others = [level for level in table.levels[column] if level != value]
            return {column: others[rng.integers(len(others))]}
    return {}


def copied_half(table: TableColumns, row: int, rng: np.random.Generator) -> Changes:
    """Half of the columns as another row has them, which differs from this one in both halves."""
    differs = table.codes != table.codes[row]
    sources = np.flatnonzero(differs.sum(axis=1) >= 2)
    if not len(sources):
        return {}
    source = sources[rng.integers(len(sources))]
    taken, kept = rng.permutation(np.flatnonzero(differs[source]))[:2]
    others = rng.permutation(np.setdiff1d(np.arange(len(table)), [taken, kept]))[: len(table) // 2 - 1]
    half = [taken, *others[differs[source, others]]]
    return {int(column): table.values[column][source] for column in half}


ERRORS: dict[str, Error] = {
    "transposed_digits": transposed_digits,
    "factor_10": factor_10,
    "factor_3": factor_3,
    "swapped_columns": swapped_columns,
    "sentinel": sentinel,
    "swapped_category": swapped_category,
    "copied_half": copied_half,
}


def found_changes(table: TableColumns, kind: str, n_errors: int, rng: np.random.Generator) -> dict[int, Changes]:
    """Changes of so many rows, or fewer if no more can have such an error; by row, drawn at random."""
    tried = ((row, ERRORS[kind](table, row, rng)) for row in rng.permutation(table.n_rows).tolist())
    return dict(islice(((row, changes) for row, changes in tried if changes), n_errors))


def kinds_for(table: np.ndarray | pd.DataFrame, n_errors: int) -> list[str]:
    """Keys of `ERRORS` that can be planted in so many rows of a table."""
    columns = TableColumns(table)
    return [
        kind for kind in ERRORS if len(found_changes(columns, kind, n_errors, np.random.default_rng(0))) == n_errors
    ]


def plant(table: np.ndarray | pd.DataFrame, kind: str, n_errors: int, rng: np.random.Generator) -> Planted:
    """A copy of a table with errors of one kind, each in another row.

    Parameters
    ----------
    table
        Numbers ``(N, D)``, or a DataFrame.
    kind
        A key of `ERRORS`.
    n_errors
        How many.
    rng
        What chooses rows and cells.

    Raises
    ------
    DataError
        If fewer rows of the table can have such an error, or none would be left without.
    """
    if not 0 < n_errors < len(table):
        raise DataError(f"{n_errors} rows with an error, of {len(table)}: there must be one, and one row without")
    found = found_changes(TableColumns(table), kind, n_errors, rng)
    if len(found) < n_errors:
        raise DataError(f"only {len(found)} of {len(table)} rows can have an error {kind}, {n_errors} were asked for")
    copy = table.copy()
    is_changed = np.zeros(table.shape, dtype=bool)
    for row, changes in found.items():
        for column, value in changes.items():
            is_changed[row, column] = True
            if isinstance(copy, np.ndarray):
                copy[row, column] = value
            else:
                copy.iloc[row, column] = value
    return Planted(copy, np.array(sorted(found), dtype=np.int64), is_changed)
