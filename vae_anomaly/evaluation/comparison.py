r"""Whether one score is better than another, tested on the same samples.

The areas under two ROC curves of the same samples are correlated. DeLong's placements (`roc`) estimate the variance of
their difference with that correlation in it, and the difference over its standard error is nearly normal where both
areas rest on enough samples:

.. math:: z = \frac{A_a - A_b}
    {\sqrt{\operatorname{Var}(A_a) + \operatorname{Var}(A_b) - 2 \operatorname{Cov}(A_a, A_b)}}

*Where they do not*, with few anomalies or an area near 0 or 1, a permutation test needs no limit: if the scores are
equally good because each sample's two ranks could as well be exchanged, every exchange of some samples' ranks gives a
difference that was as likely as the one seen. The p-value is the share of exchanges with a difference at least as
large. All are tried where there are few; of many, a random part, with the one seen counted among them, so that p is
exact and never 0. It takes over where fewer than ten of the yes-or-no trials that an area is worth
(`roc.equivalent_trials`) went one way.

*The interval of the difference* is put together from those of both areas, which are skew near 1, and their correlation
:math:`\rho` (the method of variance estimates recovery):

.. math:: A_a - A_b - \sqrt{(A_a - l_a)^2 + (u_b - A_b)^2 - 2 \rho (A_a - l_a)(u_b - A_b)}

and the upper end likewise. As in the areas' own intervals, pseudo-observations keep :math:`\rho` near 0 where few
samples speak for more.

References
----------
Comparing the areas under two or more correlated ROC curves (DeLong, DeLong & Clarke-Pearson, 1988), doi:10.2307/2531595
A permutation test sensitive to differences in areas for comparing ROC curves from a paired design (Bandos, Rockette &
Gur, 2005), doi:10.1002/sim.2149
Construction of confidence limits about effect measures: a general approach (Zou & Donner, 2008), doi:10.1002/sim.3095
Permutation P-values should never be zero (Phipson & Smyth, 2010), doi:10.2202/1544-6115.1585
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr
from scipy.stats import rankdata

from vae_anomaly.evaluation.bootstrap import by_label
from vae_anomaly.evaluation.result import Comparison, Estimate, RocAuc
from vae_anomaly.evaluation.roc import PSEUDO, covariance_of_means, equivalent_trials, placements, roc_auc

ENOUGH = 10  # trials of each outcome for the normal limit
ALL_EXCHANGES = 12  # samples of which all exchanges are tried
EXCHANGES = 9_999
WORK = 200_000_000  # ranks to exchange at most, in sum, which takes seconds


def compare(scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray) -> Comparison:
    """Whether one score is better than another on the same samples.

    Parameters
    ----------
    scores_a, scores_b
        Anomaly scores ``(N,)`` of the same samples.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.

    Returns
    -------
    Comparison
        The difference of the areas with its interval, and the two-sided p-value of a test that there is none: DeLong's,
        or a paired permutation test where its normal limit fails.

    Raises
    ------
    DataError
        As `roc.roc_auc`.
    """
    a, b = roc_auc(scores_a, labels), roc_auc(scores_b, labels)
    of_a, of_b = (placements(*by_label(scores, labels)) for scores in (scores_a, scores_b))
    error = error_of_difference(of_a, of_b)
    if error > 0 and all(has_normal_limit(auc, parts) for auc, parts in ((a, of_a), (b, of_b))):
        test, p = "delong", max(float(2 * ndtr(-abs(a.value - b.value) / error)), float(np.finfo(float).tiny))
    else:
        test, p = "permutation", permutation_p_value(scores_a, scores_b, labels)
    return Comparison(a=a, b=b, difference=difference(a, b, correlation(of_a, of_b)), p_value=p, test=test)


def has_normal_limit(auc: RocAuc, parts: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether an area rests on enough samples that it is ranked right and wrong by, from its placements."""
    return equivalent_trials(*parts) * min(auc.value, 1 - auc.value) >= ENOUGH


def error_of_difference(of_a: tuple[np.ndarray, np.ndarray], of_b: tuple[np.ndarray, np.ndarray]) -> float:
    """Standard error of the difference of two areas by DeLong's covariance, from the placements of both."""
    of_anomalous, of_normal = (covariance_of_means(a, b) for a, b in zip(of_a, of_b, strict=True))
    total = of_anomalous + of_normal
    return math.sqrt(max(0.0, float(total[0, 0] + total[1, 1] - 2 * total[0, 1])))


def correlation(of_a: tuple[np.ndarray, np.ndarray], of_b: tuple[np.ndarray, np.ndarray]) -> float:
    """Correlation of two areas from the placements of both, with pseudo-observations at the corners of the square."""
    corners = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    total = np.zeros((2, 2))
    for parts in zip(of_a, of_b, strict=True):
        values = np.concatenate([np.stack(parts), corners], axis=1)
        weights = np.repeat([1.0, PSEUDO / 2], [len(parts[0]), 4])
        total += np.cov(values, aweights=weights, ddof=0) / len(parts[0])
    return float(total[0, 1] / math.sqrt(total[0, 0] * total[1, 1]))


def difference(a: RocAuc, b: RocAuc, rho: float) -> Estimate:
    """The difference of two areas with the interval that theirs and their correlation give it."""
    value = a.value - b.value
    down, up = (a.value - a.low, b.high - b.value), (a.high - a.value, b.value - b.low)
    low, high = (math.sqrt(max(0.0, x**2 + y**2 - 2 * rho * x * y)) for x, y in (down, up))
    return Estimate(value, max(-1.0, value - low), min(1.0, value + high))


def permutation_p_value(scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray) -> float:
    """Share of the exchanges of samples' ranks with a difference of the areas at least as large as the one seen."""
    ranks = np.stack([rankdata(scores) for scores in (scores_a, scores_b)])
    differing = np.flatnonzero(ranks[0] != ranks[1])
    anomalous = np.asarray(labels) == 1
    codes = np.rint(2 * ranks).astype(np.int64)  # of tied ranks, twice is whole
    seen = abs(difference_of_areas(codes, anomalous))
    as_large = tried = 0
    for chosen in exchanges(len(differing), codes.shape[1]):
        exchanged = codes.copy()
        exchanged[:, differing[chosen]] = codes[::-1, differing[chosen]]
        as_large += abs(difference_of_areas(exchanged, anomalous)) >= seen
        tried += 1
    return as_large / tried


def exchanges(n_differing: int, n: int) -> Iterator[np.ndarray]:
    """Which of the samples whose ranks differ to exchange, ``(n_differing,)`` bool; at first none."""
    if n_differing <= ALL_EXCHANGES:
        yield from (np.array(chosen, dtype=bool) for chosen in itertools.product((0, 1), repeat=n_differing))
        return
    rng = np.random.default_rng(0)
    yield np.zeros(n_differing, dtype=bool)
    for _ in range(max(199, min(EXCHANGES, WORK // n))):
        yield rng.random(n_differing) < 0.5


def difference_of_areas(codes: np.ndarray, anomalous: np.ndarray) -> int:
    """The difference of two areas times twice the number of pairs, from whole ranks ``(2, N)``."""
    areas = []
    for row in codes:
        normal = np.bincount(row[~anomalous], minlength=2 * len(row) + 1)
        below = 2 * np.cumsum(normal) - normal  # twice, so that a tie counts one
        areas.append(int(below[row[anomalous]].sum()))
    return areas[0] - areas[1]
