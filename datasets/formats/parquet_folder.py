"""A folder of ``.parquet`` files, at any depth, which follow each other in order of their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import Format
from vae_anomaly.datasets.formats.parquet import Parquet
from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS


@FORMATS.register(
    "parquet_folder", suffixes=(), folder=True, holds=".parquet", shown="a folder of .parquet files", columns=True
)
class ParquetFolder(Format):
    """A table in several files."""

    def _files(self) -> list[Parquet]:
        from vae_anomaly.datasets.ranges import data_files  # it knows formats, of which this is one

        return [Parquet(Path(name), self.reading) for name in data_files(self.source)]

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        known: list[object] | None = None
        for file in self._files():
            n_file = file.count() or 0
            for part in file.chunks(n_rows, first_row, label_column) if first_row < n_file else ():
                names = list(part.X.columns)  # type: ignore[union-attr]  # a table's is a frame
                known = names if known is None else known
                if names != known:
                    raise DataError(f"{file.source}: has other columns than the files before it in {self.source}")
                yield replace(part, source=self.source)
            first_row = max(0, first_row - n_file)

    def count(self) -> int | None:
        counts = [file.count() for file in self._files()]
        return None if None in counts else sum(n or 0 for n in counts)
