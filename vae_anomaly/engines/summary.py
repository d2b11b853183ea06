"""The summary of a run over shards: how many rows, how many flagged, and exact quantiles of the scores.

The q-quantile of n scores is the one of rank max(1, ceil(q n)) in ascending order. The scores are never held in memory:
the bits of a float64, all flipped if it is negative and otherwise only the sign bit, are a 64-bit whole number of the
same order, and the number of a given rank is found by radix selection, 16 bits at a time, in four passes over the
parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)
DIGIT = 16  # bits


def count(parts: Sequence[Path]) -> tuple[int, int]:
    """The number of rows in these parts, and how many have decision 1."""
    n_rows = n_flagged = 0
    for decisions in columns(parts, "decision"):
        n_rows += len(decisions)
        n_flagged += int(decisions.sum())
    return n_rows, n_flagged


def columns(parts: Sequence[Path], name: str) -> Iterator[np.ndarray]:
    """A column of the parts, a row group at a time."""
    import pyarrow.parquet as pq

    for part in parts:
        with pq.ParquetFile(part) as file:
            for i in range(file.num_row_groups):
                yield file.read_row_group(i, [name], use_threads=False).column(0).to_numpy()


def quantiles(values: Callable[[], Iterator[np.ndarray]], n: int, shares: Sequence[float] = SHARES) -> list[float]:
    """For each share, the smallest value that this share of all values does not exceed: np.quantile's "inverted_cdf".

    Parameters
    ----------
    values
        Gives all values, float64 without NaN, in chunks; called four times.
    n
        How many there are, at least 1.
    shares
        In [0, 1].
    """
    ranks = [min(n - 1, max(0, math.ceil(share * n) - 1)) for share in shares]
    found = {rank: (0, rank) for rank in ranks}  # the digits known, and the rank among the values that begin so
    for shift in range(64 - DIGIT, -1, -DIGIT):
        counts = {known: np.zeros(1 << DIGIT, dtype=np.int64) for known, _ in found.values()}
        for chunk in values():
            keys = ordered(chunk) >> np.uint64(shift)
            begins = keys >> np.uint64(DIGIT)
            for known, digits in counts.items():
                these = (keys[begins == known] & np.uint64((1 << DIGIT) - 1)).astype(np.int64)
                digits += np.bincount(these, minlength=1 << DIGIT)
        for rank, (known, left) in found.items():
            below = np.cumsum(counts[known])
            digit = int(np.searchsorted(below, left, side="right"))
            before = int(below[digit - 1]) if digit else 0
            found[rank] = (known << DIGIT) | digit, left - before
    return [restored(found[rank][0]) for rank in ranks]


def ordered(values: np.ndarray) -> np.ndarray:
    """Whole numbers ``(N,)`` of 64 bits in the order of the float64 values."""
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


def restored(key: int) -> float:
    """The float64 that `ordered` turned into this number."""
    bits = key & ~(1 << 63) if key >> 63 else key ^ ((1 << 64) - 1)
    return float(np.array(bits, dtype=np.uint64).view(np.float64))
