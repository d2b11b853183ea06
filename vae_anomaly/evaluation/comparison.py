r"""Whether one score is better than another, tested on the same samples.

The areas under two ROC curves of the same samples are correlated. DeLong's placements (`roc`) estimate the variance of
their difference with that correlation in it, and the difference over its standard error is nearly normal:

.. math:: z = \frac{A_a - A_b}
    {\sqrt{\operatorname{Var}(A_a) + \operatorname{Var}(A_b) - 2 \operatorname{Cov}(A_a, A_b)}}

The bootstrap interval beside it resamples the same rows for both scores.

References
----------
Comparing the areas under two or more correlated ROC curves (DeLong, DeLong & Clarke-Pearson, 1988), doi:10.2307/2531595
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from vae_anomaly.evaluation.bootstrap import OrderedScores, by_label, estimate, n_resamples
from vae_anomaly.evaluation.result import Comparison, Estimate
from vae_anomaly.evaluation.roc import Z, area, covariance_of_means, placements, roc_auc


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
        The difference of the areas with DeLong's paired interval, a paired bootstrap interval, and the two-sided
        p-value of DeLong's test that there is none.

    Raises
    ------
    DataError
        As `roc.roc_auc`.
    """
    a, b = roc_auc(scores_a, labels), roc_auc(scores_b, labels)
    difference = a.value - b.value
    error = error_of_difference(scores_a, scores_b, labels)
    p = float(2 * ndtr(-abs(difference) / error)) if error else float(difference == 0)
    samples = resampled_differences(scores_a, scores_b, labels)
    return Comparison(
        a=a,
        b=b,
        difference=Estimate(difference, difference - Z * error, difference + Z * error),
        difference_bootstrap=estimate(difference, samples),
        p_value=p,
    )


def error_of_difference(scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray) -> float:
    """Standard error of the difference of two areas by DeLong's covariance."""
    below_a, above_a = placements(*by_label(scores_a, labels))
    below_b, above_b = placements(*by_label(scores_b, labels))
    total = covariance_of_means(below_a, below_b) + covariance_of_means(above_a, above_b)
    return math.sqrt(max(0.0, float(total[0, 0] + total[1, 1] - 2 * total[0, 1])))


def resampled_differences(scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray) -> list[float]:
    """Differences of the two areas on stratified resamples."""
    a, b = OrderedScores(scores_a, labels), OrderedScores(scores_b, labels)
    # one seed for both keeps the resampled rows the same: the bootstrap is paired
    rng_a, rng_b = np.random.default_rng(0), np.random.default_rng(0)
    return [
        area(*a.resampled_counts(rng_a)) - area(*b.resampled_counts(rng_b)) for _ in range(n_resamples(len(labels)))
    ]
