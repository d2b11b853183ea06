"""The types of a text table's columns, decided on all rows of each, once.

A column is numbers if all its cells are, in one convention, or gaps. Otherwise it is text, cell by cell as it is in the
file: so are truth values, and whole numbers of which one begins with a zero, since they are codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.datasets.numbers import GAPS, LOOKED_AT, OTHER, Convention, conventions_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Column:
    """What the chunks of a column have shown so far.

    Parameters
    ----------
    numbers, text
        Whether a chunk was parsed as numbers; as text.
    whole
        Whether all numbers are whole and none is negative.
    mixed
        Whether a chunk was parsed as truth values, which have lost what was written.
    conventions
        Those by which all text so far is numbers; None where there was no text.
    gaps
        What stands for missing numbers beside these.
    """

    numbers: bool = False
    text: bool = False
    whole: bool = True
    mixed: bool = False
    conventions: set[Convention] | None = None
    gaps: set[str] = field(default_factory=set)

    def update(self, values: pd.Series[Any], decimals: tuple[str, ...]) -> None:
        """Look at another chunk."""
        if values.dtype.kind in "fiu":
            array = values.to_numpy()
            there = array[~np.isnan(array)] if array.dtype.kind == "f" else array
            self.numbers = self.numbers or len(there) > 0
            if self.whole and len(there):
                some = there[:LOOKED_AT]
                self.whole = bool((some >= 0).all() and (some == np.floor(some)).all())
                self.whole = self.whole and bool((there >= 0).all() and (there == np.floor(there)).all())
            return
        if values.dtype == bool or values.dtype == object:
            self.mixed = True
        self.text = True
        if self.conventions is None or self.conventions:
            found = conventions_of(values.iloc[:LOOKED_AT].unique(), decimals)
            found = conventions_of(values.unique(), decimals) if found and not self.mixed else set()
            if found:
                self.gaps |= {cell for cell in map(str, values.dropna().unique()) if cell.strip().lower() in GAPS}
            self.conventions = combined(self.conventions, found)


def combined(before: set[Convention] | None, found: set[Convention]) -> set[Convention]:
    """The conventions that hold for both; a sign may be missing in one."""
    if before is None:
        return found
    return {
        Convention(a.decimal, a.sign or b.sign)
        for a in before
        for b in found
        if a.decimal == b.decimal and (a.sign == b.sign or not (a.sign and b.sign))
    }


@dataclass
class Inference:
    """What the chunks of a table have shown so far of each of its columns, by number."""

    decimals: tuple[str, ...]
    columns: dict[int, Column] = field(default_factory=dict)
    n_rows: int = 0
    counts_from: int | None = 0
    """What the first column begins with, if it counts rows."""

    def update(self, frame: pd.DataFrame) -> None:
        """Look at another chunk, whose columns are numbered."""
        for i in map(int, frame.columns):
            self.columns.setdefault(i, Column()).update(frame[i], self.decimals)
        if self.counts_from is not None and 0 in frame.columns:
            first = frame[0].to_numpy()
            self.counts_from = counting(first, self.n_rows, self.counts_from)
        self.n_rows += len(frame)

    def kinds(self) -> dict[int, Convention | None]:
        """For each column its convention of numbers, or None for text."""
        return {i: convention_of(column, self.decimals[0]) for i, column in self.columns.items()}


def convention_of(column: Column, decimal: str) -> Convention | None:
    """How a column writes numbers; None if it is text."""
    if not column.text:
        return Convention(decimal)
    known = sorted(column.conventions or (), key=lambda convention: convention.decimal != decimal)
    return None if column.mixed or not known else known[0]


def counting(values: np.ndarray, seen: int, begins: int) -> int | None:
    """Where a column begins that counts rows, or None if it does not."""
    if values.dtype.kind not in "iu" or not len(values):
        return None
    begins = int(values[0]) if not seen else begins
    same = begins in (0, 1) and np.array_equal(values, np.arange(begins + seen, begins + seen + len(values)))
    return begins if same else None


def decimals_of(sep: str, decimal: str, said: str | None) -> tuple[str, ...]:
    """The decimal marks to try in text, the likelier first."""
    return (said,) if said else (decimal, OTHER[decimal])
