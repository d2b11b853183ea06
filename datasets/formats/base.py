"""What every format of data gives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from vae_anomaly.datasets.dataset import Dataset, class_names
from vae_anomaly.datasets.locations import Location, filesystem
from vae_anomaly.datasets.reading import INFERRED, Reading
from vae_anomaly.errors import DataError
from vae_anomaly.storage.safe_reading import parsing

CHUNK_BYTES = 1 << 28  # the most of an array that is read at a time, however many rows are asked for
ALL_ROWS = 1 << 40
"""As a number of rows a chunk: all of them are going to be in memory, in chunks as the format likes."""


class Extent(NamedTuple):
    """How many rows a file has, and how many belong together: ``unit`` each, or as many as the groups say."""

    n_rows: int
    unit: int = 1
    groups: tuple[int, ...] | None = None


class Format(ABC):
    """Data of one format at one place.

    Laws: chunks of any size, joined, are the same rows in the same order; those from ``first_row`` on are the rest of
    them; ``count`` and ``extent`` give their number.

    Parameters
    ----------
    location
        A path; of a shardable format also a URL.
    reading
        What is said of the file of a table.
    """

    description_files: ClassVar[tuple[str, ...]] = ()
    """For data in a folder: names of files, one of which exists and changes whenever the data change."""

    def __init__(self, location: Location, reading: Reading = INFERRED) -> None:
        self.location, self.reading = location, reading
        self.source = str(location)

    @property
    def path(self) -> Path:
        """The location of a format that is read from disk only."""
        if isinstance(self.location, Path):
            return self.location
        raise DataError(f"{self.source}: is no URL of a kind that can be read: copy it to disk")

    @abstractmethod
    def chunks(self, n_rows: int, first_row: int = 0, label_column: str | None = None) -> Iterator[Dataset]:
        """The samples from ``first_row`` on in order, at most ``n_rows`` at a time, as they are in the file.

        A chunk's array is good until the next chunk is asked for. ``label_column`` is given to tables only.

        Raises
        ------
        DataError
            If the data are malformed.
        """

    def count(self) -> int | None:
        """How many samples there are, if the data say so without being read."""
        return None

    def extent(self) -> Extent:
        """How many rows there are, and which belong together.

        Raises
        ------
        DataError
            If they cannot be read, or not in ranges of rows.
        """
        raise DataError(f"{self.source}: cannot be read in ranges of rows")

    def on_disk(self) -> np.ndarray | None:
        """The samples as an array that stays on disk, if the format has such."""
        return None

    def stamp(self) -> str:
        """Text that changes whenever the data change: sizes and times, or what a server says of them.

        Raises
        ------
        DataError
            If a URL cannot be read.
        """
        if not isinstance(self.location, Path):
            files, path = filesystem(self.location)
            there = [name for name in self.description_files if files.exists(f"{path}/{name}")]
            with parsing(f"{self.source} cannot be read"):
                return str(files.ukey("/".join([path, *there[:1]])))
        root = self.location
        states = [
            (str(path.relative_to(root)), path.stat())
            for path in (sorted(root.rglob("*")) if root.is_dir() else [root])
        ]
        known = repr([(name, state.st_size, state.st_mtime_ns) for name, state in states])
        return hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()


def array_chunks(
    X: np.ndarray, y: np.ndarray | None, source: str, n_rows: int, first_row: int = 0
) -> Iterator[Dataset]:
    """Slices of an array, in memory or mapped into it, with labels if there are some."""
    if X.ndim == 0:
        raise DataError(f"{source}: needs rows (N, D) or images, got a single value")
    labels = None if y is None else class_names(y, source)
    if labels is not None and len(labels) != len(X):
        raise DataError(f"{source}: {len(X)} samples in X but {len(labels)} labels in y")
    for start in range(first_row, len(X), n_rows):
        rows = slice(start, start + n_rows)
        yield Dataset(X[rows], source, None if labels is None else labels[rows])
