r"""Which rows a model was fitted on, known by digests of them.

A row's digest is 8 bytes of BLAKE2b over its values as the networks' scaling takes them: the codes of the modelled
columns in the model's order, in the precision of the model, with one zero and one NaN. So it is the same whichever way
the row comes in. Equal rows have equal digests, and are counted: of a digest that training holds twice, two rows of a
data set are taken for training rows and a third is not.

Of more than 500,000 different rows only the smallest digests are kept. Digests are as good as random, so they are a
random sample of the rows, and of a row whose digest is larger than all that are kept nothing is known.

*By chance* a new row may equal one that the model was fitted on, as in tables of few categories. How often is seen from
the calibration rows, which nothing was fitted on: if c of m calibration rows have a twin among the rows fitted on, a
share :math:`p = c/m` of new rows is expected to. Rows given count as fitted on if more of the n have a twin than

.. math:: n p + 3 \sqrt{n p (1 - p) (1 + n / m)},

three standard errors above what is expected; without twins among the calibration rows, one is enough.

References
----------
BLAKE2 (Aumasson et al., 2013), RFC 7693
On synopses for distinct-value estimation under multiset operations (Beyer et al., 2007), for the smallest digests
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

PARTS = ("training", "validation", "calibration")
MAX_DIGESTS = 500_000
LARGEST_DIGEST = 2**64 - 1
MAX_COUNT = 2**31 - 1
BLOCK_VALUES = 1 << 20  # hashed at a time
PENDING = 1 << 18  # digests that are counted at a time
UNKNOWN, OTHER = -1, len(PARTS)  # in place of a part
STANDARD_ERRORS = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedRows:
    """Digests of the rows that a model was fitted on, by part.

    Parameters
    ----------
    digests
        Different ones, sorted, ``(K,)`` uint64.
    counts
        How many rows of each of `PARTS` have them, ``(K, 3)`` int32.
    is_complete
        Whether all are kept.
    n_rows
        Rows of each part.
    n_groups
        Groups of each part, if rows came in groups that had to stay together.
    dtype
        Type of the values that are hashed: float32 or float64.
    """

    digests: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    is_complete: bool
    n_rows: tuple[int, ...]
    n_groups: tuple[int, ...] | None
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls, parts: Sequence[Iterable[np.ndarray]], dtype: np.dtype[Any], n_groups: tuple[int, ...] | None = None
    ) -> Self:
        """From the rows of each part, in chunks ``(n, D)``."""
        tally = Tally(dtype)
        n_rows = tuple(sum(tally.add(chunk, place) for chunk in chunks) for place, chunks in enumerate(parts))
        tally.merge()
        return cls(
            digests=tally.digests,
            counts=np.minimum(tally.counts, MAX_COUNT).astype(np.int32),
            is_complete=tally.limit == LARGEST_DIGEST,
            n_rows=n_rows,
            n_groups=n_groups,
            dtype=dtype,
        )

    @classmethod
    def from_json(
        cls, stated: Mapping[str, Any], digests: np.ndarray, counts: np.ndarray, dtype: np.dtype[Any]
    ) -> Self:
        """From what a model file has: the other fields as `to_json` gave them, checked, digests and counts as they are.

        Raises
        ------
        ValueError
            If they are of no rows.
        """
        groups = stated["n_groups"]
        is_sorted = bool((digests[1:] > digests[:-1]).all())
        of_parts = counts.sum(axis=0, dtype=np.int64)
        if not is_sorted or counts.min() < 0 or not counts.any(axis=1).all() or (of_parts > stated["n_rows"]).any():
            raise ValueError("its digests of rows do not fit")
        return cls(
            digests=digests,
            counts=counts,
            is_complete=stated["is_complete"],
            n_rows=tuple(stated["n_rows"]),
            n_groups=None if groups is None else tuple(groups),
            dtype=dtype,
        )

    def to_json(self) -> dict[str, Any]:
        """What a model file has beside digests and counts."""
        return {
            "n_rows": list(self.n_rows),
            "n_groups": None if self.n_groups is None else list(self.n_groups),
            "is_complete": self.is_complete,
        }

    @property
    def limit(self) -> int:
        """The largest digest of which anything is known."""
        return LARGEST_DIGEST if self.is_complete else int(self.digests[-1])

    @property
    def chance(self) -> tuple[int, int]:
        """How many calibration rows have a twin among those fitted on, of how many; of those whose digests are kept."""
        has_twin = self.counts[:, :2].any(axis=1)
        of_calibration = self.counts[:, 2].astype(np.int64)
        return int(of_calibration[has_twin].sum()), int(of_calibration.sum())

    def is_more_than_chance(self, n_twins: int, n: int) -> bool:
        """Whether more of ``n`` rows have a twin among those fitted on than new rows would."""
        with_twin, of = self.chance
        share = with_twin / of if of else 0.0
        variance = n * share * (1 - share) * (1 + n / max(1, of))
        return n_twins > n * share + STANDARD_ERRORS * math.sqrt(variance)

    def count_twins(self, rows: np.ndarray) -> tuple[int, int]:
        """How many of rows ``(n, D)`` equal one that the model was fitted on, of how many of which that is known."""
        own = np.concatenate([digests_of(block, self.dtype) for block in blocks(rows)])
        own = own[own <= self.limit]
        place = np.minimum(np.searchsorted(self.digests, own), len(self.digests) - 1)
        is_twin = (self.digests[place] == own) & self.counts[place, :2].any(axis=1)
        return int(is_twin.sum()), len(own)

    def warn_about(self, rows: np.ndarray) -> None:
        """Warn the caller's caller if some of rows ``(n, D)`` are rows that the model was fitted on."""
        overlap = self.overlap([rows])
        if overlap.is_more_than_chance:
            warnings.warn(f"{overlap.in_words('this model')}: what they show is too good", stacklevel=3)

    def overlap(self, chunks: Iterable[np.ndarray]) -> Overlap:
        """Which of some rows the model was fitted on.

        Parameters
        ----------
        chunks
            The rows, as `FittedModel.rows` gives them, ``(n, D)`` each.
        """
        own = np.concatenate([digests_of(block, self.dtype) for chunk in chunks for block in blocks(chunk)])
        order = np.argsort(own, kind="stable")
        ordered = own[order]
        copy = np.arange(len(own)) - np.searchsorted(ordered, ordered)  # 0 for the first of equal rows, 1, ...
        place = np.minimum(np.searchsorted(self.digests, ordered), len(self.digests) - 1)
        ends = np.cumsum(self.counts[place].astype(np.int64), axis=1) * (self.digests[place] == ordered)[:, None]
        parts = np.empty(len(own), dtype=np.int8)
        parts[order] = (copy[:, None] >= ends).sum(axis=1)
        parts[own > self.limit] = UNKNOWN
        is_fitted = (parts >= 0) & (parts < 2)
        more = self.is_more_than_chance(int(is_fitted.sum()), int((parts != UNKNOWN).sum()))
        return Overlap(parts=parts, is_more_than_chance=more, chance=self.chance)


@dataclass(frozen=True, eq=False, kw_only=True)
class Overlap:
    """What is known of N rows that are given to a model.

    Parameters
    ----------
    parts
        Place in `PARTS` of the part that a row belongs to, 3 for a row of no part, -1 where that is not known,
        ``(N,)`` int8.
    is_more_than_chance
        Whether more of them equal rows that the model was fitted on than new rows would.
    chance
        As `FittedRows.chance`.
    """

    parts: np.ndarray
    is_more_than_chance: bool
    chance: tuple[int, int]

    def count(self, place: int) -> int:
        """How many rows belong to a part."""
        return int((self.parts == place).sum())

    @property
    def n_fitted(self) -> int:
        """How many were trained on, or stopped the training."""
        return self.count(0) + self.count(1)

    @property
    def seen(self) -> np.ndarray:
        """Rows that the model was fitted on, or of which that is not known, ``(N,)`` bool; none where it is chance."""
        if not self.is_more_than_chance:
            return np.zeros(len(self.parts), dtype=bool)
        return np.asarray(self.parts < 2)

    def to_dict(self) -> dict[str, int | bool]:
        """Counts, for JSON."""
        counts = {name: self.count(place) for place, name in enumerate(PARTS)}
        return {
            "n_rows": len(self.parts),
            **counts,
            "unknown": self.count(UNKNOWN),
            "more_than_chance": self.is_more_than_chance,
        }

    def in_words(self, model: str) -> str | None:
        """What a user must know, without what is done about it; None if no row equals one that was fitted on."""
        n, of_training, of_validation = len(self.parts), self.count(0), self.count(1)
        if not self.n_fitted:
            return None
        if not self.is_more_than_chance:
            share = self.chance[0] / self.chance[1]
            return (
                f"{self.n_fitted:,} of {n:,} rows equal rows that {model} was fitted on, no more than new rows do "
                f"({share:.1%} of its held-out rows)"
            )
        text = f"{self.n_fitted:,} of {n:,} rows are rows that {model} was fitted on"
        text += f" ({of_training:,} trained it, {of_validation:,} stopped the training)"
        if unknown := self.count(UNKNOWN):
            text += f", and of {unknown:,} more that is not known"
        return text


class Tally:
    """Counts rows by digest and part, a chunk at a time; only the smallest 500,000 digests are kept.

    Parameters
    ----------
    dtype
        Type of the values that are hashed.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype, self.limit = dtype, LARGEST_DIGEST
        self.digests = np.empty(0, dtype=np.uint64)
        self.counts = np.empty((0, len(PARTS)), dtype=np.int64)
        self.pending: list[tuple[int, np.ndarray]] = []

    def add(self, chunk: np.ndarray, place: int) -> int:
        """Count the rows of a part ``(n, D)``; returns how many they are."""
        for block in blocks(chunk):
            found = digests_of(block, self.dtype)
            self.pending.append((place, found[found <= self.limit]))
            if sum(len(part) for _, part in self.pending) > PENDING:
                self.merge()
        return len(chunk)

    def merge(self) -> None:
        """Take up what is pending."""
        for place, found in self.pending:
            digests, rows = np.unique(np.concatenate([self.digests, found]), return_inverse=True)
            counts = np.zeros((len(digests), len(PARTS)), dtype=np.int64)
            counts[rows[: len(self.digests)]] = self.counts
            counts[:, place] += np.bincount(rows[len(self.digests) :], minlength=len(digests))
            self.digests, self.counts = digests[:MAX_DIGESTS], counts[:MAX_DIGESTS]
            if len(digests) > MAX_DIGESTS:
                self.limit = int(self.digests[-1])
        self.pending = []


def count_common(rows: np.ndarray, others: np.ndarray, dtype: np.dtype[Any]) -> int:
    """How many of rows ``(n, D)`` equal one of others ``(m, D)``, as a model of this type takes them."""
    own, theirs = (np.concatenate([digests_of(block, dtype) for block in blocks(part)]) for part in (rows, others))
    return int(np.isin(own, theirs).sum())


def blocks(chunk: np.ndarray) -> Iterator[np.ndarray]:
    """A chunk ``(n, D)`` in pieces of at most a mebi of values, or one row."""
    step = max(1, BLOCK_VALUES // max(1, math.prod(chunk.shape[1:])))
    for start in range(0, len(chunk), step):
        yield chunk[start : start + step]


def digests_of(rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The digest of each row ``(n, D)``, ``(n,)`` uint64."""
    with np.errstate(over="ignore", under="ignore"):  # a value that single precision does not hold
        values = rows.astype(dtype.newbyteorder("<")) + dtype.type(0)  # minus zero becomes zero
    values[np.isnan(values)] = np.nan
    data, width = values.tobytes(), values.itemsize * math.prod(values.shape[1:])
    found = [
        hashlib.blake2b(data[start : start + width], digest_size=8).digest() for start in range(0, len(data), width)
    ]
    return np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)
