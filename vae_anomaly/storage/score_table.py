"""Score tables, written a piece at a time: CSV, JSON lines, parquet or NumPy."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vae_anomaly.errors import DataError
from vae_anomaly.storage.atomic import atomic_write
from vae_anomaly.storage.numpy_files import open_npy, parquet_frames
from vae_anomaly.storage.safe_reading import open_data, parsing
from vae_anomaly.storage.strict_json import loads

if TYPE_CHECKING:
    import pandas as pd

Columns: TypeAlias = "Mapping[str, Any] | pd.DataFrame"
"""Arrays ``(N,)`` by name."""
ScoreTable: TypeAlias = Callable[[Columns], None]
LARGEST_TABLE = 1 << 30
LARGEST_LINE = 1 << 16
LINES = 1 << 14
TEXT_ROWS = 1 << 12  # Python objects of so many rows at a time
SCORE_SUFFIXES = (".csv", ".jsonl", ".npy", ".parquet")


@contextlib.contextmanager
def open_score_table(output: Path | IO[str]) -> Iterator[ScoreTable]:
    """A function that appends rows, arrays by name or a DataFrame, to a table.

    Parameters
    ----------
    output
        A text stream gets CSV. A path gets the format of its suffix, and the file appears only once the block has
        ended well. A ``.npy`` file holds one structured array with a field a column; floats keep every bit in all
        four formats.

    Raises
    ------
    DataError
        If the suffix is unknown, or pyarrow is missing for parquet.
    OSError
        If the file cannot be written.
    """
    if not isinstance(output, Path):
        yield text_writer(output, ".csv")
    elif output.suffix == ".csv":
        with atomic_write(output, "w", encoding="utf-8", newline="") as file:
            yield text_writer(file, ".csv")
    elif output.suffix == ".jsonl":
        with atomic_write(output, "w", encoding="utf-8", newline="") as file:
            yield text_writer(file, ".jsonl")
    elif output.suffix == ".npy":
        with atomic_write(output) as file:
            yield from npy_table(file)
    elif output.suffix == ".parquet":
        with atomic_write(output) as file:
            yield from parquet_table(file)
    else:
        raise DataError(
            f"{output}: scores are written as {', '.join(SCORE_SUFFIXES)}, not {output.suffix or 'without suffix'!r}"
        )


def read_score_table(path: Path) -> pd.DataFrame:
    """Read a table that `open_score_table` wrote, or any other with a column ``anomaly_score``.

    Raises
    ------
    DataError
        If it cannot be read, is empty or above 1 GiB, or its scores are missing or not finite numbers.
    """
    readers = {".csv": read_csv, ".jsonl": read_json_lines, ".npy": read_npy, ".parquet": read_parquet}
    if path.suffix not in readers:
        raise DataError(f"{path}: scores are read from {', '.join(readers)}")
    with open_data(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_TABLE:
            raise DataError(f"{path}: has more than {LARGEST_TABLE:,} bytes, the most that is read of a score table")
    with parsing(f"{path}: not a readable score table"):
        table = readers[path.suffix](path)
    if "anomaly_score" not in table:
        raise DataError(
            f"{path}: has no column anomaly_score; its columns are {', '.join(map(str, table.columns[:20]))}"
        )
    scores = table["anomaly_score"]
    if not len(table) or scores.dtype.kind not in "fiu" or not np.isfinite(scores).all():
        raise DataError(f"{path}: the column anomaly_score must hold finite numbers, at least one")
    return table


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file whose first line names few columns."""
    import pandas as pd

    with open_data(path) as file:
        if len(file.readline(LARGEST_LINE)) == LARGEST_LINE:
            raise ValueError(f"its first line has over {LARGEST_LINE:,} bytes")
        file.seek(0)
        return pd.read_csv(file)


def read_json_lines(path: Path) -> pd.DataFrame:
    """Objects a line, all of the same keys; so many lines at a time, since objects take far more room than columns."""
    import pandas as pd

    pieces: list[pd.DataFrame] = []
    with open_data(path) as file:
        while rows := [loads(line) for line in islice(iter(lambda: file.readline(LARGEST_LINE), b""), LINES)]:
            keys = pieces[0].columns.tolist() if pieces else list(rows[0])
            if any(list(row) != keys for row in rows):
                raise ValueError(f"not every line has the keys {', '.join(map(str, keys))}")
            pieces.append(pd.DataFrame(rows, columns=keys))
    return pd.concat(pieces or [pd.DataFrame()], ignore_index=True)


def read_npy(path: Path) -> pd.DataFrame:
    """A structured array."""
    import pandas as pd

    return pd.DataFrame(np.array(open_npy(path)))


def read_parquet(path: Path) -> pd.DataFrame:
    """All row groups."""
    import pandas as pd

    return pd.concat([pd.DataFrame(), *parquet_frames(path, LINES)], ignore_index=True)


def text_writer(file: IO[str], suffix: str) -> ScoreTable:
    """Rows as text, a header before the first."""
    header = True

    def write(columns: Columns) -> None:
        nonlocal header
        file.write(text_table(columns, suffix, header=header))
        header = False

    return write


def text_table(columns: Columns, suffix: str, *, header: bool) -> str:
    """Rows as CSV, with the names of the columns if asked for, or as JSON lines."""
    arrays = {str(name): np.asarray(values) for name, values in columns.items()}
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    if suffix == ".csv" and header:
        table.writerow(arrays)
    for start in range(0, max(map(len, arrays.values())), TEXT_ROWS):
        rows = zip(*(array[start : start + TEXT_ROWS].tolist() for array in arrays.values()), strict=True)
        if suffix == ".csv":
            table.writerows(rows)
        else:
            text.writelines(json.dumps(dict(zip(arrays, row, strict=True))) + "\n" for row in rows)
    return text.getvalue()


def records(columns: Columns) -> np.ndarray:
    """Rows as one structured array."""
    arrays = {str(name): np.asarray(values) for name, values in columns.items()}
    table = np.empty(max(map(len, arrays.values())), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        table[name] = array
    return table


def npy_table(file: IO[bytes]) -> Iterator[ScoreTable]:
    """Rows as one structured array; the header, of a size that no row count changes, is set right at the end."""
    dtype: np.dtype[np.void] | None = None
    n_rows = 0

    def header() -> None:
        if dtype is not None:
            described = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (n_rows,),
            }
            np.lib.format.write_array_header_1_0(file, described)

    def write(columns: Columns) -> None:
        nonlocal dtype, n_rows
        rows = records({str(name): values for name, values in columns.items() if name != "file"})
        if dtype is None:
            dtype = rows.dtype
            header()
        file.write(rows.tobytes())
        n_rows += len(rows)

    yield write
    file.seek(0)
    header()


def parquet_table(file: IO[bytes]) -> Iterator[ScoreTable]:
    """Rows as parquet, a row group a piece."""
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
            piece = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(file, piece.schema))
            writer.write_table(piece)

        yield write
