"""Data on standard input: CSV, or a ``.npy`` array."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.csv import CsvTable
from vae_anomaly.datasets.formats.npy import Npy
from vae_anomaly.datasets.reading import Reading
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import open_data

NPY_MAGIC = b"\x93NUMPY"
SOURCE = "standard input"
MOST_BYTES = 64 << 30
ROWS = 1 << 16


def stdin_chunks(stream: IO[bytes], n_rows: int, label_column: str | None, reading: Reading) -> Iterator[Dataset]:
    """A ``.npy`` array or a text table, from a temporary file."""
    buffered: io.BufferedReader = io.BufferedReader(stream)  # type: ignore[arg-type]
    if buffered.peek(len(NPY_MAGIC))[: len(NPY_MAGIC)] != NPY_MAGIC:
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            copy(buffered, file)
            yield from CsvTable(lambda: open_data(Path(file.name)), SOURCE, reading, label_column).chunks(n_rows)
        return
    if label_column is not None:
        raise DataError(f"{SOURCE} is an array, which has no columns to take labels from: leave out --label-column")
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        copy(buffered, file)
        array = Npy(Path(file.name))
        array.source = SOURCE
        yield from array.chunks(min(n_rows, ROWS))


def copy(stream: IO[bytes], file: IO[bytes]) -> None:
    """Copy a stream into a temporary file.

    Raises
    ------
    DataError
        If it has more than 64 GiB.
    """
    n_bytes = 0
    while block := stream.read(1 << 20):
        n_bytes += len(block)
        if n_bytes > MOST_BYTES:
            raise DataError(f"{SOURCE}: has more than {MOST_BYTES:,} bytes: save it as a file")
        file.write(block)
    file.flush()
