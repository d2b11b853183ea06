"""Rows in memory and rows on disk, under one contract: what fits an array fits what memory does not hold.

`Rows` have the length, the shape and the type of an array, and give samples by slice or by index. `RowsInMemory` wrap
an array. `RowsOnDisk` read by position into buffers, because pages of a mapped file would stay in memory once touched;
samples that lie side by side in the file are read at once, so long stretches come at the disk's full speed.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import IO, Any, ClassVar, Protocol, Self

import numpy as np

from vae_anomaly.columns import Columns
from vae_anomaly.errors import DataError

LOADED_BYTES = 1 << 30  # up to this size rows on disk are loaded, and all is as for an array
MEMORY_ROWS, MEMORY_BYTES = 20_000, 32 << 20  # the most of rows on disk that is in memory for one purpose
SAMPLE_ROWS = 10_000
HASHED_VALUES = 1 << 22  # at a time
CHUNK_BYTES, CHUNK_ROWS = 8 << 20, 1 << 16
TYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.uint8))  # that detectors compute with as they are


class RandomSource(Protocol):
    """Where `Rows.sample_indices` takes its randomness from; a model's fit passes torch's generator in this form."""

    def permutation(self, n: int) -> np.ndarray:
        """The numbers below ``n`` in random order, ``(n,)``."""

    def seed(self) -> int:
        """A random number below 2^62."""


class Rows(ABC):
    """Samples of one shape and type; `RowsInMemory` and `RowsOnDisk` give the same values in every way of reading.

    Attributes
    ----------
    dtype : dtype
        Type of the values.
    feature_names : tuple of str or None
        Column names, if the samples have them.
    columns : Columns or None
        What the columns are, if the samples are codes of a table (`vae_anomaly.columns`); then a gap is NaN.
    source : str
        What messages call the samples.
    in_memory : bool
        Whether all samples are in memory. Rows on disk are trained on in another order and for fewer epochs.
    """

    dtype: np.dtype[Any]
    feature_names: tuple[str, ...] | None
    columns: Columns | None
    source: str
    in_memory: ClassVar[bool]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """``(N, D)``, ``(N, H, W)`` or ``(N, H, W, C)``."""

    @abstractmethod
    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Samples of a slice, or with these indices ``(n,)`` in any order."""

    @abstractmethod
    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy samples with these indices ``(n,)``, in any order, into ``out``."""

    @abstractmethod
    def chunks(self) -> Iterator[np.ndarray]:
        """All samples in order, a chunk at a time; each chunk is valid until the next one is asked for."""

    @abstractmethod
    def even_sample(self) -> np.ndarray:
        """Samples at equal distances, about 10,000 of them."""

    @abstractmethod
    def max_rows_in_memory(self, most: int | None = None) -> int:
        """How many samples may be copied into memory for one purpose, of ``most`` that are wanted (None: all)."""

    @abstractmethod
    def sample_indices(self, n: int, random: RandomSource, *, more: int = 0) -> np.ndarray:
        """Indices ``(n,)`` of different samples, in random order; fewer where there are fewer.

        ``more`` samples are thought of as following these; their indices can be chosen too.
        """

    @abstractmethod
    def without(self, rows: np.ndarray) -> Self:
        """All but the samples with these indices ``(n,)``, in any order."""

    @abstractmethod
    def flat(self) -> Self:
        """The samples as rows ``(N, D)``."""

    @abstractmethod
    def described(self, feature_names: tuple[str, ...] | None, columns: Columns | None) -> Self:
        """The same samples, with these names and with what the columns are."""

    @abstractmethod
    def loaded(self) -> Rows:
        """The same samples, in memory if they are small enough for it (1 GiB)."""

    @abstractmethod
    def computable(self) -> Rows:
        """The samples as float64, unless they are float64, float32 or uint8 already.

        Raises
        ------
        DataError
            If double precision does not hold a value.
        """

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes a sample."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest value of each feature, shaped as a sample."""
        ends: tuple[np.ndarray, np.ndarray] | None = None
        for rows in self.chunks():
            low, high = rows.min(axis=0), rows.max(axis=0)
            ends = (low, high) if ends is None else (np.minimum(ends[0], low), np.maximum(ends[1], high))
        assert ends is not None
        return ends


class RowsInMemory(Rows):
    """Samples in an array, which is not copied.

    Parameters
    ----------
    values : ndarray of shape (N, D), (N, H, W) or (N, H, W, C)
        The samples.
    feature_names, source, columns
        As `Rows` has them.
    """

    in_memory = True

    def __init__(
        self,
        values: np.ndarray,
        feature_names: tuple[str, ...] | None = None,
        source: str = "X",
        columns: Columns | None = None,
    ) -> None:
        self.values, self.dtype = values, values.dtype
        self.feature_names, self.source, self.columns = feature_names, source, columns

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.values.shape
        return shape

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.values[rows]

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        np.take(self.values, rows, axis=0, out=out)

    def chunks(self) -> Iterator[np.ndarray]:
        yield self.values

    def even_sample(self) -> np.ndarray:
        return self.values[:: max(1, len(self) // SAMPLE_ROWS)]

    def max_rows_in_memory(self, most: int | None = None) -> int:
        return len(self) if most is None else most

    def sample_indices(self, n: int, random: RandomSource, *, more: int = 0) -> np.ndarray:
        return random.permutation(len(self) + more)[:n]

    def without(self, rows: np.ndarray) -> Self:
        return self._of(self.values[np.setdiff1d(np.arange(len(self)), rows)])

    def flat(self) -> Self:
        return self._of(self.values.reshape(len(self), -1))

    def described(self, feature_names: tuple[str, ...] | None, columns: Columns | None) -> Self:
        return type(self)(self.values, feature_names, self.source, columns)

    def loaded(self) -> Self:
        return self

    def computable(self) -> Self:
        if self.dtype in TYPES:
            return self
        with np.errstate(over="ignore"):  # of extended precision
            values = self.values.astype(np.float64)
        if np.isinf(values).any():
            raise DataError(f"{self.source}: holds a value too large for double precision")
        return self._of(values)

    def _of(self, values: np.ndarray) -> Self:
        return type(self)(values, self.feature_names, self.source, self.columns)


@dataclass(frozen=True, eq=False)
class RowsOnDisk(Rows):
    """Samples in a file, in C order; `vae_anomaly.storage.spool` makes them.

    Parameters
    ----------
    file
        Open for reading; views share it and its position.
    offset
        Where in it the first sample begins, in bytes.
    file_shape
        Shape of all that the file holds, ``(N, D)``, ``(N, H, W)`` or ``(N, H, W, C)``.
    dtype
        One of `TYPES`.
    source, feature_names, columns
        As `Rows` has them.
    skipped
        Sorted indices in the file of samples that count as absent.
    """

    in_memory = False

    file: IO[bytes]
    offset: int
    file_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    source: str
    feature_names: tuple[str, ...] | None = None
    skipped: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    columns: Columns | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.file_shape[0] - len(self.skipped), *self.file_shape[1:])

    @property
    def small(self) -> bool:
        """Whether all samples may be loaded."""
        return len(self) * self.row_bytes <= LOADED_BYTES

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        out = np.empty((len(rows), *self.file_shape[1:]), self.dtype)
        self.read(rows, out)
        return out

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Read samples by their indices ``(n,)``, in any order, into ``out``.

        Raises
        ------
        DataError
            If the file has become shorter than it was.
        """
        places = rows + np.searchsorted(self._present_before_skipped, rows, side="right")
        for start, stop in pairwise(np.flatnonzero(np.diff(places, prepend=-2, append=-2) != 1)):
            self.file.seek(self.offset + int(places[start]) * self.row_bytes)
            read_into(self.file, out[start:stop], self.source)

    @cached_property
    def _present_before_skipped(self) -> np.ndarray:
        """For each skipped sample, how many samples that are not skipped come before it; sorted."""
        return self.skipped - np.arange(len(self.skipped))

    def chunks(self) -> Iterator[np.ndarray]:
        n = max(1, min(CHUNK_BYTES // max(1, self.row_bytes), CHUNK_ROWS, len(self)))
        buffer = np.empty((n, *self.file_shape[1:]), self.dtype)
        for start in range(0, len(self), n):
            rows = np.arange(start, min(start + n, len(self)))
            self.read(rows, buffer[: len(rows)])
            yield buffer[: len(rows)]

    def even_sample(self) -> np.ndarray:
        return self[:: math.ceil(len(self) / self.max_rows_in_memory(SAMPLE_ROWS))]

    def max_rows_in_memory(self, most: int | None = None) -> int:
        """``most`` (None: 20,000), or as many as 32 MiB hold; at least one."""
        return max(1, min(MEMORY_ROWS if most is None else most, MEMORY_BYTES // self.row_bytes))

    def sample_indices(self, n: int, random: RandomSource, *, more: int = 0) -> np.ndarray:
        """Indices of different samples; the memory for this does not grow with the number of samples."""
        total = len(self) + more
        return np.random.default_rng(random.seed()).choice(total, min(n, total), replace=False)

    def without(self, rows: np.ndarray) -> Self:
        places = rows + np.searchsorted(self._present_before_skipped, rows, side="right")
        return replace(self, skipped=np.union1d(self.skipped, places))

    def flat(self) -> Self:
        return replace(self, file_shape=(self.file_shape[0], math.prod(self.file_shape[1:])))

    def described(self, feature_names: tuple[str, ...] | None, columns: Columns | None) -> Self:
        return replace(self, feature_names=feature_names, columns=columns)

    def loaded(self) -> Rows:
        return RowsInMemory(self[:], self.feature_names, self.source, self.columns) if self.small else self

    def computable(self) -> Self:
        return self


def fingerprint(*arrays: np.ndarray | Rows) -> str:
    """SHA-256 of values with their types and shapes, in hexadecimal; the same wherever the values lie."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        step = max(1, HASHED_VALUES // max(1, math.prod(array.shape[1:])))
        for start in range(0, len(array), step):
            digest.update(array[start : start + step].tobytes())
    return digest.hexdigest()


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
