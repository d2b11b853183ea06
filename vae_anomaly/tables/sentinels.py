"""Values that look as if they stand for a gap: -9999, 999, and the like."""

from __future__ import annotations

import numpy as np

from vae_anomaly.storage.rows import Rows

MIN_TIMES = 3
FAR = 10.0  # times the distance of the other values' 1 % and 99 % quantiles from each other
MOST_VALUES = 50_000_000  # of the sample that is looked at


def likely_sentinels(rows: Rows) -> dict[int, tuple[float, float]]:
    """For each column that has one, by its place: the value, and the share of the rows that have it.

    It is the smallest or the largest value of the column, comes at least three times, and lies ten times as far from
    the others as most of those from each other. A category has none. About 10,000 rows are looked at, evenly spread.

    Parameters
    ----------
    rows
        Of numbers, or codes of a table, ``(N, D)``.
    """
    sample = rows.even_sample()
    if sample.dtype == np.uint8 or sample.size > MOST_VALUES:
        return {}
    columns = rows.columns.modelled if rows.columns is not None else [None] * sample.shape[1]
    found = {}
    for place, column in enumerate(columns):
        values = sample[:, place].astype(np.float64)  # differences of truth values and large whole numbers
        values = values[~np.isnan(values)]
        if (column is None or column.kind == "number") and (value := extreme_repeated(values)) is not None:
            found[place] = value, float((values == value).sum() / len(sample))
    return found


def extreme_repeated(values: np.ndarray) -> float | None:
    """The smallest or the largest value ``(n,)`` if it is repeated, far from all others."""
    for extreme in (values.min(), values.max()) if len(values) else ():
        others = values[values != extreme]
        if len(values) - len(others) < MIN_TIMES or len(others) <= len(values) // 2:
            continue
        low, high = np.quantile(others, (0.01, 0.99))
        gap = np.abs(others - extreme).min()
        if high > low and gap > FAR * (high - low):
            return float(extreme)
    return None
