"""From files and batches to rows on disk.

A plain ``.npy`` file is taken as it lies. Whatever else there is (tables, compressed arrays, an iterable) is first
copied into a temporary file, a piece at a time. That file has no name in the file system, so nothing of it remains
however the process ends.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.errors import DataError
from vae_anomaly.storage.numpy_files import open_npy
from vae_anomaly.storage.rows import PIECE_BYTES, TYPES, RowsOnDisk, check_samples, pieces

SPOOL_BYTES = 64 << 20  # a temporary file below this size stays in memory


@contextlib.contextmanager
def stored(path: Path) -> Iterator[RowsOnDisk]:
    """The samples of a ``.npy`` file: where they are if they lie there plainly, otherwise spooled.

    Raises
    ------
    DataError
        If it is no such file, or holds anything but samples of finite numbers.
    """
    array = open_npy(path)
    plain = array.ndim and array.size and array.flags.c_contiguous and array.dtype in TYPES
    if not (plain and isinstance(array, np.memmap)):
        with spooled(slices(array, str(path)), str(path)) as rows:
            yield rows
        return
    with path.open("rb", buffering=0) as file:
        rows = RowsOnDisk(file, array.offset, array.shape, array.dtype, str(path))
        seen = 0
        for piece in pieces(rows):
            check_samples(piece, str(path), seen)
            seen += len(piece)
        yield rows


@contextlib.contextmanager
def spooled(batches: Iterable[ArrayLike], source: str) -> Iterator[RowsOnDisk]:
    """Samples that come in batches, copied into a temporary file; up to 64 MiB stay in memory.

    The first batch decides the type: float32 and uint8 are kept, all else becomes float64. Batches may be DataFrames.

    Raises
    ------
    DataError
        If there are no samples, they differ in shape, have a type that the first batch's cannot hold, or are not
        finite.
    OSError
        If there is no room for them in the folder of temporary files.
    """
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
        rows = RowsOnDisk(file, 0, (0,), TYPES[0], source)
        for batch in batches:
            array = np.asarray(batch)
            if array.ndim and not len(array):
                continue
            names = getattr(batch, "columns", None)
            columns = None if names is None else tuple(map(str, names))
            check_samples(array, source, len(rows), columns)
            if not len(rows):
                dtype = array.dtype if array.dtype in TYPES else TYPES[0]
                rows = replace(rows, stored=(0, *array.shape[1:]), dtype=dtype, feature_names=columns)
            check_like(array, columns, rows)
            with room_for(source):
                file.write(np.ascontiguousarray(array, rows.dtype).data)
            rows = replace(rows, stored=(len(rows) + len(array), *array.shape[1:]))
        if not len(rows):
            raise DataError(f"{source}: holds no samples")
        with room_for(source):
            file.flush()
        yield rows


@contextlib.contextmanager
def room_for(source: str) -> Iterator[None]:
    """Say of a failure to write where it was, and what chooses the place."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror} while copying {source} there: set TMPDIR to a folder with more room"
        raise OSError(error.errno, reason, tempfile.gettempdir()) from error


def check_like(array: np.ndarray, columns: tuple[str, ...] | None, before: RowsOnDisk) -> None:
    """Refuse a batch that does not fit those before."""
    what = f"{before.source}: the batch that begins at row {len(before)}"
    if array.shape[1:] != before.stored[1:]:
        raise DataError(f"{what} has samples of shape {array.shape[1:]}, those before have {before.stored[1:]}")
    if columns != before.feature_names:
        raise DataError(f"{what} has other column names than those before")
    if not np.can_cast(array.dtype, before.dtype):
        raise DataError(f"{what} is of type {array.dtype}, which {before.dtype}, that of the first, does not hold")


def slices(array: np.ndarray, source: str) -> Iterator[np.ndarray]:
    """An array a piece at a time."""
    if array.ndim == 0:
        raise DataError(f"{source}: needs rows (N, D) or images, got a single value")
    step = max(1, PIECE_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]
