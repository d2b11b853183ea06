"""From raw training rows to the scaling that becomes part of the model."""

from __future__ import annotations

import numpy as np
import torch

from vae_anomaly.columns import Columns
from vae_anomaly.errors import DataError
from vae_anomaly.fitting.tails import NO_TAILS, heavy_columns, location_and_scale, tails
from vae_anomaly.model.scaling import Scaling, TailScaling, filled
from vae_anomaly.model.table_scaling import TableScaling
from vae_anomaly.registry import PREPROCESSING
from vae_anomaly.storage.rows import Rows

MIN_LEVEL_ROWS = 2


@PREPROCESSING.register("standardize")
def standardize(X: Rows) -> Scaling:
    """Zero mean and unit variance for each feature; a constant feature is only centred (scikit-learn's rule).

    So a value that differs from a constant by d counts as d standard deviations, not as d / 1e-8.
    """
    if X.columns is not None:
        return table_scaling(X, X.columns, draws_in=False)
    from sklearn.preprocessing import StandardScaler  # a second, which scoring does without

    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler()
        for rows in X.chunks():
            scaler.partial_fit(rows)
    return scaling(scaler.mean_, scaler.scale_)


@PREPROCESSING.register("by_column")
def by_column(X: Rows) -> Scaling:
    """As "standardize", and the tails of columns that need it are drawn in by a logarithm first.

    Which columns those are is decided from an even sample of about 10,000 rows (`vae_anomaly.fitting.tails`).
    """
    if X.columns is not None:
        return table_scaling(X, X.columns, draws_in=True)
    if X.dtype == np.uint8:
        return standardize(X)
    sample = X.even_sample().astype(np.float64)
    heavy = heavy_columns(sample)
    if not len(heavy):
        return standardize(X)
    ends = np.tile(NO_TAILS, (X.shape[1], 1))
    for place in heavy:
        ends[place] = tails(sample[:, place])
    if (ends == NO_TAILS).all():
        return standardize(X)
    plain = standardize(X)
    loc, scale = plain.loc.numpy().copy(), plain.scale.numpy().copy()
    for place in np.flatnonzero((ends != NO_TAILS).any(axis=1)):
        loc[place], scale[place] = location_and_scale(sample[:, place], ends[place])
    return tail_scaling(loc, scale, ends)


def table_scaling(X: Rows, columns: Columns, *, draws_in: bool) -> TableScaling:
    """The scaling of a table's codes ``(N, C)``, from an even sample of about 10,000 rows; gaps are left out.

    A level has a unit of its own if at least two of the rows have it.
    """
    sample = X.even_sample().astype(np.float64)
    counts = level_counts(X, columns)
    places = [place for place in columns.by_name if not columns.modelled[place].is_category]
    loc, scale = np.zeros(max(1, len(places))), np.ones(max(1, len(places)))
    ends = np.tile(NO_TAILS, (len(loc), 1))
    for i, place in enumerate(places):
        values = sample[:, place]
        values = values[~np.isnan(values)]
        if draws_in and columns.modelled[place].kind == "number":
            ends[i] = tails(values)
        if len(values):
            loc[i], scale[i] = location_and_scale(values, ends[i])
    units = [np.zeros(1)] if not counts else []
    for place, _ in columns.groups:
        if place in counts:
            own = counts[place] >= MIN_LEVEL_ROWS
            units.append(np.where(own, np.cumsum(own) - 1, len(own)))
    level_units = torch.tensor(np.concatenate(units), dtype=torch.float64)
    return TableScaling(columns, tail_scaling(loc, scale, ends), level_units)


def level_counts(X: Rows, columns: Columns) -> dict[int, np.ndarray]:
    """How many rows have each level, by the place of the category."""
    counts = {place: np.zeros(len(columns.modelled[place].levels), np.int64) for place, _ in columns.groups}
    counts = {place: count for place, count in counts.items() if len(count)}
    for rows in X.chunks():
        for place, count in counts.items():
            codes = rows[:, place]
            codes = codes[codes < len(count)].astype(np.int64)  # neither a gap nor another level
            count += np.bincount(codes, minlength=len(count))
    return counts


def tail_scaling(loc: np.ndarray, scale: np.ndarray, ends: np.ndarray) -> TailScaling:
    """The scaling with these moments ``(D,)`` and maps ``(D, 4)``, checked as `scaling` does."""
    plain = scaling(loc, scale)
    low, high, low_scale, high_scale = (torch.tensor(values) for values in np.ascontiguousarray(ends.T))
    return TailScaling(plain.loc, plain.scale, low, high, low_scale, high_scale)


@PREPROCESSING.register("unit_range")
def unit_range(X: Rows) -> Scaling:
    """One range for all features onto [0, 1].

    It is [0, 255] for 8-bit data, [0, 1] for data that lies inside it, and otherwise the data's own.
    """
    if X.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        ends = X.extremes()
        low, high = float(ends[0].min()), float(ends[1].max())
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
    return scaling(low, high - low)


@PREPROCESSING.register("standardize_globally")
def standardize_globally(X: Rows) -> Scaling:
    """One shift and one scale for all features: zero mean, and a root mean square deviation of 1/4.

    The deviation is that of each feature from its own mean. So neither brightness nor contrast of a set of images
    matters, and a pixel that is the same in all images does not count. Images in [0, 1] have about 1/4. Both numbers
    come from an even sample of about 10,000 rows.
    """
    x = X.even_sample().astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return scaling(x.mean(), 4 * np.sqrt(x.var(axis=0).mean()))


@PREPROCESSING.register("none")
def identity(X: Rows) -> Scaling:
    """Leave values as they are."""
    return scaling(0.0, 1.0)


def scaling(loc: np.ndarray | float, scale: np.ndarray | float) -> Scaling:
    """A `Scaling` that single precision can hold: a spread too small for it counts as none.

    Raises
    ------
    DataError
        If the values are so large that their mean or their spread is not finite.
    """
    if not (np.isfinite(loc).all() and np.isfinite(scale).all()):
        raise DataError("the values are too large to take their mean and spread: divide the data by a constant")
    scale = np.where(np.asarray(scale) < np.finfo(np.float32).tiny, 1.0, scale)
    return Scaling(torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


def rms_deviation(scaling: Scaling, X: Rows) -> float:
    """Root mean square deviation of scaled rows from their mean, over about 10,000 of them: one number."""
    x = scaling(torch.from_numpy(np.array(X.even_sample())).to(scaling.loc))
    return float(filled(x.double()).var(dim=0, correction=0).mean().sqrt())
