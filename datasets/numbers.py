"""Numbers as people write them: decimal comma, thousands separators, signs of currencies, per cent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from vae_anomaly.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

GAPS = frozenset(("?", "-", "--", ".", "n.a.", "na", "n/a", "nan", "none", "null", "<na>", "#n/a", ""))
"""What stands for a missing number, in small letters."""
SIGN = r"[$€£¥₹]|USD|EUR|GBP|CHF|JPY|%"
OTHER = {".": ",", ",": "."}
LOOKED_AT = 1_000  # of a column's values at first: text is recognised early


class Convention(NamedTuple):
    """How a column writes its numbers: its decimal mark, and the one sign beside them, or none."""

    decimal: str = "."
    sign: str = ""


def is_number(text: str) -> bool:
    """Whether a cell reads as a plain number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


@cache
def pattern(decimal: str) -> re.Pattern[str]:
    """Numbers with a decimal mark, groups of three digits, and a sign before or after."""
    mark, group = re.escape(decimal), f"[{re.escape(OTHER[decimal])}'\u2019 \u00a0\u202f]"
    digits = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)(?:{mark}\d*)?|{mark}\d+"
    return re.compile(rf"([+-]?)\s*({SIGN})?\s*([+-]?(?:{digits})(?:[eE][+-]?\d+)?)\s*({SIGN})?")


def conventions_of(values: Iterable[object], decimals: Iterable[str]) -> set[Convention]:
    """The conventions by which all of the values are numbers; empty if there is none, or no number at all."""
    cells = [str(value).strip() for value in values if value == value and value is not None]
    found = set()
    for decimal in decimals:
        signs, n_numbers = set(), 0
        for cell in cells:
            match = pattern(decimal).fullmatch(cell)
            if match:
                signs |= {sign for sign in (match[2], match[4]) if sign}
                n_numbers += 1
            elif cell.lower() not in GAPS and not is_number(cell):
                break
        else:
            if n_numbers and len(signs) < 2:
                found.add(Convention(decimal, "".join(signs)))
    return found


def to_numbers(column: pd.Series[str], convention: Convention, source: str, first_row: int) -> pd.Series[float]:
    """A column of text as float64.

    Raises
    ------
    DataError
        If a cell is no number by the convention; with its row and what it is.
    """
    known: dict[object, float] = {}
    for value in column.unique():
        cell = "" if value != value or value is None else str(value).strip()
        match = pattern(convention.decimal).fullmatch(cell)
        if match:
            digits = re.sub(rf"[^\d{re.escape(convention.decimal)}eE+-]", "", match[1] + match[3])
            known[value] = float(digits.replace(",", "."))
        elif cell.lower() in GAPS:
            known[value] = float("nan")
        elif is_number(cell):
            known[value] = float(cell)
        else:
            row = first_row + next(i for i, other in enumerate(column) if other == value)
            raise DataError(
                f"{source}: row {row}, column {str(column.name)!r} is {cell[:80]!r}, not a number as it was in the "
                "model's training data"
            )
    return column.astype(object).map(known).astype("float64")
