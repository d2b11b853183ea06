"""How a table's file is to be read, as far as somebody says it; needs no NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class TableNote(UserWarning):
    """What was inferred of a file, or left out of it; commands print it as a note."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is said of a table's file; None where it is to be inferred.

    Parameters
    ----------
    sep
        The character between cells.
    decimal
        The decimal mark: ``.`` or ``,``.
    encoding
        A name that Python knows, such as ``latin-1``.
    header
        Whether the first line (after those that are skipped) has the names of the columns.
    skip_rows
        How many lines before that are no part of the table.
    columns
        The kinds of the columns that a model has, by name: number, category, date, identifier or constant. A column
        without a name is named by its number. With it nothing is inferred of columns, and names decide whether there
        is a header.
    missing_columns
        "as-gaps": columns that the model has and the table lacks are all gaps. "refuse": that is the model's to refuse.
    """

    sep: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None
    skip_rows: int | None = None
    columns: Mapping[str, str] | None = None
    missing_columns: str = "refuse"


INFERRED = Reading()
"""Nothing is said."""
