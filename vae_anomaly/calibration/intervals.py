r"""Exact intervals for shares, and the one level of confidence that the whole project reports.

*Of k successes in n trials*, Clopper and Pearson's interval holds every rate p at which neither k or more nor k or
fewer successes have a probability below :math:`\alpha/2`. Its ends are quantiles of beta laws:

.. math:: \left[B^{-1}_{k,\,n-k+1}(\alpha/2),\; B^{-1}_{k+1,\,n-k}(1-\alpha/2)\right]

*Above a threshold*: let k of n held-out scores lie above it. If the threshold was chosen without them, k is binomial
and the same interval holds. If it is itself the (k + 1)-th largest of the n, the share of new scores above it follows
Beta(k + 1, n - k) over the draw of the held-out scores, whatever their distribution, as long as no two are equal; with
ties it is at most that, and its lower end is no bound. Clopper and Pearson's lower end is one in all these cases, and
their upper end is that of the beta law. The mean of the law, (k + 1) / (n + 1), is what to expect.

*Of a mean of n dependent or unequal parts*, such as a ROC-AUC, the same law of N successes in expectation, where N is
the number of independent yes-or-no trials whose share would have the variance that the mean has. Neither N nor the
count has to be whole. The interval is not symmetric and never leaves [0, 1], and does not collapse at either end.

*Of a quantile*: of n scores a binomial number lies at or below the level-p quantile, whatever their distribution. So
the quantile lies between two order statistics whose ranks are quantiles of that binomial law. Where n is too small for
a rank, nothing bounds the quantile on that side.

*Above a threshold that these very scores chose*, by whatever rule: the intervals of all n counts hold at once with
probability 95 % if each one's tails are smaller by a factor of :math:`1 + \ln n + \ln^2 n`, which lies 5 to 25 % above
the factor that simulation finds for n from 1 to 5,000. Such a band is narrower in its tails than Dvoretzky, Kiefer and
Wolfowitz's.

The quantiles come from `scipy.special.betaincinv`, for arrays at once. The interval of `scipy.stats.binomtest` differs
by less than 1e-12, but it comes from a root search that takes milliseconds for each count, and a band needs hundreds.

References
----------
The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial (Clopper & Pearson, 1934),
doi:10.1093/biomet/26.4.404
Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data (Korn &
Graubard, 1998), for counts that are not whole
Order Statistics (David & Nagaraja, 2003), doi:10.1002/0471722162, chapter 7
Goodness of fit tests in terms of local levels (Gontscharuk, Landwehr & Finner, 2016), doi:10.1007/s11222-015-9572-y,
for bands of equal local levels
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrik, betaincinv

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
RESAMPLES = 199


def clopper_pearson(k: int, n: int) -> tuple[float, float, float]:
    """Share k/n with the lower and upper end of its exact binomial interval."""
    low, high = clopper_pearson_bounds(k, n)
    return k / n, float(low), float(high)


def clopper_pearson_bounds(k: ArrayLike, n: ArrayLike, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the exact binomial intervals for each count in ``k`` of ``n`` trials, in its shape.

    Neither has to be a whole number: see the module on means of unequal parts.
    """
    k, n = np.asarray(k), np.asarray(n)
    tail = (1 - confidence) / 2
    low = np.where(k > 0, betaincinv(np.where(k > 0, k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.where(k < n, n - k, 1), 1 - tail), 1.0)
    return low, high


def exceedance(above: ArrayLike, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of new scores to expect above a threshold, with its interval, if ``above`` of n held-out scores are.

    The interval covers at least 95 % for a threshold that is one of the n by its rank, or that was chosen without them,
    with ties too. If all n lie above, the upper end is 1: nothing else bounds the share.
    """
    above = np.asarray(above)
    return (above + 1) / (n + 1), *clopper_pearson_bounds(above, n)


def simultaneous_bounds(k: ArrayLike, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on the share above a threshold, k of n scores above it, that hold for all thresholds at once."""
    effective_thresholds = 1 + math.log(n) + math.log(n) ** 2
    return clopper_pearson_bounds(k, n, 1 - (1 - CONFIDENCE) / effective_thresholds)


def quantile_interval(ordered: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """Distribution-free interval of the quantile that a share ``level`` lies at or below, from sorted values ``(n,)``.

    An end is None where so few values leave the quantile unbounded on that side.
    """
    n = len(ordered)
    # the roots are fractions between two counts, and at most 0 where already no success is likelier than the tail
    low, high = (max(0, math.ceil(bdtrik(q, n, level))) for q in (TAIL, 1 - TAIL))
    high += 1
    return (float(ordered[low - 1]) if low else None), (float(ordered[high - 1]) if high <= n else None)


def percentile_interval(samples: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of bootstrap samples ``(R, ...)``: its lower and upper end, each of shape ``(...)``."""
    low, high = np.quantile(np.asarray(samples), [TAIL, 1 - TAIL], axis=0)
    return low, high
