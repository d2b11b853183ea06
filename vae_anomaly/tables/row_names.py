"""What names the rows of a table in every output: identifiers that a model carries, and columns that the user names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.columns import Columns
from vae_anomaly.errors import DataError
from vae_anomaly.tables.values import text_of

if TYPE_CHECKING:
    import pandas as pd


def id_columns_of(columns: Columns | None) -> tuple[str, ...]:
    """Names of the identifiers among a model's columns."""
    return () if columns is None else tuple(column.name for column in columns.carried if column.kind == "identifier")


def ids_of(
    X: np.ndarray | pd.DataFrame,
    columns: Columns | None,
    id_columns: tuple[str, ...],
    source: str,
    option: str = "--id-column",
) -> dict[str, np.ndarray]:
    """Text ``(N,)`` by column: of ``id_columns``, or, if none is named, of the identifiers that there are.

    The ``option`` is the one that named them, for the message.

    Raises
    ------
    DataError
        If a column that is named is not there.
    """
    frame = None if isinstance(X, np.ndarray) else X.set_axis([str(name) for name in X.columns], axis=1)
    there = () if frame is None else tuple(frame.columns)
    missing = [name for name in id_columns if name not in there]
    if missing:
        known = f"its columns are {', '.join(there[:20])}" if there else "it has no columns"
        raise DataError(f"{source}: no column {', '.join(map(repr, missing))} for {option}; {known}")
    wanted = id_columns or tuple(name for name in id_columns_of(columns) if name in there)
    return {name: texts_of_cells(frame[name].tolist()) for name in wanted} if frame is not None else {}


def texts_of_cells(values: Sequence[Any]) -> np.ndarray:
    """Cells as text ``(N,)`` of str: whole numbers without a point, gaps empty."""
    import pandas as pd

    gaps = pd.isna(pd.Series(values, dtype=object))
    return np.array(["" if gap else text_of(value) for value, gap in zip(values, gaps, strict=True)], dtype=str)


def renamed(others: Mapping[str, Any], taken: Iterable[str]) -> dict[str, Any]:
    """Columns of the data that can stand beside those of names that are taken: one of the same name is renamed."""
    taken, named = set(taken), {}
    for name, values in others.items():
        while name in taken:
            name = f"{name} (in the data)"
        taken.add(name)
        named[name] = values
    return named
