"""Rows that stay on disk: what stands in for an array that memory does not hold.

`RowsOnDisk` has the length, the shape and the type of an array, and gives rows by slice or by index; it reads them by
position into buffers, for pages of a mapped file would stay in memory once touched. Rows that lie side by side in the
file are read at once, so whoever takes whole stretches of them reads at the disk's full speed.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import IO, Any, Self, TypeAlias

import numpy as np

from vae_anomaly.errors import DataError

LOADED_BYTES = 1 << 30  # up to this size rows are loaded, and all is as for an array
HELD_ROWS, HELD_BYTES = 20_000, 32 << 20  # of rows on disk, the most that is held for one purpose
SAMPLE_ROWS = 10_000
HASHED_VALUES = 1 << 22  # at a time
PIECE_BYTES, PIECE_ROWS = 8 << 20, 1 << 16
MOST_NAMES = 5  # in a message
TYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.uint8))  # that detectors compute with as they are


@dataclass(frozen=True, eq=False)
class RowsOnDisk:
    """Samples in a file, in C order; `vae_anomaly.storage.spool` makes them.

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


def fingerprint(*arrays: Rows) -> str:
    """SHA-256 of arrays with their types and shapes, in hexadecimal; however they lie in memory or on disk."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        step = max(1, HASHED_VALUES // max(1, math.prod(array.shape[1:])))
        for start in range(0, len(array), step):
            digest.update(array[start : start + step].tobytes())
    return digest.hexdigest()


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


def check_feature_names(names: Sequence[str] | None, known: Sequence[str] | None) -> None:
    """Compare column names with those of the training data, as scikit-learn does; where one side has none, warn.

    Raises
    ------
    DataError
        If they differ, or their order does.
    """
    if known is None:
        if names is not None:
            warnings.warn("X has feature names, but VAEDetector was fitted without feature names", stacklevel=3)
        return
    if names is None:
        without = "X does not have valid feature names, but VAEDetector was fitted with feature names"
        warnings.warn(without, stacklevel=3)
        return
    if list(names) == list(known):
        return
    message = "The feature names should match those that were passed during fit.\n"
    unseen, missing = sorted(set(names) - set(known)), sorted(set(known) - set(names))
    for what, some in {"unseen at fit time": unseen, "seen at fit time, yet now missing": missing}.items():
        if some:
            shown = some if len(some) <= MOST_NAMES else [*some[:MOST_NAMES], "..."]
            message += f"Feature names {what}:\n" + "".join(f"- {name}\n" for name in shown)
    if not unseen and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    raise DataError(message)
