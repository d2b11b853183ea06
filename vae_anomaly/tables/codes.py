"""A table to codes ``(N, C)``, its columns found out; `vae_anomaly.tables.encoding` takes columns that are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.columns import Column, Columns
from vae_anomaly.errors import ColumnsError, DataError
from vae_anomaly.tables.frames import check_different, value_type
from vae_anomaly.tables.kinds import ColumnInference
from vae_anomaly.tables.values import looked_up

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
        self.dtype: np.dtype[np.generic] | None = None

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
        own = value_type(frame)
        self.dtype = own if self.dtype is None else np.result_type(own, self.dtype)
        codes = np.empty((len(frame), len(names)))
        for i, column in enumerate(self.inferences):
            codes[:, i] = column.add(frame.iloc[:, i])
        return codes

    def _start(self, names: list[str]) -> None:
        check_different(names, self.source)
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
            if self.missing == "refuse" and inference.n_gaps and column.kind != "identifier":
                what = f"column {column.name!r} has {inference.n_gaps:,} gaps"
                problems.append(f"{self.source}: {what}, which missing='refuse' does not take")
        if problems:
            raise ColumnsError("\n".join(problems))
        if not any(column.is_modelled for column in found):
            raise DataError(
                f"{self.source}: no column can be modelled: {'; '.join(f'{c.name!r}: {c.why}' for c in found)}"
            )
        return Columns(found), recodes

    def is_plain(self, columns: Columns) -> bool:
        """Whether these columns, which it found, are numbers without a gap, as any array has them."""
        return all(column.kind == "number" for column in columns.all) and not any(c.n_gaps for c in self.inferences)

    def recoded(self, codes: np.ndarray, columns: Columns, recodes: list[np.ndarray | None]) -> np.ndarray:
        """Provisional codes ``(n, all columns)`` to the codes ``(n, C)`` of the modelled columns.

        Float64, unless all columns are of another of NumPy's types that models compute with.
        """
        kept = []
        for column, recode, values in zip(columns.all, recodes, codes.T, strict=True):
            if column.is_modelled:
                kept.append(values if recode is None else looked_up(values, recode))
        return np.stack(kept, axis=1).astype(self.dtype, copy=False)
