r"""Which columns have their tails drawn in, by a rule that looks at normal rows alone.

A column's values are compared with a normal distribution, as they are and after each of three maps of
`vae_anomaly.model.scaling.TailScaling`: a logarithm for values of one sign, a logarithm from zero on for values that
touch zero, and a map that is linear within three robust standard deviations of the median and logarithmic beyond. The
one of the highest mean log-density,

.. math::

    \mathrm{mean} \, \log N(f(x); \mu, \sigma^2) + \mathrm{mean} \, \log f'(x),

is taken if it gains enough over no map: 0.7 nats a value for a logarithm of values above zero, which a log-normal
column does from a sigma of about one on, and two nats for the others.
Drawing in a column that does not need it costs more than it gains: what is far from all normals then looks closer.
"""

from __future__ import annotations

import numpy as np
import torch

from vae_anomaly.model.scaling import TailScaling

LEAST_GAIN, LEAST_GAIN_ABOVE_ZERO = 2.0, 0.7  # nats
LINEAR_WITHIN = 3.0  # robust standard deviations
BELOW_SMALLEST = 1e-3  # of the smallest positive value: where a logarithm begins
BEYOND = 3e38  # more than any value in single precision
MIN_ROWS = 20
SAMPLE_ROWS = 10_000
NO_TAILS = np.array([-BEYOND, BEYOND, 1.0, 1.0])
HEAVY = 1.5  # times the spread that a normal distribution with this bulk has; those gains take more
NORMAL_IQR = 1.3489795003921634  # of a standard normal


@np.errstate(over="ignore", invalid="ignore")  # values whose spread overflows are refused by their scaling
def tails(values: np.ndarray) -> np.ndarray:
    """The map of one column: low and high end, and the scales beyond them, ``(4,)`` float64.

    Parameters
    ----------
    values
        Finite values ``(n,)`` float64, gaps left out.
    """
    if len(values) < MIN_ROWS or values.min() == values.max():
        return NO_TAILS
    maps = [NO_TAILS, *candidates(values)]
    densities = [log_density(values, ends) for ends in maps]
    best = int(np.argmax(densities))
    is_above_zero = maps[best][0] == -BEYOND and values.min() > 0
    least = LEAST_GAIN_ABOVE_ZERO if is_above_zero else LEAST_GAIN
    return maps[best] if densities[best] >= densities[0] + least else NO_TAILS


@np.errstate(over="ignore", invalid="ignore")
def heavy_columns(X: np.ndarray) -> np.ndarray:
    """Places of columns that may need it, by a quick look at rows ``(n, D)``: those of a spread beyond their bulk's."""
    if len(X) < MIN_ROWS:
        return np.empty(0, dtype=np.int64)
    some = X[:: max(1, len(X) // 1_000)]
    low, high = np.quantile(some, (0.25, 0.75), axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.flatnonzero(~(X.std(axis=0) <= HEAVY * (high - low) / NORMAL_IQR))


def candidates(values: np.ndarray) -> list[np.ndarray]:
    """Maps worth trying, each ``(4,)``."""
    found = []
    positive = values[values > 0]
    if values.min() > 0:
        start = BELOW_SMALLEST * values.min()
        found.append(np.array([-BEYOND, start, 1.0, start]))
    elif values.min() == 0 and len(positive):
        found.append(np.array([-BEYOND, 0.0, 1.0, float(np.quantile(positive, 0.25))]))
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    scale = (high - low) / NORMAL_IQR
    found.append(np.array([median - LINEAR_WITHIN * scale, median + LINEAR_WITHIN * scale, scale, scale]))
    return [ends for ends in found if (ends[2:] > np.finfo(np.float32).tiny).all()]


def log_density(values: np.ndarray, ends: np.ndarray) -> float:
    """Mean log-density of values under the normal distribution that suits them once they are drawn in."""
    low, high, low_scale, high_scale = ends
    slope = -np.log1p(np.clip(values - high, 0, None) / high_scale) - np.log1p(
        np.clip(low - values, 0, None) / low_scale
    )
    with np.errstate(over="ignore"):
        spread = min(drawn_in(values, ends).std(), np.finfo(np.float64).max)
    return float(slope.mean() - np.log(max(spread, np.finfo(np.float64).tiny)))


def drawn_in(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """What the map makes of values ``(n,)``."""
    low, high, low_scale, high_scale = map(torch.tensor, ends)
    one = torch.ones(())
    return TailScaling(0 * one, one, low, high, low_scale, high_scale).drawn_in(torch.from_numpy(values)).numpy()


def location_and_scale(values: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """Centre and spread of a column's drawn-in values: robust ones where both tails are drawn in, else the moments."""
    mapped = drawn_in(values, ends)
    if ends[0] > -BEYOND:
        low, median, high = np.quantile(mapped, (0.25, 0.5, 0.75))
        return float(median), float((high - low) / NORMAL_IQR or mapped.std() or 1.0)
    return float(mapped.mean()), float(mapped.std() or 1.0)
