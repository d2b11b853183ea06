"""Rows that stay on disk: what stands in for an array that memory does not hold.

`RowsOnDisk` has the length, the shape and the type of an array, and gives rows by slice or by index; it reads them by
position into buffers, for pages of a mapped file would stay in memory once touched. Rows that lie side by side in the
file are read at once, so whoever takes whole stretches of them reads at the disk's full speed.

Whatever is not a plain ``.npy`` file (tables, compressed arrays, an iterable) is first copied into a temporary file,
a piece at a time. That file has no name in the file system, so nothing of it remains however the process ends.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.bounded import open_npy
from vae_anomaly.errors import DataError

LOADED_BYTES = 1 << 30  # up to this size rows are loaded, and all is as for an array
HELD_ROWS, HELD_BYTES = 20_000, 32 << 20  # of rows on disk, the most that is held for one purpose
SAMPLE_ROWS = 10_000
PIECE_BYTES, PIECE_ROWS = 8 << 20, 1 << 16
SPOOL_BYTES = 64 << 20  # a temporary file below this size stays in memory
TYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.uint8))  # that detectors compute with as they are


@dataclass(frozen=True, eq=False)
class RowsOnDisk:
    """Samples in a file, in C order; from `stored` or `spooled`.

    Parameters
    ----------
    file
        Open for reading; views share it and its position.
    offset
        Where in it the first sample begins, in bytes.
    stored
        Shape of all that the file holds, ``(N, D)``, ``(N, H, W)`` or ``(N, H, W, C)``.
    dtype
        One of `TYPES`.
    source
        What to call it in messages.
    feature_names
        Column names, if it has them.
    skipped
        Indices in the file, sorted, of samples that count as not there.
    """

    file: IO[bytes]
    offset: int
    stored: tuple[int, ...]
    dtype: np.dtype[Any]
    source: str
    feature_names: tuple[str, ...] | None = None
    skipped: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's, without what is skipped."""
        return (self.stored[0] - len(self.skipped), *self.stored[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes a sample."""
        return self.dtype.itemsize * math.prod(self.stored[1:])

    @property
    def small(self) -> bool:
        """Whether to load it all."""
        return len(self) * self.row_bytes <= LOADED_BYTES

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        out = np.empty((len(rows), *self.stored[1:]), self.dtype)
        self.read(rows, out)
        return out

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Read samples by their indices ``(n,)``, in any order, into ``out``.

        Raises
        ------
        DataError
            If the file has become shorter than it was.
        """
        places = rows + np.searchsorted(self._skipped_before, rows, side="right")
        for start, stop in pairwise(np.flatnonzero(np.diff(places, prepend=-2, append=-2) != 1)):
            self.file.seek(self.offset + int(places[start]) * self.row_bytes)
            read_into(self.file, out[start:stop], self.source)

    @cached_property
    def _skipped_before(self) -> np.ndarray:
        """How many samples are not skipped before each that is; sorted."""
        return self.skipped - np.arange(len(self.skipped))

    def without(self, rows: np.ndarray) -> Self:
        """All but the samples with these indices ``(n,)``, in any order."""
        places = rows + np.searchsorted(self._skipped_before, rows, side="right")
        return replace(self, skipped=np.union1d(self.skipped, places))

    def flat(self) -> Self:
        """The samples as rows ``(N, D)``."""
        return replace(self, stored=(self.stored[0], math.prod(self.stored[1:])))

    def most_held(self, most: int = HELD_ROWS) -> int:
        """How many samples may be in memory for one purpose: ``most``, or what 32 MiB hold; at least one."""
        return max(1, min(most, HELD_BYTES // self.row_bytes))


Rows: TypeAlias = np.ndarray | RowsOnDisk


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


def pieces(X: Rows) -> Iterator[np.ndarray]:
    """All rows in order: an array whole; those on disk in pieces, each good until the next is asked for."""
    if isinstance(X, np.ndarray):
        yield X
        return
    n = max(1, min(PIECE_BYTES // max(1, X.row_bytes), PIECE_ROWS, len(X)))
    buffer = np.empty((n, *X.stored[1:]), X.dtype)
    for start in range(0, len(X), n):
        rows = np.arange(start, min(start + n, len(X)))
        X.read(rows, buffer[: len(rows)])
        yield buffer[: len(rows)]


def extremes(X: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value of each feature, ``(D,)``."""
    ends: tuple[np.ndarray, np.ndarray] | None = None
    for rows in pieces(X):
        low, high = rows.min(axis=0), rows.max(axis=0)
        ends = (low, high) if ends is None else (np.minimum(ends[0], low), np.maximum(ends[1], high))
    assert ends is not None
    return ends


def even_sample(X: Rows) -> np.ndarray:
    """Rows at even distances: up to twice 10,000 of an array; of rows on disk at most as many, nor more than 32 MiB."""
    if isinstance(X, np.ndarray):
        return X[:: max(1, len(X) // SAMPLE_ROWS)]
    return X[:: math.ceil(len(X) / X.most_held(SAMPLE_ROWS))]


def read_into(file: IO[bytes], array: np.ndarray, source: str) -> None:
    """Fill an array, contiguous in C order, with a file's next bytes.

    Raises
    ------
    DataError
        If the file ends before.
    """
    view = array.reshape(-1).view(np.uint8).data
    while view:
        n = file.readinto(view)  # type: ignore[attr-defined]  # every binary file has it, but not their common type
        if not n:
            raise DataError(f"{source}: was cut short while it was read")
        view = view[n:]


def check_samples(X: np.ndarray, source: str, first_row: int = 0, columns: tuple[str, ...] | None = None) -> None:
    """Refuse what no model can be given: wrong kind or shape, nothing at all, NaN and infinity.

    Raises
    ------
    DataError
        Naming the first row and column at fault; rows count from 0, after any header.
    """
    if X.dtype.kind not in "fiub":
        raise DataError(f"{source}: needs real numbers, got values of type {X.dtype}")
    if X.ndim not in (2, 3, 4):
        raise DataError(
            f"{source}: needs rows (N, D) or images (N, H, W) or (N, H, W, C), got an array of shape {X.shape}"
        )
    if X.size == 0:
        raise DataError(f"{source}: holds no samples (shape {X.shape})")
    if X.dtype.kind != "f":
        return
    step = max(1, 4_000_000 // (X.size // len(X)))
    for start in range(0, len(X), step):
        finite = np.isfinite(X[start : start + step])
        if not finite.all():
            row, *place = np.argwhere(~finite)[0].tolist()
            value = X[(start + row, *place)]
            where = columns[place[0]] if columns is not None else ", ".join(map(str, place))
            raise DataError(
                f"{source}: row {first_row + start + row}, column {where} is {value}: "
                "fill in or drop missing and infinite values first"
            )
