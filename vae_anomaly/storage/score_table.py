"""Score tables: written a chunk at a time, and read whole; `vae_anomaly.storage.score_formats` has the formats."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.atomic import atomic_write
from vae_anomaly.storage.safe_reading import open_data, parsing
from vae_anomaly.storage.score_formats import TABLE_FORMATS, Columns, ScoreTable, csv_text

if TYPE_CHECKING:
    import pandas as pd

LARGEST_TABLE = 1 << 30
SCORE_SUFFIXES = tuple(TABLE_FORMATS)


@contextlib.contextmanager
def open_score_table(output: Path | IO[str]) -> Iterator[ScoreTable]:
    """A function that appends rows, arrays by name or a DataFrame, to a table.

    Parameters
    ----------
    output
        A text stream gets CSV. A path gets the format of its suffix, and the file appears only once the ``with`` block
        has ended well. A ``.npy`` file holds one structured array with one field for each column.

    Raises
    ------
    DataError
        If the suffix is unknown, or pyarrow is missing for parquet.
    OSError
        If the file cannot be written.
    """
    if not isinstance(output, Path):
        yield csv_on(output)
        return
    if output.suffix not in TABLE_FORMATS:
        raise DataError(
            f"{output}: scores are written as {', '.join(SCORE_SUFFIXES)}, not {output.suffix or 'without suffix'!r}"
        )
    with atomic_write(output) as file, TABLE_FORMATS[output.suffix].write(file) as write:
        yield write


def csv_on(stream: IO[str]) -> ScoreTable:
    """A function that appends rows to a text stream as CSV."""
    first = True

    def write(columns: Columns) -> None:
        nonlocal first
        stream.write(csv_text(columns, first=first))
        first = False

    return write


def read_score_table(path: Path) -> pd.DataFrame:
    """Read a table that `open_score_table` wrote, or any other with a column ``anomaly_score``.

    Raises
    ------
    DataError
        If it cannot be read, is empty or above 1 GiB, or its scores are missing or not finite numbers.
    """
    if path.suffix not in TABLE_FORMATS:
        raise DataError(f"{path}: scores are read from {', '.join(SCORE_SUFFIXES)}")
    with open_data(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_TABLE:
            raise DataError(f"{path}: has more than {LARGEST_TABLE:,} bytes, the most that is read of a score table")
    with parsing(f"{path}: not a readable score table"):
        table = TABLE_FORMATS[path.suffix].read(path)
    if "anomaly_score" not in table:
        raise DataError(
            f"{path}: has no column anomaly_score; its columns are {', '.join(map(str, table.columns[:20]))}; "
            "vae-anomaly score writes such a table"
        )
    scores = table["anomaly_score"]
    if not len(table) or scores.dtype.kind not in "fiu" or not np.isfinite(scores).all():
        raise DataError(f"{path}: the column anomaly_score must hold finite numbers, at least one")
    return table
