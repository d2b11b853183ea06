"""``.xlsx``: the first sheet of a workbook, read whole; values only, no formula is computed and no macro is run."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.dialect import SAMPLE_LINES, is_header
from vae_anomaly.datasets.formats.base import Format
from vae_anomaly.datasets.inference import Column, convention_of
from vae_anomaly.datasets.numbers import to_numbers
from vae_anomaly.datasets.reading import TableNote
from vae_anomaly.datasets.tables import label_of, table
from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.xlsx_files import first_sheet

if TYPE_CHECKING:
    import pandas as pd


@FORMATS.register("xlsx", suffixes=(".xlsx",), columns=True, read_whole=True)
class Xlsx(Format):
    """The first sheet of an Excel workbook."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        frame, names = self._frame(label_column)
        if label_column is not None:
            label_of(names, label_column, self.source)
        for start in range(first_row, len(frame), n_rows):
            yield table(frame.iloc[start : start + n_rows].reset_index(drop=True), self.source, label_column, start)

    def _frame(self, label_column: str | None) -> tuple[pd.DataFrame, list[Any]]:
        """All rows; columns are named by the header, or by numbers."""
        import pandas as pd

        rows, sheets = first_sheet(self.path)
        if len(sheets) > 1:
            note = f"{self.source} has {len(sheets)} sheets, of which the first is read: {sheets[0]}"
            warnings.warn(TableNote(note), stacklevel=2)
        rows = rows[self.reading.skip_rows or 0 :]
        while rows and not any(cell is not None for cell in rows[0]):
            rows.pop(0)
        if not rows:
            raise DataError(f"{self.source}: holds no samples")
        cells = [["" if cell is None else str(cell).strip() for cell in row] for row in rows[: SAMPLE_LINES + 1]]
        said = self.reading.header
        has_header = said if said is not None else is_header(cells[0], cells[1:], self.reading)
        names: list[Any] = list(range(len(cells[0])))
        if has_header:
            names = [name or f"Unnamed: {i}" for i, name in enumerate(cells[0])]
            rows.pop(0)
        elif said is None:
            note = f"{self.source} is read with no header (columns are named 0 to {len(names) - 1})"
            warnings.warn(TableNote(note), stacklevel=2)
        if len(set(names)) < len(names):
            raise DataError(f"{self.source}: two columns are named {max(names, key=names.count)!r}")
        kinds = self.reading.columns or {}
        columns = {
            name: values_of(
                pd.Series([row[i] for row in rows], dtype=object, name=str(name)),
                str(name) == label_column,
                kinds.get(str(name)),
                self.source,
            )
            for i, name in enumerate(names)
        }
        return pd.DataFrame(columns), names


def values_of(cells: pd.Series[Any], is_label: bool, kind: str | None, source: str) -> pd.Series[Any]:  # noqa: FBT001
    """A column as numbers, times or truth values if all its cells are such, and otherwise as text."""
    import pandas as pd

    there = [cell for cell in cells if cell is not None]
    types = {type(cell) for cell in there}
    as_text = kind in ("category", "identifier")
    if is_label:
        return cells
    if there and not as_text and types <= {int, float}:
        return pd.to_numeric(cells).astype("int64" if types == {int} and len(there) == len(cells) else "float64")
    if types == {bool} and len(there) == len(cells) and not as_text:
        return cells.astype(bool)
    if there and types <= {datetime.datetime, datetime.date}:
        return pd.to_datetime(cells)
    text = cells.map(lambda cell: None if cell is None else str(cell)).astype("str")
    column = Column()
    column.update(text, (".", ","))
    convention = None if as_text else convention_of(column, ".")
    return text if convention is None else to_numbers(text.rename(str(cells.name)), convention, source, 0)
