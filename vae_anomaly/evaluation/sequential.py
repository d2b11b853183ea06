r"""How often normals are flagged, by intervals that hold however often one looks.

The exact interval of a count holds for a number of samples fixed beforehand: whoever looks every day will one day see
it exclude the truth. A confidence sequence holds at all sample sizes at once. Let k of the first t normals be flagged,
each with the same probability p. A bettor against p who mixes all rates q by Jeffreys' prior has the fortune

.. math:: M_t(p) = \int \prod_{i=1}^t \frac{q^{x_i} (1-q)^{1-x_i}}{p^{x_i} (1-p)^{1-x_i}} \, dB_{1/2, 1/2}(q)
    = \frac{B(k + \tfrac12,\, t - k + \tfrac12)}{B(\tfrac12, \tfrac12) \; p^k (1-p)^{t-k}},

a martingale where p is the true rate, so by Ville's inequality it ever reaches :math:`1 / \alpha` with probability
:math:`\alpha` at most. The rates at which it is below that now are an interval around k / t, since :math:`\log M_t` is
convex in p. Its ends are found by bisection, outwards to the last bit.

References
----------
Estimating means of bounded random variables by betting (Waudby-Smith & Ramdas, 2024), https://arxiv.org/abs/2010.09686
Statistical methods related to the law of the iterated logarithm (Robbins, 1970), doi:10.1214/aoms/1177696786, for the
mixture
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, xlog1py, xlogy

from vae_anomaly.calibration.intervals import CONFIDENCE
from vae_anomaly.errors import DataError
from vae_anomaly.evaluation.result import Estimate

HALVINGS = 60
JEFFREYS = 0.5


@dataclass(frozen=True)
class SequentialRate:
    """What `sequential_rate` found.

    Parameters
    ----------
    rate
        Share of normals flagged; its interval covers the true one after every sample at once, in at least 95 % of
        streams.
    n_flagged, n
        Counts.
    exceeds_at
        Row at which the interval's lower end first lay above the rate to expect, or None.
    """

    rate: Estimate
    n_flagged: int
    n: int
    exceeds_at: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, ready for JSON."""
        return asdict(self)


def sequential_rate(flagged: np.ndarray, expected: float = 1.0) -> SequentialRate:
    """The false-alarm rate of a stream of normals, to be looked at as often as one likes.

    Parameters
    ----------
    flagged
        Whether each normal is flagged, ``(N,)`` bool, in the order in which they arrived, from the first on.
    expected
        The highest rate to expect, in (0, 1]; the stream is searched for the row that shows that it is higher.

    Raises
    ------
    DataError
        If there are no normals, or the rate does not lie in (0, 1].
    """
    flagged = np.asarray(flagged)
    if flagged.ndim != 1 or not len(flagged) or flagged.dtype != bool:
        raise DataError(
            f"flagged: needs a vector of at least one bool, got shape {flagged.shape} and type {flagged.dtype}"
        )
    if not 0 < expected <= 1:
        raise DataError(f"the rate to expect must lie above 0 and be at most 1, got {expected:g}")
    k, t = flagged.cumsum(), np.arange(1, len(flagged) + 1)
    above = np.flatnonzero((k > t * expected) & (log_evidence(expected, k, t) >= -math.log(1 - CONFIDENCE)))
    low, high = sequential_bounds(k[-1], t[-1])
    return SequentialRate(
        rate=Estimate(float(k[-1] / t[-1]), float(low), float(high)),
        n_flagged=int(k[-1]),
        n=len(flagged),
        exceeds_at=int(above[0]) if len(above) else None,
    )


def sequential_bounds(k: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the intervals for k of n, in their shape, that cover at all n at once."""
    k, n = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    ends = []
    for outermost in (0.0, 1.0):
        outside, inside = np.full(k.shape, outermost), k / n
        for _ in range(HALVINGS):
            middle = (outside + inside) / 2
            is_inside = log_evidence(middle, k, n) < -math.log(1 - CONFIDENCE)
            inside, outside = np.where(is_inside, middle, inside), np.where(is_inside, outside, middle)
        ends.append(outside)
    return ends[0], ends[1]


def log_evidence(p: ArrayLike, k: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Logarithm of the fortune against the rate p, if k of n were flagged."""
    mixture = betaln(k + JEFFREYS, n - k + JEFFREYS) - betaln(JEFFREYS, JEFFREYS)
    result: np.ndarray = mixture - xlogy(k, p) - xlog1py(n - k, -np.asarray(p))
    return result
