r"""Rows that stay together when a data set is divided into parts, and parts that follow each other in time.

Rows of one patient, machine or session are alike. If some are trained on and others set the threshold, those others
look more normal than a row of a new patient does, and the threshold is too low. So whole groups are divided. Then
groups take the place of rows in what is promised: if K groups of one size set the threshold, of which a share
:math:`\alpha` of all rows lies above it, a row of a new group lies above it with probability at most

.. math:: \frac{K \alpha + 1}{K + 1} \le \alpha + \frac{1}{K + 1}.

(Of all K + 1 groups at most a share :math:`(K \alpha + 1) / (K + 1)` of the rows lies above that threshold, and each of
the groups is as likely as any other to be the new one.)

At random, groups are taken in random order for each part as long as they bring the number of its rows nearer to what is
asked for, and at least one. In order of time the parts are cut where two groups meet, as near as possible to the shares
that are asked for: first the rows to train on, then those that stop the training, last those that set the threshold.
Rows of one time are a group.

References
----------
Distribution-free prediction sets for two-layer hierarchical models (Dunn, Wasserman & Ramdas, 2022),
https://arxiv.org/abs/1809.07441
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.errors import DataError

MIN_GROUPS = 3  # one for each part


class Permutations(Protocol):
    """Where a random order comes from: a generator of NumPy's, or torch's as `fitting.batches.TorchRandom` has it."""

    def permutation(self, n: int, /) -> np.ndarray:
        """The numbers below ``n`` in random order, ``(n,)``."""


class Groups:
    """Which rows stay together, and whether parts follow each other in time.

    Parameters
    ----------
    of_rows
        The group of each row ``(N,)`` int64, numbered from 0 without a gap; in order of time, if that counts.
    in_order
        Whether parts follow each other in the order of the groups' numbers.
    are_given
        Whether they are groups that the user named, and not rows of one time.
    """

    def __init__(self, of_rows: np.ndarray, *, in_order: bool, are_given: bool) -> None:
        self.of_rows, self.in_order, self.are_given = of_rows, in_order, are_given
        self.sizes = np.bincount(of_rows)

    @classmethod
    def of(
        cls, n_rows: int, groups: ArrayLike | None, time: ArrayLike | None, *, time_ordered: bool, source: str = "X"
    ) -> Self | None:
        """The groups that a user names; None if rows are divided at random and each alone.

        Parameters
        ----------
        n_rows
            How many rows there are.
        groups
            What names the group of each row ``(N,)``: numbers, text or anything that can be compared for equality.
        time
            When each row was ``(N,)``: numbers or ``datetime64``.
        time_ordered
            Whether the order counts: by ``time``, or without it that of the rows.
        source
            What messages call the rows.

        Raises
        ------
        DataError
            If they are not one value for each row, values are missing, or there are fewer than three different ones.
        """
        if groups is None and time is None and not time_ordered:
            return None
        of_rows = None
        if groups is not None:
            of_rows = places_of(groups, n_rows, "groups", source)
        if time is not None:
            times = places_of(time, n_rows, "time", source, ordered=True)
            of_rows = times if of_rows is None else by_first(of_rows, times)
        if of_rows is None:
            of_rows = np.arange(n_rows)
        found = cls(of_rows, in_order=time_ordered or time is not None, are_given=groups is not None)
        found.check_enough(source)
        return found

    def __len__(self) -> int:
        return len(self.sizes)

    def check_enough(self, source: str) -> None:
        """Raise `DataError` unless each part of a fit's rows can have a group."""
        if len(self) < MIN_GROUPS:
            what = "groups" if self.are_given else "time"
            raise DataError(
                f"{source}: {what} has {len(self)} different value(s) in {len(self.of_rows):,} rows, and a minimum of "
                f"{MIN_GROUPS} is required: one to train on, one to stop the training, one to set the threshold"
            )

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that a division depends on; the groups' names do not count."""
        return hashlib.sha256(f"{self.in_order} ".encode() + self.of_rows.astype("<i8").tobytes()).hexdigest()

    def counts(self, *held_out: np.ndarray) -> tuple[int, ...] | None:
        """How many groups are left, and how many each of these held-out parts has; None if none were given."""
        if not self.are_given:
            return None
        n_groups = [len(np.unique(self.of_rows[rows])) for rows in held_out]
        return len(self) - sum(n_groups), *n_groups

    def take(self, rows: np.ndarray) -> Self:
        """The groups of some rows, by their indices ``(n,)``."""
        _, of_rows = np.unique(self.of_rows[rows], return_inverse=True)
        return type(self)(of_rows, in_order=self.in_order, are_given=self.are_given)

    def held_out(self, sizes: Sequence[int], random: Permutations) -> list[np.ndarray]:
        """Sorted indices of rows to hold out, in parts of whole groups; at least one group is left for the others.

        Parameters
        ----------
        sizes
            About how many rows each part shall have; in order of time the first part is the last in time.
        random
            Where the order of the groups comes from, unless it is that of time.
        """
        parts = self._last(sizes) if self.in_order else self._nearest(sizes, random)
        return [np.flatnonzero(np.isin(self.of_rows, part)) for part in parts]

    def _last(self, sizes: Sequence[int]) -> list[np.ndarray]:
        starts = np.cumsum(self.sizes) - self.sizes
        stop, end, parts = len(self), len(self.of_rows), []
        for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
            start = left + int(np.argmin(np.abs(end - size - starts[left:stop])))
            parts.append(np.arange(start, stop))
            stop, end = start, int(starts[start])
        return parts

    def _nearest(self, sizes: Sequence[int], random: Permutations) -> list[np.ndarray]:
        remaining, parts = random.permutation(len(self)).tolist(), []
        n_rows = self.sizes.tolist()
        for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
            total, part = 0, list[int]()
            for group in remaining:
                if total >= size or len(remaining) - len(part) == left:
                    break
                if abs(total + n_rows[group] - size) < abs(total - size):
                    part.append(group)
                    total += n_rows[group]
            part = part or [min(remaining, key=n_rows.__getitem__)]
            taken = set(part)
            remaining = [group for group in remaining if group not in taken]
            parts.append(np.array(part))
        return parts

    def folds(self, n_folds: int, random: Permutations) -> np.ndarray:
        """The fold of each row ``(N,)`` int, of at most ``n_folds`` of about one size; groups are in one fold each."""
        order = np.arange(len(self)) if self.in_order else random.permutation(len(self))
        middles = np.cumsum(self.sizes[order]) - self.sizes[order] / 2
        fold_of_group = np.empty(len(self), dtype=np.int64)
        fold_of_group[order] = middles * n_folds // len(self.of_rows)
        _, folds = np.unique(fold_of_group[self.of_rows], return_inverse=True)
        return folds


def places_of(values: ArrayLike, n_rows: int, name: str, source: str, *, ordered: bool = False) -> np.ndarray:
    """For each of different values its place, in order of their size or of their first appearance; ``(N,)`` int64.

    Raises
    ------
    DataError
        If they are not one value for each row, some are missing, or cannot be ordered.
    """
    import pandas as pd  # loaded already where groups come from a table

    array: Any = np.asarray(values)
    if ordered and (array.dtype.kind in "US" or any(isinstance(value, str) for value in array.ravel().tolist())):
        raise DataError(f"{source}: {name} must hold numbers or datetime64, got text")
    if array.shape != (n_rows,):
        raise DataError(
            f"{source}: {name} must hold one value for each of the {n_rows:,} rows, got shape {array.shape}"
        )
    try:
        places, _ = pd.factorize(array, sort=ordered)
    except TypeError as error:
        raise DataError(f"{source}: {name} cannot be used: {error}; give numbers, text or datetime64") from error
    if (places < 0).any():
        raise DataError(
            f"{source}: row {int(np.argmax(places < 0))} has no value of {name}: fill it in, or drop the row"
        )
    return np.asarray(places, dtype=np.int64)


def by_first(of_rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The same groups, numbered in order of their first times; of groups that begin at one time as they were."""
    first = np.full(of_rows.max() + 1, len(times))
    np.minimum.at(first, of_rows, times)
    rank = np.empty_like(first)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return np.asarray(rank[of_rows])
