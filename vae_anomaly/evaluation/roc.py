r"""The ROC curve, the area under it, and how sure one can be of that area.

The area is the probability that an anomaly scores higher than a normal, ties counted half. With m anomalies of scores
:math:`x_i`, n normals of scores :math:`y_j` and :math:`\psi(x, y) = 1, \tfrac12, 0` for x above, equal to, below y:

.. math:: A = \frac{1}{m n} \sum_{i, j} \psi(x_i, y_j)

*DeLong's variance.* The *placements* are, for each sample, the share of the other kind that it is ranked correctly
against,

.. math:: V_i = \frac1n \sum_j \psi(x_i, y_j), \qquad W_j = \frac1m \sum_i \psi(x_i, y_j)

and A is the mean of either. Their sample variances estimate the variance of A,

.. math:: \operatorname{Var}(A) \approx \frac{s^2_V}{m} + \frac{s^2_W}{n}

and for two scores of the same samples the covariances of their placements estimate the covariance of the areas in the
same way, which is what a paired test needs. By ranks all placements take O(N log N) (Sun & Xu): :math:`n V_i` is the
rank of :math:`x_i` among all samples minus its rank among the anomalies.

*The interval.* DeLong's variance is an estimate. It is zero for one anomaly, or where all placements are alike, and the
interval made of it covers 10 % or 70 % where 95 % are meant. The variance is at most A (1 - A) / min(m, n), which it
reaches where each placement is 0 or 1, as with anomalies of which some score far above all normals and some below. So
write it as a share of that,

.. math:: \frac{1}{N} = \frac{r_V}{m} + \frac{r_W}{n} \le \frac{1}{\min(m, n)}, \qquad
    r_V = \frac{s^2_V}{\bar V (1 - \bar V)}

with r_V and r_W estimated from the placements and a quarter of an observation each at 0 and at 1: without evidence of
less, the shares are near one. N is the number of independent yes-or-no trials with the same variance (Mee), and the
interval is Clopper and Pearson's of A N successes in N trials. With one anomaly it is [0.025 A, ...]: nearly nothing is
known, and nothing less is true of all distributions. With hundreds of both it is DeLong's, and a few per cent wider.
Simulation (`docs/promises.md`) finds a coverage of at least 0.93 from one anomaly up, for areas of 0.5 to 0.999 and
nine kinds of distributions. Shorter intervals fail there: Newcombe's fifth covers 0.5 where some anomalies score below
all normals, and Wilson's of N trials 0.86.

References
----------
Comparing the areas under two or more correlated ROC curves (DeLong, DeLong & Clarke-Pearson, 1988), doi:10.2307/2531595
Fast implementation of DeLong's algorithm (Sun & Xu, 2014), doi:10.1109/LSP.2014.2337313
Confidence intervals for probabilities and tolerance regions based on a generalization of the Mann-Whitney statistic
(Mee, 1990), doi:10.1080/01621459.1990.10474942
Confidence intervals for an effect size measure based on the Mann-Whitney statistic (Newcombe, 2006),
doi:10.1002/sim.2324
Analyzing a portion of the ROC curve (McClish, 1989), doi:10.1177/0272989X8900900307
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from vae_anomaly.calibration.intervals import CONFIDENCE, clopper_pearson_bounds
from vae_anomaly.evaluation.bootstrap import by_label
from vae_anomaly.evaluation.result import RocAuc

Z = float(ndtri(0.5 + CONFIDENCE / 2))
PSEUDO = 0.25  # observations added at each end of what a share can be


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> RocAuc:
    """ROC-AUC with its interval: Clopper and Pearson's of as many trials as DeLong's variance is worth.

    Parameters
    ----------
    scores
        Anomaly scores ``(N,)``.
    labels
        1 = anomaly, 0 = normal, ``(N,)``.

    Raises
    ------
    DataError
        If lengths differ, a score is NaN, a label is not 0 or 1, or one of the two is missing.
    """
    anomalous, normal = by_label(scores, labels)
    below, above = placements(anomalous, normal)
    auc = float(np.clip(below.mean(), 0, 1))
    low, high = interval_of_mean(auc, below, above)
    return RocAuc(auc, low, high, len(normal), len(anomalous))


def interval_of_mean(value: float, of_anomalous: np.ndarray, of_normal: np.ndarray) -> tuple[float, float]:
    """Interval of a figure in [0, 1] from what each anomaly ``(m,)`` and each normal ``(n,)`` contributes to it.

    The contributions have the figure as their mean, and their variances over m and n add up to its variance.
    """
    trials = equivalent_trials(of_anomalous, of_normal)
    low, high = clopper_pearson_bounds(min(value * trials, trials), trials)
    return min(value, float(low)), max(value, float(high))


def equivalent_trials(of_anomalous: np.ndarray, of_normal: np.ndarray) -> float:
    """Number of independent yes-or-no trials whose share varies as much as the mean of the contributions."""
    m, n = len(of_anomalous), len(of_normal)
    variance = share_of_largest_variance(of_anomalous) / m + share_of_largest_variance(of_normal) / n
    return 1 / min(variance, 1 / min(m, n))


def share_of_largest_variance(values: np.ndarray) -> float:
    """Variance over that of a yes-or-no variable with the same mean, pulled towards 1 by pseudo-observations."""
    weight = len(values) + 2 * PSEUDO
    mean = (values.sum() + PSEUDO) / weight
    second = (np.square(values - mean).sum() + PSEUDO * (mean**2 + (1 - mean) ** 2)) / weight
    return float(second / (mean * (1 - mean)))


def placements(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of normals below each anomaly ``(m,)``, share of anomalies above each normal ``(n,)``; ties count half."""
    m, n = len(anomalous), len(normal)
    ranks = rankdata(np.concatenate([anomalous, normal]))
    return (ranks[:m] - rankdata(anomalous)) / n, 1 - (ranks[m:] - rankdata(normal)) / m


def covariance_of_means(*samples: np.ndarray) -> np.ndarray:
    """Covariance ``(k, k)`` of the means of k paired samples ``(n,)``; zero where there is but one observation."""
    k, n = len(samples), len(samples[0])
    return np.cov(np.stack(samples)).reshape(k, k) / n if n > 1 else np.zeros((k, k))


def area(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """ROC-AUC from counts at each distinct score, from the highest down."""
    below = normal.sum() - np.cumsum(normal) + 0.5 * normal
    return float(anomalous @ below / (anomalous.sum() * normal.sum()))


def rates(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False-alarm and detection rates of the curve from counts at each distinct score, from the highest down."""
    fpr = np.concatenate([[0], np.cumsum(normal) / normal.sum()])
    tpr = np.concatenate([[0], np.cumsum(anomalous) / anomalous.sum()])
    return fpr, tpr


def fpr_at_tpr(fpr: np.ndarray, tpr: np.ndarray, at: float = 0.95) -> float:
    """Smallest false-alarm rate on the curve that finds this share of the anomalies."""
    return float(fpr[np.argmax(tpr >= at - 1e-12)])


def tpr_at_fpr(fpr: np.ndarray, tpr: np.ndarray, at: float = 0.01) -> float:
    """Largest detection rate on the curve with at most this share of false alarms."""
    return float(tpr[fpr <= at + 1e-12].max())


def partial_area(fpr: np.ndarray, tpr: np.ndarray, up_to: float = 0.1) -> float:
    """Area under the curve's first part, standardised to 0.5 for chance and 1 for the best (McClish)."""
    inside = fpr <= up_to
    x = np.append(fpr[inside], up_to)
    y = np.append(tpr[inside], np.interp(up_to, fpr, tpr))
    smallest = up_to**2 / 2
    return float(0.5 * (1 + (np.trapezoid(y, x) - smallest) / (up_to - smallest)))
