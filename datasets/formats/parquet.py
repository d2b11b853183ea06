"""``.parquet``: a table in row groups."""

from __future__ import annotations

from collections.abc import Iterator

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Extent, Format
from vae_anomaly.datasets.locations import opened
from vae_anomaly.datasets.tables import table
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.parquet_files import parquet_frames, parquet_groups, parquet_length


@FORMATS.register("parquet", suffixes=(".parquet",), columns=True, shardable=True)
class Parquet(Format):
    """A table of columns with names."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        with opened(self.location) as file:
            for frame in parquet_frames(self.source, n_rows, first_row, file, self._used(label_column)):
                yield table(frame, self.source, label_column, first_row)
                first_row += len(frame)

    def _used(self, label_column: str | None) -> set[str] | None:
        """Columns that a model knows, and the labels; None: all."""
        known = self.reading.columns
        return None if known is None else {*known, *([] if label_column is None else [label_column])}

    def count(self) -> int | None:
        return parquet_length(self.path)

    def extent(self) -> Extent:
        with opened(self.location) as file:
            groups = parquet_groups(file, self.source)
        return Extent(sum(groups), groups=groups)
