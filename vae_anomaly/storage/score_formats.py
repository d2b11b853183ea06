"""The formats of score tables: each with its suffix, its writer and its reader, in one table.

A writer takes chunks of rows, arrays by column name or a DataFrame. Floats keep every bit in all formats.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.numpy_files import open_npy
from vae_anomaly.storage.parquet_files import parquet_frames
from vae_anomaly.storage.safe_reading import open_data
from vae_anomaly.storage.strict_json import loads

if TYPE_CHECKING:
    import pandas as pd

Columns: TypeAlias = "Mapping[str, Any] | pd.DataFrame"
"""Arrays ``(N,)`` by name."""
ScoreTable: TypeAlias = Callable[[Columns], None]
"""Appends rows to a table."""
MAX_LINE_BYTES = 1 << 16
LINES = 1 << 14  # of a text file, read at a time
TEXT_ROWS = 1 << 12  # turned into Python objects at a time


class ToText(Protocol):
    """Rows as text, with a header where they are the first of a table that needs one."""

    def __call__(self, columns: Columns, *, first: bool) -> str: ...


@dataclass(frozen=True)
class TableFormat:
    """A format of score tables.

    Parameters
    ----------
    read
        The table in a file; may raise anything for one that is malformed.
    write
        A context that appends rows to a binary file, which is complete at its end.
    to_text
        For a text format: rows as text, so that a table can be continued.
    """

    read: Callable[[Path], pd.DataFrame]
    write: Callable[[IO[bytes]], AbstractContextManager[ScoreTable]]
    to_text: ToText | None = None


def cells(columns: Columns) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """Names of the columns, and rows as tuples of Python objects, a few thousand at a time."""
    arrays = {str(name): np.asarray(values) for name, values in columns.items()}
    for start in range(0, max(map(len, arrays.values())), TEXT_ROWS):
        rows = zip(*(array[start : start + TEXT_ROWS].tolist() for array in arrays.values()), strict=True)
        yield list(arrays), list(rows)


def csv_text(columns: Columns, *, first: bool) -> str:
    """Rows as CSV, after the names of the columns if they are the first."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    if first:
        table.writerow(map(str, columns))
    for _, rows in cells(columns):
        table.writerows(rows)
    return text.getvalue()


def json_lines_text(columns: Columns, *, first: bool = False) -> str:
    """Rows as one JSON object a line."""
    return "".join(
        json.dumps(dict(zip(names, row, strict=True))) + "\n" for names, rows in cells(columns) for row in rows
    )


@contextlib.contextmanager
def write_text(to_text: ToText, file: IO[bytes]) -> Iterator[ScoreTable]:
    """Append rows as text."""
    first = True

    def write(columns: Columns) -> None:
        nonlocal first
        file.write(to_text(columns, first=first).encode())
        first = False

    yield write


def records(columns: Columns) -> np.ndarray:
    """Rows as one structured array."""
    arrays = {str(name): np.asarray(values) for name, values in columns.items()}
    table = np.empty(max(map(len, arrays.values())), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        table[name] = array
    return table


@contextlib.contextmanager
def write_npy(file: IO[bytes]) -> Iterator[ScoreTable]:
    """Append rows to one structured array; the header has the same size for any number of rows, and is set at the end.

    Text (names of files, identifiers) is left out: fields have a fixed width.
    """
    dtype: np.dtype[np.void] | None = None
    n_rows = 0

    def write_header() -> None:
        if dtype is not None:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_rows,)}
            np.lib.format.write_array_header_1_0(file, header)

    def write(columns: Columns) -> None:
        nonlocal dtype, n_rows
        arrays = {str(name): np.asarray(values) for name, values in columns.items()}
        rows = records({name: values for name, values in arrays.items() if values.dtype.kind not in "OUT"})
        if dtype is None:
            dtype = rows.dtype
            write_header()
        file.write(rows.tobytes())
        n_rows += len(rows)

    yield write
    file.seek(0)
    write_header()


@contextlib.contextmanager
def write_parquet(file: IO[bytes]) -> Iterator[ScoreTable]:
    """Append rows to a parquet file, one row group for each chunk."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError("writing parquet needs pyarrow: pip install 'vae-anomaly[parquet]'") from None
    import pandas as pd

    with contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None

        def write(columns: Columns) -> None:
            nonlocal writer
            chunk = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(file, chunk.schema))
            writer.write_table(chunk)

        yield write


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file whose first line has at most 64 KiB."""
    import pandas as pd

    with open_data(path) as file:
        if len(file.readline(MAX_LINE_BYTES)) == MAX_LINE_BYTES:
            raise ValueError(f"its first line has over {MAX_LINE_BYTES:,} bytes")
        file.seek(0)
        return pd.read_csv(file)


def read_json_lines(path: Path) -> pd.DataFrame:
    """One object a line, all with the same keys; read in chunks, since objects take far more memory than columns."""
    import pandas as pd

    chunks: list[pd.DataFrame] = []
    with open_data(path) as file:
        while rows := [loads(line) for line in islice(iter(partial(file.readline, MAX_LINE_BYTES), b""), LINES)]:
            keys = chunks[0].columns.tolist() if chunks else list(rows[0])
            if any(list(row) != keys for row in rows):
                raise ValueError(f"not every line has the keys {', '.join(map(str, keys))}")
            chunks.append(pd.DataFrame(rows, columns=keys))
    return pd.concat(chunks or [pd.DataFrame()], ignore_index=True)


def read_npy(path: Path) -> pd.DataFrame:
    """A structured array."""
    import pandas as pd

    return pd.DataFrame(np.array(open_npy(path)))


def read_parquet(path: Path) -> pd.DataFrame:
    """All row groups."""
    import pandas as pd

    return pd.concat([pd.DataFrame(), *parquet_frames(path, LINES)], ignore_index=True)


TABLE_FORMATS: dict[str, TableFormat] = {
    ".csv": TableFormat(read_csv, partial(write_text, csv_text), csv_text),
    ".jsonl": TableFormat(read_json_lines, partial(write_text, json_lines_text), json_lines_text),
    ".npy": TableFormat(read_npy, write_npy),
    ".parquet": TableFormat(read_parquet, write_parquet),
}
"""By suffix; a new format is entered here, and reading, writing, resuming and messages know it."""
