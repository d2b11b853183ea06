"""The manifest: data cut into shards, each a range of rows that one worker scores at a time.

A shard is a range of rows of a ``.npy`` file, one or more row groups of a parquet file, or whole chunks of a Zarr
array. The files of a folder follow each other in order of their names. The cuts depend only on the data, not on the
number of workers, so that a second run finds the parts of the first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

from vae_anomaly.datasets import Extent, data_files, extent, stamp
from vae_anomaly.errors import DataError
from vae_anomaly.scoring import BLOCK_ROWS

MANY_SHARDS = 64  # enough that a few workers end at about the same time
SHARD_ROWS = 1 << 18  # at most, unless a row group or chunk has more


class Shard(NamedTuple):
    """A range of rows.

    Parameters
    ----------
    number
        Its place in the manifest, from 0.
    location
        Path or URL of the file.
    first_row, n_rows
        The range in the file.
    start
        Index of the first of them among all rows.
    """

    number: int
    location: str
    first_row: int
    n_rows: int
    start: int

    @property
    def part(self) -> str:
        """Name of the file that holds its scores."""
        return f"part-{self.number:06d}.parquet"

    def __str__(self) -> str:
        return f"rows {self.first_row:,} to {self.first_row + self.n_rows - 1:,} of {self.location}"


class Manifest(NamedTuple):
    """All shards in order, and a fingerprint of their data."""

    shards: tuple[Shard, ...]
    fingerprint: str

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return self.shards[-1].start + self.shards[-1].n_rows


def manifest(data: str, shard_rows: int | None = None) -> Manifest:
    """Cut data into shards.

    Parameters
    ----------
    data
        Path or URL of a ``.npy``, parquet or Zarr file, or of a folder of such.
    shard_rows
        Most rows of a shard, unless a row group or chunk has more. None: a 64th of the data, at most 262,144.

    Raises
    ------
    DataError
        If a file cannot be read or is of another kind, or there are no rows.
    """
    files = [(location, extent(location)) for location in data_files(data)]
    total = sum(known.n_rows for _, known in files)
    if not total:
        raise DataError(f"{data}: holds no samples")
    if shard_rows is None:
        shard_rows = min(SHARD_ROWS, math.ceil(total / MANY_SHARDS / BLOCK_ROWS) * BLOCK_ROWS)
    shards: list[Shard] = []
    start = 0
    for location, known in files:
        for first_row, n_rows in ranges(known, shard_rows):
            shards.append(Shard(len(shards), location, first_row, n_rows, start))
            start += n_rows
    digest = hashlib.sha256()
    for location, known in files:
        digest.update(
            repr((location.removeprefix(data), known.n_rows, stamp(location))).encode("utf-8", "surrogateescape")
        )
    return Manifest(tuple(shards), digest.hexdigest())


def ranges(known: Extent, most: int) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each shard of a file: at most ``most`` rows, unless a group or chunk has more."""
    first = 0
    if known.groups is None:
        step = max(1, most // known.unit) * known.unit
        for first in range(0, known.n_rows, step):
            yield first, min(step, known.n_rows - first)
        return
    n = 0
    for group in known.groups:
        if n and n + group > most:
            yield first, n
            first, n = first + n, 0
        n += group
    if n:
        yield first, n
