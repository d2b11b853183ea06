"""What rules that decide a stream of rows, one after the other, share; `online_fdr` and `adaptive` have such rules.

A rule's decision on a row depends on the rows up to it and on nothing that comes later, so a stream cut into pieces of
any size gets the same decisions to the bit. What a rule knows of the rows that it has seen is its *state*: whole
numbers and finite floats, bounded in number, ready for JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.constraints import is_integer
from vae_anomaly.errors import DataError

MOST_ROWS = 1 << 53  # up to which whole numbers are exact in double precision


class Decisions(NamedTuple):
    """Decisions on rows, in their order.

    Parameters
    ----------
    flagged
        Whether each row is flagged, ``(N,)`` bool: where its p-value is at most its level.
    p_values
        What was compared, ``(N,)`` float64.
    levels
        With what, ``(N,)`` float64.
    """

    flagged: np.ndarray
    p_values: np.ndarray
    levels: np.ndarray


class StreamRule(Protocol):
    """What decides a stream; it can be put aside as its state and made again with it."""

    def update(self, values: ArrayLike) -> Decisions:
        """Decide the next rows by their p-values or scores ``(N,)``."""
        ...

    def to_state(self) -> dict[str, Any]:
        """What it knows of the rows so far, ready for JSON."""
        ...

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on after the rows that a state counts; `DataError` if no rows can have led there."""
        ...


def column_of(values: ArrayLike, what: str) -> np.ndarray:
    """Values as a vector of float64, which may be empty.

    Raises
    ------
    DataError
        If they are no vector of finite numbers.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or not np.isfinite(column).all():
        raise DataError(f"{what}: needs a vector of finite numbers, got shape {column.shape}")
    return column


def share_of(value: float, name: str) -> float:
    """A share that lies between 0 and 1.

    Raises
    ------
    DataError
        If it does not.
    """
    if not 0 < value < 1:
        raise DataError(f"{name} must lie between 0 and 1, got {value:g}")
    return float(value)


def count_in(state: Mapping[str, Any], name: str, most: int = MOST_ROWS) -> int:
    """A count of a state.

    Raises
    ------
    DataError
        If it is missing, or no whole number between 0 and ``most``.
    """
    value: Any = state.get(name)
    if not is_integer(value) or not 0 <= value <= most:
        raise DataError(f"the state's {name} must be a whole number from 0 to {most:,}, got {str(value)[:40]}")
    return int(value)
