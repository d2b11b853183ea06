"""A user's own data, by path: .npy, .npz, .csv, .parquet, .zarr, or a folder of images.

`load_file` gives all of it, `chunks` a piece at a time in constant memory. Nothing here unpickles.
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from vae_anomaly.bounded import explain_numpy, open_npy
from vae_anomaly.datasets.dataset import Dataset, class_names
from vae_anomaly.datasets.images import image_chunks
from vae_anomaly.datasets.zarr_arrays import open_zarr, zarr_pieces
from vae_anomaly.errors import DataError
from vae_anomaly.rows import check_samples, read_into

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq

STDIN = Path("-")
NPY_MAGIC = b"\x93NUMPY"
SUFFIXES = ".npy, .npz, .csv, .parquet, .zarr, or a folder of images"


def load_file(path: Path, label_column: str | None = None) -> Dataset:
    """All samples of a file or folder. A ``.npy`` file stays on disk, mapped into memory.

    Parameters
    ----------
    path
        The file; ``-`` is standard input, CSV or ``.npy``.
    label_column
        Column of a table that holds class names and not a feature; counted from 0 where there is no header.

    Raises
    ------
    DataError
        If it is missing, malformed, of a kind not known here, empty, or holds anything but finite numbers.
    """
    if path.suffix == ".npy" and path != STDIN:
        refuse_label_column(path, label_column)
        X = open_npy(path)
        check_samples(X, str(path))
        return Dataset(X, str(path))
    parts = [replace(part, X=part.X.copy()) for part in chunks(path, 65_536, label_column)]
    first = parts[0]
    return Dataset(
        np.concatenate([part.X for part in parts]),
        str(path),
        None if first.labels is None else np.concatenate([part.labels for part in parts if part.labels is not None]),
        first.feature_names,
        None if first.row_names is None else tuple(name for part in parts for name in part.row_names or ()),
    )


def chunks(path: Path, n_rows: int, label_column: str | None = None) -> Iterator[Dataset]:
    """The samples of a file or folder in order, at most ``n_rows`` at a time; parameters and errors as `load_file`.

    A part's array is good until the next part is asked for.
    """
    source = "standard input" if path == STDIN else str(path)
    seen = 0
    for part in unchecked_chunks(path, n_rows, label_column):
        check_samples(part.X, source, seen, part.feature_names)
        seen += len(part)
        yield part
    if not seen:
        raise DataError(f"{source}: holds no samples")


def count_rows(path: Path) -> int | None:
    """How many samples there are, where a file says so without being read: ``.npy``, parquet and Zarr."""
    n: int
    if path.suffix == ".npy" and path != STDIN:
        return next(iter(open_npy(path).shape), None)
    if path.suffix == ".parquet" and path.exists():
        with open_parquet(path) as file:
            n = file.metadata.num_rows
            return n
    if path.suffix == ".zarr" and path.exists():
        with open_zarr(path) as array:
            n = array.shape[0]
            return n
    return None


def unchecked_chunks(path: Path, n_rows: int, label_column: str | None) -> Iterator[Dataset]:
    """The samples as they are in the file."""
    if path == STDIN:
        return stdin_chunks(sys.stdin.buffer, n_rows, label_column)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.suffix == ".csv":
        return csv_chunks(path, n_rows, label_column, str(path))
    if path.suffix == ".parquet":
        return parquet_chunks(path, n_rows, label_column)
    refuse_label_column(path, label_column)
    if path.suffix == ".zarr":
        return (Dataset(X, str(path)) for X in zarr_pieces(path, n_rows))
    if path.is_dir():
        return image_chunks(path, n_rows)
    if path.suffix == ".npy":
        return npy_chunks(path, str(path), n_rows)
    if path.suffix == ".npz":
        return array_chunks(*read_npz(path), str(path), n_rows)
    raise DataError(f"{path}: no known kind of data: give {SUFFIXES}")


def load_labels(path: Path) -> np.ndarray:
    """Class names ``(N,)`` from a ``.npy`` file or a one-column ``.csv``, with or without a header.

    Raises
    ------
    DataError
        If the file is missing, malformed, or holds anything but one label a row.
    """
    if path.suffix == ".npy":
        return class_names(open_npy(path), str(path))
    if path.suffix not in (".csv", ".txt"):
        raise DataError(f"{path}: labels come as .npy or as a .csv of one column")
    with open_text(path) as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows or any(len(row) != 1 for row in rows):
        raise DataError(f"{path}: needs exactly one label a row")
    values = [row[0].strip() for row in rows]
    if values[0].lower() in ("label", "labels", "y", "class", "target") or (
        not is_number(values[0]) and all(map(is_number, values[1:])) and len(values) > 1
    ):
        values = values[1:]
    if values and all(map(is_number, values)):
        return class_names(np.array(values, dtype=np.float64), str(path))
    return class_names(np.array(values, dtype=str), str(path))


def refuse_label_column(path: Path, label_column: str | None) -> None:
    """A label column only exists in a table with columns."""
    if label_column is not None:
        raise DataError(f"{path} has no columns to take labels from: --label-column is for .csv and .parquet")


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Arrays ``X`` and, if there, ``y`` of an ``.npz`` file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile) or "X" not in archive:
                found = ", ".join(archive.files) if isinstance(archive, np.lib.npyio.NpzFile) else "one bare array"
                raise DataError(f"{path}: needs an array named X (and, with labels, y), found: {found or 'nothing'}")
            return archive["X"], archive.get("y")
    except DataError:
        raise
    except (ValueError, EOFError, OSError, OverflowError, SyntaxError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {explain_numpy(error)}") from error


def npy_chunks(path: Path, source: str, n_rows: int) -> Iterator[Dataset]:
    """Rows of a ``.npy`` file, read into one buffer: mapped pages would stay in memory once touched."""
    array = open_npy(path)
    if not (array.ndim and array.size and array.flags.c_contiguous and isinstance(array, np.memmap)):
        yield from array_chunks(array, None, source, n_rows)
        return
    buffer = np.empty((min(n_rows, len(array)), *array.shape[1:]), array.dtype)
    with path.open("rb", buffering=0) as file:
        file.seek(array.offset)
        for start in range(0, len(array), n_rows):
            rows = buffer[: len(array) - start]
            read_into(file, rows, source)
            yield Dataset(rows, source)


def array_chunks(X: np.ndarray, y: np.ndarray | None, source: str, n_rows: int) -> Iterator[Dataset]:
    """Slices of an array in memory or mapped into it."""
    if X.ndim == 0:
        raise DataError(f"{source}: needs rows (N, D) or images, got a single value")
    labels = None if y is None else class_names(y, source)
    if labels is not None and len(labels) != len(X):
        raise DataError(f"{source}: {len(X)} samples in X but {len(labels)} labels in y")
    for start in range(0, len(X), n_rows):
        rows = slice(start, start + n_rows)
        yield Dataset(X[rows], source, None if labels is None else labels[rows])


def stdin_chunks(stream: IO[bytes], n_rows: int, label_column: str | None) -> Iterator[Dataset]:
    """Standard input: a ``.npy`` array, kept in a temporary file, or else CSV as it arrives."""
    buffered: io.BufferedReader = io.BufferedReader(stream)  # type: ignore[arg-type]
    if buffered.peek(len(NPY_MAGIC))[: len(NPY_MAGIC)] != NPY_MAGIC:
        yield from csv_chunks(buffered, n_rows, label_column, "standard input")
        return
    refuse_label_column(STDIN, label_column)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        shutil.copyfileobj(buffered, file)
        file.flush()
        yield from npy_chunks(Path(file.name), "standard input", n_rows)


def csv_chunks(source: Path | io.BufferedReader, n_rows: int, label_column: str | None, name: str) -> Iterator[Dataset]:
    """Rows of a comma-separated table.

    Its first line is a header unless every cell of it is a number; the numbers 0, 1, 2, ... are a header too:
    pandas writes them for columns without names.
    """
    import pandas as pd

    stream = source.open("rb") if isinstance(source, Path) else source
    with stream:
        first = stream.readline(1 << 24)
        try:
            header = next(csv.reader([first.decode("utf-8-sig")]), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{name}: not a CSV file in UTF-8 ({error})") from error
        if not header:
            raise DataError(f"{name}: holds no samples")
        names = [cell.strip() for cell in header]
        numbers = [str(i) for i in range(len(header))]
        has_header = not all(map(is_number, names)) or (names == numbers and len(names) > 1)
        if not has_header:
            names = numbers
        if len(set(names)) < len(names):
            twice = next(cell for cell in names if names.count(cell) > 1)
            raise DataError(f"{name}: two columns are named {twice!r}")
        body = io.BufferedReader(Chained(b"" if has_header else first.removeprefix(b"\xef\xbb\xbf"), stream))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # mixed types are refused below
                with pd.read_csv(
                    body,
                    names=names,
                    header=None,
                    index_col=False,
                    chunksize=n_rows,
                    encoding="utf-8",
                    skipinitialspace=True,
                ) as reader:
                    seen = 0
                    for frame in reader:
                        if frame.empty:
                            return
                        yield table(frame, name, seen, label_column, names if has_header else None)
                        seen += len(frame)
        except pd.errors.EmptyDataError:
            return
        except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
            raise DataError(f"{name}: not a table with {len(names)} columns in every row ({error})") from error


class Chained(io.RawIOBase):
    """A line already read, then the rest of its stream."""

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self.head = head
        self.rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.head:
            piece, self.head = self.head[: len(buffer)], self.head[len(buffer) :]
        else:
            piece = self.rest.read1(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def parquet_chunks(path: Path, n_rows: int, label_column: str | None) -> Iterator[Dataset]:
    """Rows of a parquet file, a batch at a time."""
    seen = 0
    with open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=n_rows):
            frame = batch.to_pandas()
            yield table(frame, str(path), seen, label_column, [str(column) for column in frame.columns])
            seen += len(frame)


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A parquet file, or a clear error."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path}: reading parquet needs pyarrow: pip install 'vae-anomaly[parquet]'") from None
    try:
        # as it is, it reads ahead whole row groups, and the file with them
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from error


def table(
    frame: pd.DataFrame, source: str, first_row: int, label_column: str | None, names: list[str] | None
) -> Dataset:
    """A piece of a table as numbers, its label column apart."""
    labels = None
    if label_column is not None:
        if label_column not in frame.columns:
            known = ", ".join(map(str, frame.columns[:20]))
            raise DataError(f"{source}: no column {label_column!r}; its columns are {known}")
        labels = class_names(frame.pop(label_column).to_numpy(), f"{source}, column {label_column!r}")
    for column in frame.columns:
        values = frame[column]
        if values.dtype.kind in "fiub":
            continue
        text = values.map(lambda cell: isinstance(cell, str) and not is_number(cell))
        row = int(np.argmax((text | values.isna()).to_numpy()))
        raise DataError(
            f"{source}: row {first_row + row}, column {column!r} is {values.iloc[row]!r}, not a number: encode or drop "
            "the column, or name it with --label-column if it holds the labels"
        )
    if not len(frame.columns):
        raise DataError(f"{source}: no columns are left beside the labels")
    single = all(dtype == np.float32 for dtype in frame.dtypes)
    X = frame.to_numpy(dtype=np.float32 if single else np.float64, na_value=np.nan)
    columns = None if names is None else tuple(str(column) for column in frame.columns)
    return Dataset(X, source, labels, columns)


def open_text(path: Path) -> io.TextIOBase:
    """A UTF-8 text file, or a clear error."""
    try:
        return io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})") from error


def is_number(text: str) -> bool:
    """Whether a CSV cell reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
