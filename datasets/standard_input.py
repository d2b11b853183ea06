"""Data on standard input: CSV, or a ``.npy`` array."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.formats.csv import csv_chunks
from vae_anomaly.datasets.formats.npy import Npy
from vae_anomaly.errors import DataError

NPY_MAGIC = b"\x93NUMPY"
SOURCE = "standard input"


def stdin_chunks(stream: IO[bytes], n_rows: int, label_column: str | None) -> Iterator[Dataset]:
    """A ``.npy`` array, which is kept in a temporary file, or else CSV as it arrives."""
    buffered: io.BufferedReader = io.BufferedReader(stream)  # type: ignore[arg-type]
    if buffered.peek(len(NPY_MAGIC))[: len(NPY_MAGIC)] != NPY_MAGIC:
        yield from csv_chunks(buffered, n_rows, label_column, SOURCE)
        return
    if label_column is not None:
        raise DataError(f"{SOURCE} is an array, which has no columns to take labels from: leave out --label-column")
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        shutil.copyfileobj(buffered, file)
        file.flush()
        array = Npy(Path(file.name))
        array.source = SOURCE
        yield from array.chunks(n_rows)
