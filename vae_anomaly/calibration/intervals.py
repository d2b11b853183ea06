r"""Exact intervals for shares, and the one level of confidence that the whole project reports.

*Of k successes in n trials*, Clopper and Pearson's interval holds every rate p at which neither k or more nor k or
fewer successes have a probability below :math:`\alpha/2`. Its ends are quantiles of beta laws:

.. math:: \left[B^{-1}_{k,\,n-k+1}(\alpha/2),\; B^{-1}_{k+1,\,n-k}(1-\alpha/2)\right]

*Above a held-out score*: let k of n held-out scores lie above a threshold that is itself one of the n. The share of new
scores above it then follows Beta(k + 1, n - k) over the draw of the held-out scores (at most, with ties), whatever the
distribution of the scores; its mean is (k + 1) / (n + 1).

The quantiles come from `scipy.special.betaincinv`, for arrays at once. The interval of `scipy.stats.binomtest` differs
by less than 1e-12, but it comes from a root search that takes milliseconds for each count, and a band needs hundreds.

References
----------
The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial (Clopper & Pearson, 1934),
doi:10.1093/biomet/26.4.404
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
RESAMPLES = 199


def clopper_pearson(k: int, n: int) -> tuple[float, float, float]:
    """Share k/n with the lower and upper end of its exact binomial interval."""
    low, high = clopper_pearson_bounds(k, n)
    return k / n, float(low), float(high)


def clopper_pearson_bounds(k: ArrayLike, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the exact binomial intervals for each count in ``k`` of ``n`` trials, in its shape."""
    k = np.asarray(k)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, TAIL), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - TAIL), 1.0)
    return low, high


def exceedance(above: ArrayLike, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of new scores to expect above one of n held-out scores, of which ``above`` lie above it, with its interval.

    If all n lie above, the upper end is 1: nothing else bounds the share.
    """
    above = np.asarray(above)
    low, high = (np.where(above < n, betaincinv(above + 1, np.maximum(n - above, 1), q), 1.0) for q in (TAIL, 1 - TAIL))
    return (above + 1) / (n + 1), low, high


def percentile_interval(samples: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of bootstrap samples ``(R, ...)``: its lower and upper end, each of shape ``(...)``."""
    low, high = np.quantile(np.asarray(samples), [TAIL, 1 - TAIL], axis=0)
    return low, high
