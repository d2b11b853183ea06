"""A user's own data, by path: .npy, .npz, .csv, .parquet, .zarr, or a folder of images.

`load_file` gives all of it, `chunks` a piece at a time in constant memory. Nothing here unpickles, and nothing is
held that a header merely claims: `vae_anomaly.storage.numpy_files` and the readers beside this file state their bounds.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from vae_anomaly.datasets.dataset import Dataset, class_names
from vae_anomaly.datasets.images import image_chunks
from vae_anomaly.datasets.tables import csv_chunks, is_number, table
from vae_anomaly.datasets.zarr_arrays import open_zarr, zarr_pieces
from vae_anomaly.errors import DataError
from vae_anomaly.storage.numpy_files import open_npy, read_npz
from vae_anomaly.storage.parquet_files import parquet_frames, parquet_length
from vae_anomaly.storage.rows import check_samples, read_into
from vae_anomaly.storage.safe_reading import LARGEST, parsing, read_data

STDIN = Path("-")
NPY_MAGIC = b"\x93NUMPY"
SUFFIXES = ".npy, .npz, .csv, .parquet, .zarr, or a folder of images"
LABEL_BYTES = 1 << 26


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
        If it is missing, malformed, of a kind not known here, empty, holds anything but finite numbers, or, unless it
        is ``.npy``, takes more than 4 GiB.
    """
    if path.suffix == ".npy" and path != STDIN:
        refuse_label_column(path, label_column)
        X = open_npy(path)
        check_samples(X, str(path))
        return Dataset(X, str(path))
    parts: list[Dataset] = []
    n_bytes = 0
    for part in chunks(path, 65_536, label_column):
        parts.append(replace(part, X=part.X.copy()))
        n_bytes += part.X.nbytes
        if n_bytes > LARGEST:
            raise DataError(f"{path}: takes more than {LARGEST:,} bytes: save it as .npy, which stays on disk")
    first = parts[0]
    return Dataset(
        np.concatenate([part.X for part in parts]),
        str(path),
        None if first.labels is None else np.concatenate([part.labels for part in parts if part.labels is not None]),
        first.feature_names,
        None if first.row_names is None else tuple(name for part in parts for name in part.row_names or ()),
    )


def chunks(path: Path, n_rows: int, label_column: str | None = None, first_row: int = 0) -> Iterator[Dataset]:
    """The samples from ``first_row`` on in order, at most ``n_rows`` at a time; the rest as `load_file`.

    A part's array is good until the next part is asked for.
    """
    source = "standard input" if path == STDIN else str(path)
    seen = first_row
    for part in unchecked_chunks(path, n_rows, label_column, first_row):
        check_samples(part.X, source, seen, part.feature_names)
        seen += len(part)
        yield part
    if not seen:
        raise DataError(f"{source}: holds no samples")


def count_rows(path: Path) -> int | None:
    """How many samples there are, where a file says so without being read: ``.npy``, parquet and Zarr."""
    if path.suffix == ".npy" and path != STDIN:
        return next(iter(open_npy(path).shape), None)
    if path.suffix == ".parquet" and path.exists():
        return parquet_length(path)
    if path.suffix == ".zarr" and path.exists():
        with open_zarr(path) as array:
            n: int = array.shape[0]
            return n
    return None


def unchecked_chunks(path: Path, n_rows: int, label_column: str | None, first_row: int) -> Iterator[Dataset]:
    """The samples as they are in the file."""
    if path == STDIN:
        return stdin_chunks(sys.stdin.buffer, n_rows, label_column)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.suffix == ".csv":
        return csv_chunks(path, n_rows, label_column, str(path), first_row)
    if path.suffix == ".parquet":
        return parquet_chunks(path, n_rows, label_column, first_row)
    refuse_label_column(path, label_column)
    if path.suffix == ".zarr":
        return (Dataset(X, str(path)) for X in zarr_pieces(path, n_rows, first_row))
    if path.is_dir():
        return image_chunks(path, n_rows, first_row)
    if path.suffix == ".npy":
        return npy_chunks(path, str(path), n_rows, first_row)
    if path.suffix == ".npz":
        arrays = read_npz(path, "X", "y")
        return array_chunks(arrays["X"], arrays.get("y"), str(path), n_rows, first_row)
    raise DataError(f"{path}: no known kind of data: give {SUFFIXES}")


def load_labels(path: Path) -> np.ndarray:
    """Class names ``(N,)`` from a ``.npy`` file or a one-column ``.csv``, with or without a header.

    Raises
    ------
    DataError
        If the file is missing, malformed, above 64 MiB, or holds anything but one label a row.
    """
    if path.suffix == ".npy":
        return class_names(open_npy(path), str(path))
    if path.suffix not in (".csv", ".txt"):
        raise DataError(f"{path}: labels come as .npy or as a .csv of one column")
    known: dict[str, str] = {}  # few labels, many rows: one object each
    values: list[str] = []
    with parsing(f"{path}: not a CSV file in UTF-8"):
        text = read_data(path, LABEL_BYTES).decode("utf-8-sig")
        for row in csv.reader(io.StringIO(text, newline=""), strict=True):
            if len(row) > 1:
                raise DataError(f"{path}: needs exactly one label a row")
            values += (known.setdefault(cell.strip(), cell.strip()) for cell in row)
    if not values:
        raise DataError(f"{path}: needs exactly one label a row")
    if values[0].lower() in ("label", "labels", "y", "class", "target") or (
        not is_number(values[0]) and all(map(is_number, values[1:])) and len(values) > 1
    ):
        values = values[1:]
    if values and all(map(is_number, values)):
        return class_names(np.array(values, dtype=np.float64), str(path))
    return class_names(np.array(values, dtype=object), str(path))


def refuse_label_column(path: Path | str, label_column: str | None) -> None:
    """A label column only exists in a table with columns."""
    if label_column is not None:
        raise DataError(f"{path} has no columns to take labels from: --label-column is for .csv and .parquet")


def npy_chunks(path: Path, source: str, n_rows: int, first_row: int = 0) -> Iterator[Dataset]:
    """Rows of a ``.npy`` file, read into one buffer: mapped pages would stay in memory once touched."""
    array = open_npy(path)
    if not (array.ndim and array.size and array.flags.c_contiguous and isinstance(array, np.memmap)):
        yield from array_chunks(array, None, source, n_rows, first_row)
        return
    row_bytes = array.dtype.itemsize * math.prod(array.shape[1:])
    n_rows = max(1, min(n_rows, LARGEST // row_bytes, len(array)))
    buffer = np.empty((n_rows, *array.shape[1:]), array.dtype)
    with path.open("rb", buffering=0) as file:
        file.seek(array.offset + first_row * row_bytes)
        for start in range(first_row, len(array), n_rows):
            rows = buffer[: len(array) - start]
            read_into(file, rows, source)
            yield Dataset(rows, source)


def array_chunks(
    X: np.ndarray, y: np.ndarray | None, source: str, n_rows: int, first_row: int = 0
) -> Iterator[Dataset]:
    """Slices of an array in memory or mapped into it."""
    if X.ndim == 0:
        raise DataError(f"{source}: needs rows (N, D) or images, got a single value")
    labels = None if y is None else class_names(y, source)
    if labels is not None and len(labels) != len(X):
        raise DataError(f"{source}: {len(X)} samples in X but {len(labels)} labels in y")
    for start in range(first_row, len(X), n_rows):
        rows = slice(start, start + n_rows)
        yield Dataset(X[rows], source, None if labels is None else labels[rows])


def parquet_chunks(path: Path, n_rows: int, label_column: str | None, first_row: int) -> Iterator[Dataset]:
    """Rows of a parquet file, a batch at a time."""
    for frame in parquet_frames(path, n_rows, first_row):
        n = len(frame)
        yield table(frame, str(path), first_row, label_column, [str(column) for column in frame.columns])
        first_row += n


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
