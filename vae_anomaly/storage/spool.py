"""From files and batches to rows on disk.

A plain ``.npy`` file is read where it lies. Everything else (tables, compressed arrays, an iterable) is first copied
into a temporary file, a chunk at a time. That file has no name in the file system, so nothing of it remains however
the process ends.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.errors import DataError
from vae_anomaly.storage.checks import checked
from vae_anomaly.storage.numpy_files import open_npy
from vae_anomaly.storage.rows import CHUNK_BYTES, TYPES, RowsInMemory, RowsOnDisk

SPOOL_BYTES = 64 << 20  # a temporary file below this size stays in memory

Check: TypeAlias = Callable[[ArrayLike, str, int], RowsInMemory]
"""Validates a chunk, given the name of its source and the number of its first row."""


@contextlib.contextmanager
def open_rows(path: Path, check: Check = checked) -> Iterator[RowsOnDisk]:
    """The samples of a ``.npy`` file: read in place if their order and type allow it, otherwise from a temporary copy.

    Raises
    ------
    DataError
        If it is no such file, or holds anything but samples of finite numbers.
    """
    array = open_npy(path)
    plain = array.ndim and array.size and array.flags.c_contiguous and array.dtype in TYPES
    if not (plain and isinstance(array, np.memmap)):
        with spool(slices(array), str(path), check) as rows:
            yield rows
        return
    with path.open("rb", buffering=0) as file:
        rows = RowsOnDisk(file, array.offset, array.shape, array.dtype, str(path))
        seen = 0
        for chunk in rows.chunks():
            seen += len(check(chunk, str(path), seen))
        yield rows


@contextlib.contextmanager
def spool(batches: Iterable[ArrayLike], source: str, check: Check = checked) -> Iterator[RowsOnDisk]:
    """Samples that come in batches, copied into a temporary file; up to 64 MiB stay in memory.

    The first batch decides the type: float32 and uint8 are kept, all others become float64.

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
            if np.shape(batch)[:1] == (0,):
                continue
            new = check(batch, source, len(rows))
            if not len(rows):
                dtype = new.dtype if new.dtype in TYPES else TYPES[0]
                rows = replace(rows, file_shape=(0, *new.shape[1:]), dtype=dtype, feature_names=new.feature_names)
            check_like(new, rows)
            with room_for(source):
                file.write(np.ascontiguousarray(new.computable().values, rows.dtype).data)
            rows = replace(rows, file_shape=(len(rows) + len(new), *new.shape[1:]))
        if not len(rows):
            raise DataError(f"{source}: holds no samples")
        with room_for(source):
            file.flush()
        yield rows


@contextlib.contextmanager
def room_for(source: str) -> Iterator[None]:
    """Name in a failure to write the folder, and the variable that chooses it."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror} while copying {source} there: set TMPDIR to a folder with more room"
        raise OSError(error.errno, reason, tempfile.gettempdir()) from error


def check_like(new: RowsInMemory, before: RowsOnDisk) -> None:
    """Refuse a batch that does not fit those before."""
    what = f"{before.source}: the batch that begins at row {len(before)}"
    if new.shape[1:] != before.shape[1:]:
        raise DataError(f"{what} has samples of shape {new.shape[1:]}, those before have {before.shape[1:]}")
    if new.feature_names != before.feature_names:
        raise DataError(f"{what} has other column names than those before")
    if not np.can_cast(new.dtype, before.dtype):
        raise DataError(f"{what} is of type {new.dtype}, which {before.dtype}, that of the first, does not hold")


def slices(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array a chunk at a time; a single value as it is."""
    if array.ndim == 0:
        yield array
        return
    step = max(1, CHUNK_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]
