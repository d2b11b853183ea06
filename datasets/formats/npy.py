"""``.npy``: one array, which stays on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.base import CHUNK_BYTES, Extent, Format, array_chunks
from vae_anomaly.datasets.locations import opened
from vae_anomaly.errors import DataError
from vae_anomaly.registry import FORMATS
from vae_anomaly.storage.numpy_files import HEADER_BYTES, NpyHeader, open_npy, read_npy_header
from vae_anomaly.storage.rows import read_into
from vae_anomaly.storage.safe_reading import parsing


@FORMATS.register("npy", suffixes=(".npy",), shardable=True, stays_on_disk=True)
class Npy(Format):
    """A NumPy array in a file."""

    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        """Rows read into one buffer: mapped pages would stay in memory once touched."""
        with opened(self.location) as file:
            header = self._header(file)
            if not header.n_bytes:
                yield from array_chunks(np.empty(header.shape, header.dtype), None, self.source, n_rows, first_row)
            elif header.order == "F" and len(header.shape) > 1:
                yield from self._scattered(n_rows, first_row)
            else:
                yield from self._rows(file, header, n_rows, first_row)

    def _header(self, file: IO[bytes]) -> NpyHeader:
        head = file.read(HEADER_BYTES)
        with parsing(f"{self.source} cannot be read"):
            size = file.seek(0, os.SEEK_END)
        header = read_npy_header(head, size, self.source)
        if not header.shape:
            raise DataError(f"{self.source}: needs rows (N, D) or images, got a single value")
        return header

    def _rows(self, file: IO[bytes], header: NpyHeader, n_rows: int, first_row: int) -> Iterator[Dataset]:
        row_bytes = header.dtype.itemsize * math.prod(header.shape[1:])
        n_rows = max(1, min(n_rows, CHUNK_BYTES // row_bytes, header.shape[0]))
        buffer = np.empty((n_rows, *header.shape[1:]), header.dtype)
        file.seek(header.offset + first_row * row_bytes)
        for start in range(first_row, header.shape[0], n_rows):
            rows = buffer[: header.shape[0] - start]
            with parsing(f"{self.source} cannot be read"):
                read_into(file, rows, self.source)
            yield Dataset(rows, self.source)

    def _scattered(self, n_rows: int, first_row: int) -> Iterator[Dataset]:
        """Rows of an array in Fortran order."""
        if not isinstance(self.location, Path):
            raise DataError(f"{self.source}: is in Fortran order, whose rows are scattered: save it in C order")
        return array_chunks(open_npy(self.location), None, self.source, n_rows, first_row)

    def count(self) -> int | None:
        return next(iter(open_npy(self.path).shape), None)

    def extent(self) -> Extent:
        with opened(self.location) as file:
            return Extent(self._header(file).shape[0])

    def on_disk(self) -> np.ndarray:
        return open_npy(self.path)
