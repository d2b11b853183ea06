"""Data by path or URL, in pieces that several readers can take: ``.npy``, parquet and Zarr, alone or in a folder.

A URL (``s3://``, ``gs://``, ``memory://``, ...) is read through fsspec where it lies: of a file only the bytes of the
rows that are asked for. Only its protocol decides which code reads it; what it holds is read as files on disk are.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np

from vae_anomaly.datasets.dataset import Dataset
from vae_anomaly.datasets.files import refuse_label_column, unchecked_chunks
from vae_anomaly.datasets.tables import table
from vae_anomaly.datasets.zarr_arrays import open_zarr, zarr_pieces
from vae_anomaly.errors import DataError
from vae_anomaly.storage.numpy_files import HEADER_BYTES, NpyHeader, read_npy_header
from vae_anomaly.storage.parquet_files import parquet_frames, parquet_groups
from vae_anomaly.storage.rows import check_samples, read_into
from vae_anomaly.storage.safe_reading import LARGEST, open_data, parsing

SUFFIXES = (".npy", ".parquet", ".zarr")


class Extent(NamedTuple):
    """How many rows a file has, and how many belong together: ``unit`` each, or as many as the groups say."""

    n_rows: int
    unit: int = 1
    groups: tuple[int, ...] | None = None


def is_url(location: str) -> bool:
    """Whether it names a protocol."""
    return "://" in location


def filesystem(url: str) -> tuple[Any, str]:
    """What fsspec reads a URL with, and what the URL is called there.

    Raises
    ------
    DataError
        If fsspec or what it needs for the protocol is missing, or there is no such protocol.
    """
    try:
        import fsspec
    except ImportError:
        raise DataError(f"{url}: reading URLs needs fsspec: pip install 'vae-anomaly[ray]'") from None
    with parsing(f"{url} cannot be read"):
        files, path = fsspec.core.url_to_fs(url)
        return files, path


def data_files(location: str) -> list[str]:
    """The files at a path or URL: itself, or all those in the folder, at any depth, in order of their names.

    In a folder, names that begin with a dot or an underscore do not count, as for other readers of such folders.

    Raises
    ------
    DataError
        If there is none, or one of a kind that cannot be read in pieces.
    """
    if PurePosixPath(location).suffix == ".zarr":
        return [location]
    if is_url(location):
        files, root = filesystem(location)
        with parsing(f"{location} cannot be read"):
            names = files.find(root)
        inside = [name[len(root) :].lstrip("/") for name in names if name != root]
        found = {top_zarr(name) for name in inside if shown(name)}
        joined = [f"{location.rstrip('/')}/{name}" for name in found]
        whole = bool(names) and not inside
    else:
        whole = Path(location).is_file()
        joined = [] if whole else walked(Path(location))
    joined = [location] if whole else sorted(joined)
    if not joined:
        raise DataError(f"{location}: does not exist, or holds no data")
    for name in joined:
        if PurePosixPath(name).suffix not in SUFFIXES:
            raise DataError(f"{name}: is scored on one machine only: save it as {', '.join(SUFFIXES)}")
    return joined


def shown(name: str) -> bool:
    """Whether no part of a file's name hides it; what is in a Zarr array is its own business."""
    parts = PurePosixPath(top_zarr(name)).parts
    return not any(part.startswith((".", "_")) for part in parts)


def top_zarr(name: str) -> str:
    """The Zarr array that a file belongs to, or the file."""
    parts = PurePosixPath(name).parts
    ends = [i for i, part in enumerate(parts) if part.endswith(".zarr")]
    return str(PurePosixPath(*parts[: ends[0] + 1])) if ends else name


def walked(folder: Path) -> list[str]:
    """Files and Zarr arrays in a folder, at any depth."""
    found = []
    for place, folders, names in os.walk(folder):
        arrays = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if shown(name) and name not in arrays]
        found += [os.path.join(place, name) for name in (*names, *arrays) if shown(name)]
    return found


@contextlib.contextmanager
def opened(location: str) -> Iterator[IO[bytes]]:
    """A file, open for reading.

    Raises
    ------
    DataError
        If there is none, or it cannot be read.
    """
    if not is_url(location):
        with open_data(Path(location)) as file:
            yield file
        return
    files, path = filesystem(location)
    with parsing(f"{location} cannot be read"):
        if not files.exists(path):
            raise DataError(f"{location} does not exist")
        file = files.open(path, "rb")
    with file:
        yield file


def npy_head(file: IO[bytes], source: str) -> NpyHeader:
    """What a ``.npy`` file begins with."""
    head = file.read(HEADER_BYTES)
    with parsing(f"{source} cannot be read"):
        size = file.seek(0, os.SEEK_END)
    layout = read_npy_header(head, size, source)
    if not layout.shape:
        raise DataError(f"{source}: needs rows (N, D) or images, got a single value")
    return layout


def extent(location: str) -> Extent:
    """How many rows a file has, from what it says of itself.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    suffix = PurePosixPath(location).suffix
    if suffix == ".zarr":
        with open_zarr(location if is_url(location) else Path(location)) as array:
            shards = getattr(array, "shards", None)
            return Extent(int(array.shape[0]), int((shards or array.chunks)[0]))
    with opened(location) as file:
        if suffix == ".npy":
            return Extent(npy_head(file, location).shape[0])
        groups = parquet_groups(file, location)
        return Extent(sum(groups), groups=groups)


def stamp(location: str) -> str:
    """What changes when a file does: its size and time of change, or what the server says of it."""
    if is_url(location):
        files, path = filesystem(location)
        described = [name for name in ("zarr.json", ".zarray") if files.exists(f"{path}/{name}")]
        with parsing(f"{location} cannot be read"):
            return str(files.ukey("/".join([path, *described[:1]])))
    root = Path(location)
    states = [
        (str(path.relative_to(root)), path.stat()) for path in (sorted(root.rglob("*")) if root.is_dir() else [root])
    ]
    known = repr([(name, state.st_size, state.st_mtime_ns) for name, state in states])
    return hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()


def rows_at(location: str, first_row: int, n_rows: int, step: int, label_column: str | None) -> Iterator[Dataset]:
    """So many rows of a file from ``first_row`` on, at most ``step`` at a time.

    A part's array is good until the next part is asked for.

    Raises
    ------
    DataError
        If they are not there, or no finite numbers; it names the file's row.
    """
    row, last = first_row, first_row + n_rows
    for part in parts_at(location, min(step, n_rows), label_column, first_row):
        kept = replace(part, X=part.X[: last - row], labels=None)
        check_samples(kept.X, location, row, kept.feature_names)
        row += len(kept)
        yield kept
        if row == last:
            return
    raise DataError(f"{location}: was cut short while it was read: has {row} rows, not {last}")


def parts_at(location: str, step: int, label_column: str | None, first_row: int) -> Iterator[Dataset]:
    """The rows from one on as they are in the file."""
    if not is_url(location):
        yield from unchecked_chunks(Path(location), step, label_column, first_row)
        return
    suffix = PurePosixPath(location).suffix
    if suffix == ".parquet":
        with opened(location) as file:
            for frame in parquet_frames(location, step, first_row, file):
                yield table(frame, location, first_row, label_column, [str(column) for column in frame.columns])
                first_row += len(frame)
        return
    refuse_label_column(location, label_column)
    if suffix == ".zarr":
        yield from (Dataset(X, location) for X in zarr_pieces(location, step, first_row))
        return
    with opened(location) as file:
        layout = npy_head(file, location)
        if layout.order == "F" and len(layout.shape) > 1:
            raise DataError(f"{location}: is in Fortran order, whose rows are scattered: save it in C order")
        row_bytes = layout.dtype.itemsize * math.prod(layout.shape[1:])
        buffer = np.empty((max(1, min(step, LARGEST // max(1, row_bytes))), *layout.shape[1:]), layout.dtype)
        file.seek(layout.offset + first_row * row_bytes)
        for start in range(first_row, layout.shape[0], len(buffer)):
            rows = buffer[: layout.shape[0] - start]
            with parsing(f"{location} cannot be read"):
                read_into(file, rows, location)
            yield Dataset(rows, location)
